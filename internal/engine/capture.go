package engine

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/portholehq/porthole/internal/pcap/capture"
)

// CaptureOptions say which packets are wanted.
type CaptureOptions struct {
	Interface string // empty: all
	Filter    string // see package filter; hosts may be containers
	SnapLen   int    // bytes of a packet; 0: all
	Count     int    // packets; 0: no end
	Duration  time.Duration
}

// ContainerCapture writes packets of a running container, or of the host, to what open returns, until ctx ends, what was
// wanted is there, or the container has ended. open is called once nothing can be wrong any more; its context ends with the
// capture.
func (e *Engine) ContainerCapture(ctx context.Context, ref string, o CaptureOptions, open func(context.Context) io.Writer) error {
	spec := capture.Spec{Interface: o.Interface, Filter: o.Filter, SnapLen: o.SnapLen, Count: o.Count, Resolve: e.addressesOf}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if ref != checkHost {
		v, err := e.runningView(ref)
		if err != nil {
			return err
		}
		ns, err := v.task.NetNS()
		if err != nil {
			return err
		}
		defer ns.Close()
		spec.NetNS = ns
		go func() {
			select {
			case <-v.task.Done():
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	c, err := e.deps.Network.Capture(spec)
	if err != nil {
		return err
	}
	if o.Duration > 0 {
		timer := time.AfterFunc(o.Duration, cancel)
		defer timer.Stop()
	}
	return c.Run(ctx, open(ctx))
}

// addressesOf are the addresses of a container that runs; none if there is no such container.
func (e *Engine) addressesOf(name string) (list []netip.Addr) {
	v, err := e.viewOf(name)
	if err != nil {
		return nil
	}
	for _, ep := range e.deps.Network.Endpoints(networkOwner(v)) {
		for _, p := range []netip.Prefix{ep.IPv4, ep.IPv6} {
			if p.IsValid() {
				list = append(list, p.Addr())
			}
		}
	}
	return list
}

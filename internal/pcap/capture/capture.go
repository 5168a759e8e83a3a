// Package capture takes packets of interfaces and writes them as a file.
//
// [Open] begins: from its return on no packet is missed, unless nobody reads in
// time, which is counted. [Capture.Run] writes what comes until it is told to end.
package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/packet"
	"github.com/portholehq/porthole/internal/pcap"
	"github.com/portholehq/porthole/internal/pcap/filter"
	"github.com/portholehq/porthole/internal/problem"
)

// Spec says which packets are wanted.
type Spec struct {
	NetNS     *os.File // nil: that of the calling thread
	Interface string   // empty: all
	Filter    string   // in the language of package filter; empty: everything passes
	Resolve   filter.Resolver
	SnapLen   int // how much of a packet is kept; 0: all
	Count     int // how many packets; 0: no end
}

// Capture is a capture that has begun.
type Capture struct {
	socket *packet.Socket
	snap   int
	count  int
	known  map[source]int
	out    *pcap.Writer
}

// source is an interface with how its packets begin.
type source struct {
	index int
	link  packet.LinkType
}

// Open begins to take packets. The caller has to call [Capture.Run] or
// [Capture.Close].
//
// Errors: InvalidArgument for a filter that is none, NotFound for an interface
// that is not there.
func Open(spec Spec) (*Capture, error) {
	program, err := filter.Compile(spec.Filter, spec.Resolve)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	if spec.SnapLen <= 0 || spec.SnapLen > packet.MaxSnapLen {
		spec.SnapLen = packet.DefaultSnapLen
	}
	s, err := packet.Open(packet.Options{NetNS: spec.NetNS, Interface: spec.Interface, Filter: program, SnapLen: spec.SnapLen})
	if errors.Is(err, unix.ENODEV) {
		return nil, problem.WithHint(errdefs.ErrNotFound.WithMessage(fmt.Sprintf("there is no interface %q", spec.Interface)),
			"without an interface all of them are taken")
	}
	if err != nil {
		return nil, err
	}
	return &Capture{socket: s, snap: spec.SnapLen, count: spec.Count, known: map[source]int{}}, nil
}

// Close ends a capture that is not run.
func (c *Capture) Close() error { return c.socket.Close() }

// Run writes packets to w, in the form of package pcap, until ctx ends, the wanted
// number was reached, or w fails. How many packets were lost stands at the end:
// while w waits, the kernel keeps 4 MiB of them and drops the rest.
func (c *Capture) Run(ctx context.Context, w io.Writer) (err error) {
	defer func() { err = errors.Join(err, c.socket.Close()) }()
	c.out = pcap.NewWriter(w, "Porthole")
	stop := context.AfterFunc(ctx, func() { _ = c.socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	n := 0
	for n < c.count || c.count == 0 {
		p, err := c.socket.Read()
		if errors.Is(err, unix.ENETDOWN) { // an interface went down; others have more
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = c.rest(n, time.Now())
			if err == nil {
				break
			}
		}
		if err == nil {
			err = c.write(p)
		}
		if err != nil {
			return fmt.Errorf("capture packets: %w", err)
		}
		n++
	}
	return c.finish()
}

// rest writes what had come in when the end was asked for.
func (c *Capture) rest(n int, end time.Time) error {
	for n < c.count || c.count == 0 {
		p, err := c.socket.Waiting()
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ENETDOWN):
			continue
		case err != nil:
			return err
		case p.Time.After(end):
			return nil
		}
		if err := c.write(p); err != nil {
			return err
		}
		n++
	}
	return nil
}

func (c *Capture) write(p packet.Packet) error {
	key := source{p.Interface, p.LinkType}
	id, known := c.known[key]
	if !known {
		var err error
		id, err = c.out.Interface(pcap.Interface{Name: c.socket.Name(p.Interface), LinkType: uint16(p.LinkType), SnapLen: uint32(c.snap)})
		if err != nil {
			return err
		}
		c.known[key] = id
	}
	return c.out.Packet(pcap.Packet{Time: p.Time, Interface: id, Outgoing: p.Outgoing, Length: p.Length, Data: p.Data})
}

// finish writes what became of the packets. A file without any has an interface
// for that.
func (c *Capture) finish() error {
	stats, err := c.socket.Stats()
	if err != nil {
		return fmt.Errorf("capture packets: %w", err)
	}
	if len(c.known) == 0 {
		if _, err := c.out.Interface(pcap.Interface{Name: "any", LinkType: uint16(packet.Ethernet), SnapLen: uint32(c.snap)}); err != nil {
			return err
		}
	}
	return c.out.Statistics(time.Now(), pcap.Statistics{Received: stats.Received, Dropped: stats.Dropped})
}

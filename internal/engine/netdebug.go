package engine

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/network"
	netkeeper "github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/problem"
)

// runningView is a container that runs, or an error that says that it does not.
func (e *Engine) runningView(ref string) (*view, error) {
	v, err := e.viewOf(ref)
	if err != nil {
		return nil, err
	}
	if v.pid() == 0 {
		return nil, errNoTask(v)
	}
	return v, nil
}

// toForward is a container that runs, after its adoption, for a change to what is forwarded to it.
func (e *Engine) toForward(ctx context.Context, ref string) (*view, func(), error) {
	c, done, err := e.operate(ctx, "forward", ref)
	if err != nil {
		return nil, nil, err
	}
	v := c.view()
	if v.pid() == 0 {
		done()
		return nil, nil, errNoTask(v)
	}
	return v, done, nil
}

// ContainerForward opens a port of the host that leads to a running container, also to a server that listens on the
// container's loopback address only. It stays open until it is closed or the container ends.
func (e *Engine) ContainerForward(ctx context.Context, ref string, p network.PortSpec) ([]network.Published, error) {
	v, done, err := e.toForward(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer done()
	if !p.Container.IsValid() || p.Container.Num() == 0 {
		return nil, invalid("invalid port specification: %q", p.Container.String())
	}
	all, err := e.deps.Network.Forward(ctx, e.sandboxSpec(v, v.task, v.endpoints), p)
	if err != nil {
		return nil, err
	}
	opened := all[len(all)-1]
	e.emit(ctx, v, events.Action("forward open"), map[string]string{"hostPort": strconv.Itoa(int(opened.HostPort)), "port": opened.Container.String()})
	return all, nil
}

// ContainerUnforward closes a port that ContainerForward has opened.
func (e *Engine) ContainerUnforward(ctx context.Context, ref string, hostPort uint16) error {
	v, done, err := e.toForward(ctx, ref)
	if err != nil {
		return err
	}
	defer done()
	if err := e.deps.Network.Unforward(ctx, e.sandboxSpec(v, v.task, v.endpoints), hostPort); err != nil {
		return err
	}
	e.emit(ctx, v, events.Action("forward close"), map[string]string{"hostPort": strconv.Itoa(int(hostPort))})
	return nil
}

// ContainerForwards are the ports that ContainerForward has opened.
func (e *Engine) ContainerForwards(ref string) ([]network.Published, error) {
	v, err := e.viewOf(ref)
	if err != nil {
		return nil, err
	}
	return e.deps.Network.Forwards(v.ID), nil
}

// ContainerQueries are the questions for names that a container has asked.
func (e *Engine) ContainerQueries(ctx context.Context, ref string) (netkeeper.Queries, error) {
	v, err := e.runningView(ref)
	if err != nil {
		return netkeeper.Queries{}, err
	}
	q, err := e.deps.Network.Queries(ctx, v.ID)
	if errdefs.IsNotFound(err) {
		err = problem.WithHint(err, fmt.Sprintf("see whom it asks with: porthole debug %s -- cat /etc/resolv.conf; and what with: porthole net dump %s port 53", v.Name, v.Name))
	}
	return q, err
}

// checkHost is how NetworkCheck is told to begin at the host.
const checkHost = "host"

// NetworkCheck walks the way from a container, or from the host, to HOST:PORT, where HOST is a container, a name or an
// address, and tells hop by hop how far it gets.
func (e *Engine) NetworkCheck(ctx context.Context, from, target string) ([]network.Hop, error) {
	host, port, err := splitTarget(target)
	if err != nil {
		return nil, err
	}
	spec := network.CheckSpec{Name: host, Port: port}
	if from != checkHost {
		v, err := e.runningView(from)
		if err != nil {
			return nil, err
		}
		ns, err := v.task.NetNS()
		if err != nil {
			return nil, err
		}
		defer ns.Close()
		files := e.files(v)
		spec.From = &network.CheckEnd{ID: networkOwner(v), Name: v.Name, NetNS: ns, IsHost: v.HostConfig.NetworkMode.IsHost()}
		spec.Resolver, spec.Hosts = files.ResolvConf, files.Hosts
	}
	if other, err := e.viewOf(host); err == nil && host != "localhost" {
		spec.To = &network.CheckEnd{ID: networkOwner(other), Name: other.Name, State: string(other.shownStatus()), IsHost: other.HostConfig.NetworkMode.IsHost()}
		if other.pid() > 0 {
			ns, err := other.task.NetNS()
			if err != nil {
				return nil, err
			}
			defer ns.Close()
			spec.To.NetNS = ns
		}
	}
	spec.Container = e.checkEnd
	return e.deps.Network.Check(ctx, spec), nil
}

// checkEnd opens a container that the walk has come to. The caller closes its namespace.
func (e *Engine) checkEnd(id string) *network.CheckEnd {
	v, err := e.viewOf(id)
	if err != nil || v.pid() == 0 {
		return nil
	}
	ns, err := v.task.NetNS()
	if err != nil {
		return nil
	}
	return &network.CheckEnd{ID: id, Name: v.Name, NetNS: ns}
}

// networkOwner is the container whose network a container has: its own or that of another.
func networkOwner(v *view) string {
	if v.ResolvedNet != "" {
		return string(v.ResolvedNet)
	}
	return v.ID
}

func splitTarget(target string) (host string, port uint16, err error) {
	i := strings.LastIndexByte(target, ':')
	if i < 1 {
		return "", 0, invalid("invalid target %q: it is not of the form HOST:PORT", target)
	}
	p, err := mobynet.ParsePort(target[i+1:])
	if err != nil || p.Num() == 0 || p.Proto() != mobynet.TCP {
		return "", 0, invalid("invalid port in target %q", target)
	}
	host = strings.TrimSuffix(strings.TrimPrefix(target[:i], "["), "]")
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.String()
	}
	return host, p.Num(), nil
}

// ContainerReach tells who can reach the ports of a running container; port 0: all of them.
func (e *Engine) ContainerReach(ref string, port uint16) (list []network.ReachPort, paused bool, err error) {
	v, err := e.runningView(ref)
	if err != nil {
		return nil, false, err
	}
	ns, err := v.task.NetNS()
	if err != nil {
		return nil, false, err
	}
	defer ns.Close()
	spec := network.ReachSpec{ID: networkOwner(v), NetNS: ns, HostNet: v.HostConfig.NetworkMode.IsHost(), Port: port}
	if spec.Pids, err = v.task.Pids(); err != nil {
		return nil, false, err
	}
	list, err = e.deps.Network.Reach(spec)
	return list, v.status() == container.StatePaused, err
}

package look

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/linux/sockdiag"
)

// Sockets tells what sockets the processes of a container have open; all adds those
// of others in its network namespace. They are read by sock_diag(7), whose answer
// needs no process of the container.
func Sockets(ctx context.Context, src Source, ref string, all bool) (*api.Sockets, error) {
	s, err := running(src, ref)
	if err != nil {
		return nil, err
	}
	list, unknown, err := dump(s.Pid)
	if errors.Is(err, fs.ErrNotExist) { // it has ended, and its shim has not told yet
		return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is not running", s.Name))
	}
	if err != nil {
		return nil, fmt.Errorf("sockets of container %s: %w", s.Name, err)
	}
	fds, more := descriptors(s.Pids)
	out := &api.Sockets{Sockets: []api.Socket{}, Shared: shared(src, s), Unknown: slices.Concat(unknown, more)}
	holders := map[uint32][]api.Holder{}
	for _, d := range fds {
		if n, ok := d.inode("socket"); ok {
			holders[uint32(n)] = append(holders[uint32(n)], d.Holder)
		}
	}
	names := src.Addresses()
	for _, k := range list {
		k.Holders = holders[k.Inode]
		// What the kernel is still closing is the container's where nobody else is.
		if len(k.Holders) == 0 && !all && (k.Inode != 0 || out.Shared != "") {
			out.Others++
			continue
		}
		if k.Holders == nil {
			k.Holders = []api.Holder{}
		}
		k.PeerHolders = holders[k.peer]
		k.Peer = names[k.remote]
		out.Sockets = append(out.Sockets, k.Socket)
	}
	return out, ctx.Err()
}

// shared tells whose network namespace a container is in; empty: its own.
func shared(src Source, s engine.Subject) string {
	mode := s.HostConfig.NetworkMode
	switch {
	case mode.IsHost():
		return "host"
	case mode.IsContainer():
		if other, err := src.Subject(mode.ConnectedContainer()); err == nil {
			return "container:" + other.Name
		}
		return string(mode)
	}
	return ""
}

// socket is a socket with what joins it to others.
type socket struct {
	api.Socket
	peer   uint32 // inode of the other end of a unix socket; 0: none, or not known
	remote netip.Addr
}

// dump lists all sockets in the network namespace of a process. What the kernel has
// no sock_diag for is said in unknown.
func dump(pid int) (list []socket, unknown []string, err error) {
	f, err := ns.Open(pid, ns.Net)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	for _, kind := range []sockdiag.Kind{sockdiag.TCP4, sockdiag.TCP6, sockdiag.UDP4, sockdiag.UDP6, sockdiag.Unix} {
		found, err := sockdiag.Dump(f, kind)
		if err != nil {
			unknown = append(unknown, err.Error())
		}
		for _, s := range found {
			list = append(list, form(kind, s))
		}
	}
	slices.SortStableFunc(list, func(a, b socket) int {
		return cmp.Or(rank(&a)-rank(&b), cmp.Compare(a.Local, b.Local), cmp.Compare(a.Remote, b.Remote), cmp.Compare(a.Inode, b.Inode))
	})
	return list, unknown, nil
}

// rank has those that listen come first, and unix sockets last.
func rank(k *socket) int {
	switch {
	case strings.HasPrefix(k.Protocol, unixProtocol):
		return 2
	case k.State == sockdiag.Listening.String():
		return 0
	}
	return 1
}

const unixProtocol = "unix"

// unixTypes are what unix sockets are called by their type, see socket(2).
var unixTypes = map[uint8]string{unix.SOCK_STREAM: unixProtocol, unix.SOCK_DGRAM: unixProtocol + "-dgram", unix.SOCK_SEQPACKET: unixProtocol + "-seqpacket"}

func form(kind sockdiag.Kind, s sockdiag.Socket) socket {
	k := socket{Socket: api.Socket{
		Protocol: kind.Name, State: s.State.String(), Local: s.Name, RecvQueue: s.RecvQueue, SendQueue: s.SendQueue, Inode: s.Inode,
		HostUID: s.UID, RTTMicroseconds: s.RTT, Retransmits: s.Retransmits,
	}, peer: s.Peer, remote: s.Remote.Addr().Unmap()}
	if kind == sockdiag.Unix {
		k.Protocol = cmp.Or(unixTypes[s.Type], unixProtocol)
		return k
	}
	k.Local = s.Local.String()
	if s.Remote.IsValid() {
		k.Remote = s.Remote.String()
	}
	return k
}

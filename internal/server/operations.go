package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
)

// operation is a request under way.
type operation struct {
	id       uint64
	method   string
	path     string
	since    time.Time
	peer     *peer
	hijacked atomic.Bool
}

// operations are all requests under way, for the inspector.
type operations struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]*operation
}

func (o *operations) begin(r *http.Request) *operation {
	op := &operation{method: r.Method, path: r.URL.Path, since: time.Now(), peer: peerOf(r.Context())}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.open = map[uint64]*operation{}
	}
	o.last++
	op.id = o.last
	o.open[op.id] = op
	return op
}

func (o *operations) end(op *operation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, op.id)
}

// list returns the operations, oldest first, and how many there ever were.
func (o *operations) list() (open []*operation, total uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, op := range o.open {
		open = append(open, op)
	}
	slices.SortFunc(open, func(a, b *operation) int { return int(a.id) - int(b.id) })
	return open, o.last
}

func (op *operation) show(now time.Time) api.Operation {
	return api.Operation{
		ID:              op.id,
		Method:          op.method,
		Path:            op.path,
		Since:           op.since,
		AgeMilliseconds: now.Sub(op.since).Milliseconds(),
		Peer:            op.peer.String(),
		Hijacked:        op.hijacked.Load(),
	}
}

// peer is the other side of a connection.
type peer struct {
	addr string
	// cred is nil unless the connection is a unix socket.
	cred *unix.Ucred
}

// String tells who the client is. The command is looked up when asked for, so
// that a request costs no read of /proc.
func (p *peer) String() string {
	if p == nil {
		return ""
	}
	if p.cred == nil {
		return p.addr
	}
	return fmt.Sprintf("pid %d uid %d %s", p.cred.Pid, p.cred.Uid, p.command())
}

func (p *peer) command() string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.cred.Pid))
	if err != nil {
		return "(gone)"
	}
	return strings.TrimSpace(string(comm))
}

type peerKey struct{}

// connContext gives every request of a connection its peer.
func connContext(ctx context.Context, c net.Conn) context.Context {
	p := &peer{addr: c.RemoteAddr().String()}
	if u, ok := c.(*net.UnixConn); ok {
		if raw, err := u.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
					p.cred = cred
				}
			})
		}
	}
	return context.WithValue(ctx, peerKey{}, p)
}

func peerOf(ctx context.Context) *peer {
	p, _ := ctx.Value(peerKey{}).(*peer)
	return p
}

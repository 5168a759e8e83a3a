package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/linux/procfile"
)

// operation is a request under way.
type operation struct {
	id       uint64
	request  string // names it in the log and in events, also of other daemons' requests
	method   string
	path     string
	since    time.Time
	peer     *peer
	hijacked atomic.Bool
}

// operations are all requests under way, for the inspector.
type operations struct {
	prefix string // of the requests' names, the daemon's own

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
	op.request = o.prefix + strconv.FormatUint(op.id, 10)
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
	// commandLine reads that of the client once, with its first request: later it
	// may be gone. Not when it connects, because a client can make reading it last
	// as long as it likes, and the others must still be able to connect.
	commandLine func() []string
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

// maxCommandLine bounds what is kept of a client's command line.
const maxCommandLine = 4 << 10

// readCommandLine returns the arguments of a process; nil if they cannot be read.
func readCommandLine(pid int32) []string {
	text, err := procfile.Read(fmt.Sprintf("/proc/%d/cmdline", pid), maxCommandLine)
	if err != nil || len(text) == 0 {
		return nil
	}
	return maskArguments(strings.Split(strings.ToValidUTF8(strings.TrimSuffix(string(text), "\x00"), "\ufffd"), "\x00"))
}

// maskArguments takes out of a command line what events must not keep: passwords
// and what may be secret in addresses.
func maskArguments(args []string) []string {
	for i, arg := range args {
		flag, _, joined := strings.Cut(arg, "=")
		switch {
		case flag == "--password" && joined:
			args[i] = flag + "=" + masked
		case i > 0 && (args[i-1] == "--password" || args[i-1] == "-p" && slices.Contains(args[:i], "login")):
			args[i] = masked
		case strings.HasPrefix(arg, "http://"), strings.HasPrefix(arg, "https://"):
			args[i] = shownAddress(arg)
		}
	}
	return args
}

// origin is who asks, for the events that the request leads to.
func (op *operation) origin(r *http.Request) *event.Origin {
	p := op.peer
	if p == nil {
		return nil
	}
	o := &event.Origin{Request: op.request}
	if p.cred != nil {
		o.UID, o.GID, o.PID, o.Command = &p.cred.Uid, &p.cred.Gid, p.cred.Pid, p.commandLine()
		return o
	}
	o.Address = p.addr
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		o.Subject = r.TLS.PeerCertificates[0].Subject.String()
	}
	return o
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
					p.commandLine = sync.OnceValue(func() []string { return readCommandLine(cred.Pid) })
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

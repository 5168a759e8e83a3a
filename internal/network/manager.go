package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/network/nft"
)

// DefaultBridge is the name of the bridge when Options names no other.
const DefaultBridge = "porthole0"

// The networks that always exist, by the names that Docker's users know.
const (
	BridgeNetwork = "bridge"
	HostNetwork   = "host"
	NoneNetwork   = "none"
)

// Options says how a Manager works. Only StatePath has to be given.
type Options struct {
	// StatePath is the directory for the Manager's files. It is made if it is
	// not there.
	StatePath string
	// Bridge is the bridge's name, at most 15 bytes. Empty means DefaultBridge.
	Bridge string
	// BIP is the bridge's own address with the length of its subnet, as in
	// 10.9.0.1/24. The zero value means: keep the subnet of the last time, or
	// choose a free one.
	BIP netip.Prefix
	// Default says what of the default bridge is not as usual.
	Default DefaultBridgeOptions
	// Pools are where subnets that nobody chose come from, in this order; nil: our
	// own choice, and of IPv6 a random one.
	Pools []Pool
	// MTU is given to the bridge and all interfaces. Zero means the MTU of the
	// interface that carries the default route, or 1500 without one.
	MTU int
	// NoMasquerade leaves packets of containers as they are: somebody else
	// routes, or translates, for the subnet. The kernel needs no nftables then.
	NoMasquerade bool
	// OnRestored is called after somebody had changed our nftables table and it
	// was restored. May be nil. It must not block.
	OnRestored func(table string)
	// Keeper holds published ports and serves names. Nil: neither can be done.
	Keeper *keeper.Client
	// NetNS is the network namespace to work in. Nil means that of the calling
	// thread. Open duplicates what it needs; the caller closes the file.
	NetNS *os.File
	// Logger may be nil.
	Logger *slog.Logger
}

// DefaultBridgeOptions are settings of the default bridge. The zero value is as
// usual.
type DefaultBridgeOptions struct {
	IPv6 bool
	// Subnet6 is its IPv6 subnet; invalid: that of the last time, or a free one.
	Subnet6 netip.Prefix
	// Range is the part of its IPv4 subnet that containers get addresses of;
	// invalid: all.
	Range netip.Prefix
	// Apart keeps its containers from one another.
	Apart bool
	// Binding is the host's address of published ports that name none; invalid: all.
	Binding netip.Addr
}

// A Manager owns the networks and the addresses on them. Its methods may be
// called by several goroutines at once.
//
// Order of locks: changing, then firewall, then mu.
type Manager struct {
	opts  Options
	log   *slog.Logger
	store *store
	netns *os.File // the namespace that we work in
	host  *rtnl    // route netlink in that namespace

	reaper *reaper

	closing  sync.Once
	closeErr error

	// changing is held while networks are made and removed.
	changing sync.Mutex
	// firewall keeps our transactions in the order of what they write down.
	firewall   sync.Mutex
	tableThere bool
	handleNFT  *nft.Handle // nil until it is needed

	serving  keyed // by container: what is said to the keeper about it
	ipv6Once sync.Once
	ipv6     bool // the host has IPv6

	// mu guards what follows. It is never held over a system call that can
	// take long.
	mu     sync.Mutex
	net    networkState        // what network.json says; ids are always set
	leases map[string]*lease   // by endpoint id, those that are leaving included
	live   map[liveKey]*lease  // without those that are leaving
	own    map[string][]*lease // the same by container
	taken  map[addrKey]*lease
	nets   map[string]*netw // those with interfaces, by id
	bridge bridgeLink       // of the default network; zero until EnsureDefault
	// sandboxes are containers with published ports or a resolver, by id.
	sandboxes map[string]*sandbox
	claim     *os.File // keeps other daemons off this bridge

	closed        bool
	unwatchKeeper context.CancelFunc // nil: nobody waits for the keeper's end
	keeperWatched chan struct{}      // closed when nobody does any more

	unwatch  context.CancelFunc // ends watchRules; nil if that does not run
	watching chan struct{}      // closed when watchRules has ended
}

// liveKey names an endpoint by what it connects.
type liveKey struct{ container, network string }

// bridgeLink is what Attach has to know about the bridge.
type bridgeLink struct {
	Index uint32
	MTU   uint32
}

// Open reads the state below o.StatePath and connects to the kernel. It changes
// nothing in the network. The caller must Close the Manager.
func Open(o Options) (*Manager, error) {
	if o.Bridge == "" {
		o.Bridge = DefaultBridge
	}
	if len(o.Bridge) >= unix.IFNAMSIZ {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("bridge name %q is longer than %d bytes", o.Bridge, unix.IFNAMSIZ-1))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	st, err := openStore(o.StatePath)
	if err != nil {
		return nil, err
	}
	netState, err := st.loadNetwork()
	if err != nil {
		return nil, err
	}
	if netState.Bridge != "" && netState.Bridge != o.Bridge {
		// Renamed in the configuration: the address range may stay.
		netState.Bridge = o.Bridge
	}
	leases, err := st.loadLeases(o.Logger)
	if err != nil {
		return nil, err
	}
	sandboxes, err := st.loadSandboxes(o.Logger)
	if err != nil {
		return nil, err
	}
	records, err := st.loadRecords()
	if err != nil {
		return nil, err
	}
	ns, err := openNetNS(o.NetNS)
	if err != nil {
		return nil, err
	}
	host, err := dialRTNL(ns)
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	m := &Manager{
		opts: o, log: o.Logger, store: st, netns: ns, host: host,
		net: netState, leases: leases, live: make(map[liveKey]*lease), own: make(map[string][]*lease), taken: make(map[addrKey]*lease),
		nets: make(map[string]*netw), sandboxes: sandboxes,
	}
	for _, l := range leases {
		m.remember(l)
	}
	for _, rec := range records {
		opts, err := parseOptions(rec.Driver, rec.Options)
		if err != nil {
			m.log.Error("option of a network has no effect", "network", rec.Name, "err", err)
		}
		m.nets[rec.ID] = &netw{Record: rec, opts: opts}
	}
	m.reaper = startReaper(host, m.release, o.Logger)
	return m, nil
}

// Close waits for removals that are under way, a few seconds at most, and lets
// go of the bridge. Bridge, rules and running containers' interfaces stay. A
// second Close does nothing.
func (m *Manager) Close() error {
	m.closing.Do(func() {
		m.reaper.stop()
		m.store.close()
		m.mu.Lock()
		m.closed = true
		unwatch := m.unwatch
		unwatchKeeper, keeperWatched := m.unwatchKeeper, m.keeperWatched
		m.mu.Unlock()
		if unwatchKeeper != nil {
			unwatchKeeper()
			<-keeperWatched
		}
		if unwatch != nil {
			unwatch()
			<-m.watching
		}
		m.firewall.Lock()
		defer m.firewall.Unlock()
		m.mu.Lock()
		defer m.mu.Unlock()
		errs := []error{m.host.Close(), m.netns.Close()}
		if m.handleNFT != nil {
			errs = append(errs, m.handleNFT.Close())
		}
		if m.claim != nil {
			errs = append(errs, m.claim.Close())
		}
		m.closeErr = errors.Join(errs...)
	})
	return m.closeErr
}

// Settle waits until nothing that was detached is left in the kernel, or until
// ctx ends.
func (m *Manager) Settle(ctx context.Context) error {
	return m.reaper.settle(ctx)
}

// openNetNS returns an own descriptor of ns, or of the calling thread's
// network namespace.
func openNetNS(ns *os.File) (*os.File, error) {
	if ns == nil {
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return nil, fmt.Errorf("open own network namespace: %w", err)
		}
		return f, nil
	}
	fd, err := unix.FcntlInt(ns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate network namespace descriptor: %w", err)
	}
	return os.NewFile(uintptr(fd), ns.Name()), nil
}

// newID returns 64 random hexadecimal digits, the form of all Docker ids.
func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// isErrno reports whether the kernel answered a netlink request with errno.
func isErrno(err error, errno unix.Errno) bool {
	var op *netlink.OpError
	if errors.As(err, &op) {
		return errors.Is(op.Err, errno)
	}
	return errors.Is(err, errno)
}

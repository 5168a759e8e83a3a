package network

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Detach takes a container off all its networks. It returns before the kernel is
// done with that, see Settle; until then the address is not given to others.
// Detaching a container that is not attached does nothing.
func (m *Manager) Detach(ctx context.Context, containerID string) error {
	m.unserve(ctx, containerID)
	for _, l := range m.leasesOf(containerID) {
		m.leave(l)
	}
	return nil
}

// leasesOf are a container's leases, by the name of the interface.
func (m *Manager) leasesOf(container string) []*lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := slices.Clone(m.own[container])
	slices.SortFunc(list, func(a, b *lease) int { return strings.Compare(a.Endpoint.Interface, b.Endpoint.Interface) })
	return list
}

// leave takes a lease from its container and hands it to the reaper, once.
func (m *Manager) leave(l *lease) {
	m.mu.Lock()
	mine := m.unlive(l)
	m.mu.Unlock()
	switch {
	case !mine:
	case l.Endpoint.HostInterface == "": // it ends with the container's namespace
		m.release([]*lease{l})
	default:
		m.reaper.add(l)
	}
}

// release forgets leases whose interfaces are gone.
func (m *Manager) release(gone []*lease) {
	for _, l := range gone {
		if err := m.store.removeLease(*l); err != nil {
			m.log.Warn("cannot remove lease", "container", l.Container, "err", err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range gone {
		delete(m.leases, l.Endpoint.EndpointID)
		m.unlive(l)
		for _, a := range l.addresses() {
			if key := (addrKey{l.Endpoint.NetworkID, a}); m.taken[key] == l {
				delete(m.taken, key)
			}
		}
	}
}

// gone reports that an interface to be removed was not there any more: the
// kernel removes a pair by itself when the container's namespace ends.
func gone(err error) bool { return isErrno(err, unix.ENODEV) }

// Reconcile compares what is there with the containers that run: it detaches
// those that do not, and removes interfaces on our bridges that no lease knows.
// It is called once, after EnsureDefault, before the first Attach.
func (m *Manager) Reconcile(ctx context.Context, live map[string]bool) error {
	m.mu.Lock()
	known := make(map[string]bool)
	var dead []*lease
	for _, l := range m.leases {
		known[l.Endpoint.HostInterface] = true
	}
	for _, l := range m.live {
		if !live[l.Container] || m.nets[l.Endpoint.NetworkID] == nil {
			dead = append(dead, l)
		}
	}
	m.mu.Unlock()

	if err := m.removeUnmoved(); err != nil {
		m.log.Error("an interface that was not moved into its container is left", "err", err)
	}
	for _, l := range dead {
		m.log.Info("detached a container that is gone", "container", l.Container)
		m.leave(l)
	}
	m.auditSandboxes(ctx, live)
	present, err := m.ports()
	if err != nil {
		return err
	}
	for name := range present {
		if !known[name] {
			m.log.Warn("removed an interface without an owner", "interface", name)
			m.reaper.add(&lease{Endpoint: Endpoint{HostInterface: name}})
		}
	}
	m.warnMissing(live, present)
	return m.Settle(ctx)
}

// warnMissing tells of running containers whose interface somebody removed.
func (m *Manager) warnMissing(live, present map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.live {
		if port := l.Endpoint.HostInterface; live[l.Container] && port != "" && !present[port] {
			m.log.Warn("interface of a running container is missing", "container", l.Container, "interface", port)
		}
	}
}

// ports returns the names of our interfaces on our bridges.
func (m *Manager) ports() (map[string]bool, error) {
	bridges := m.ownIndexes()
	h, err := m.handle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	links, err := dump(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := make(map[string]bool)
	for _, l := range links {
		a := l.Attrs()
		if a.Group == portGroup && bridges[a.MasterIndex] && isPair(l) {
			names[a.Name] = true
		}
	}
	return names, nil
}

func isPair(l netlink.Link) bool { return l.Type() == "veth" }

// maxRemoval bounds a batch, whose answers have to fit into the socket's buffer.
const maxRemoval = 64

// The reaper removes interfaces in the background.
//
//	add ──▶ queue ──▶ run: remove all that queued up by one request ──▶ done
type reaper struct {
	host *rtnl
	done func([]*lease)
	log  *slog.Logger
	wake chan struct{} // holds a token while queue may have work
	quit chan struct{} // closed by stop
	end  chan struct{} // closed by run

	mu    sync.Mutex
	queue []*lease
	busy  bool
	idle  chan struct{} // closed when queue is empty and busy is false
}

func startReaper(host *rtnl, done func([]*lease), log *slog.Logger) *reaper {
	r := &reaper{
		host: host, done: done, log: log,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), end: make(chan struct{}),
		idle: make(chan struct{}),
	}
	close(r.idle)
	go r.run()
	return r
}

func (r *reaper) add(l *lease) {
	r.mu.Lock()
	if len(r.queue) == 0 && !r.busy {
		r.idle = make(chan struct{})
	}
	r.queue = append(r.queue, l)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reaper) settle(ctx context.Context) error {
	r.mu.Lock()
	idle := r.idle
	r.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop lets the work in hand end, and leaves the rest to the next start's
// Reconcile when that takes too long.
func (r *reaper) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := r.settle(ctx); err != nil {
		r.log.Warn("interfaces are left to be removed at the next start", "err", err)
	}
	close(r.quit)
	<-r.end
}

func (r *reaper) run() {
	defer close(r.end)
	for {
		select {
		case <-r.quit:
			return
		case <-r.wake:
		}
		for r.round() {
			select {
			case <-r.quit:
				return
			default:
			}
		}
	}
}

// round removes what is queued. It reports whether there was anything.
func (r *reaper) round() bool {
	r.mu.Lock()
	work := r.queue
	r.queue = nil
	r.busy = len(work) > 0
	r.mu.Unlock()
	if len(work) == 0 {
		return false
	}

	for batch := range slices.Chunk(work, maxRemoval) {
		r.remove(batch)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = false
	if len(r.queue) == 0 {
		close(r.idle)
	}
	return true
}

// remove asks the kernel to remove the interfaces of work, and reports those
// that are gone. A refused one is logged and keeps its lease, so that the next
// start's Reconcile tries again; its address stays taken as long.
func (r *reaper) remove(work []*lease) {
	errs := r.request(work)
	ended := make([]*lease, 0, len(work))
	for i, l := range work {
		if errs[i] != nil && !gone(errs[i]) {
			r.log.Error("cannot remove interface", "interface", l.Endpoint.HostInterface, "err", errs[i])
			continue
		}
		ended = append(ended, l)
	}
	r.done(ended)
}

// request removes one interface by its name, or several by making them a
// group. It returns one error for each.
func (r *reaper) request(work []*lease) []error {
	if len(work) == 1 {
		return r.host.batch(delLink(work[0].Endpoint.HostInterface))
	}
	reqs := make([]request, 0, len(work)+1)
	for _, l := range work {
		reqs = append(reqs, setGroup(l.Endpoint.HostInterface, doomedGroup))
	}
	errs := r.host.batch(append(reqs, delGroup(doomedGroup))...)
	last := errs[len(work)]
	for i := range work {
		if errs[i] == nil {
			errs[i] = last
		}
	}
	return errs[:len(work)]
}

// handle opens vishvananda's netlink in our namespace. The caller closes it.
func (m *Manager) handle() (*netlink.Handle, error) { return handleAt(m.netns) }

func handleAt(ns *os.File) (*netlink.Handle, error) {
	h, err := netlink.NewHandleAt(nsHandle(ns), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open route netlink socket: %w", err)
	}
	return h, nil
}

package network

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"

	"github.com/portholehq/porthole/internal/undo"
)

// Create makes a network and its bridge. On an error nothing is left behind.
//
// Errors: AlreadyExists for a name that is taken, PermissionDenied for one of
// those that always exist, InvalidArgument for what cannot be, NotFound for a
// driver that we do not have, Unavailable when no subnet is free.
func (m *Manager) Create(ctx context.Context, req network.CreateRequest) (id string, err error) {
	m.changing.Lock()
	defer m.changing.Unlock()
	if ctx.Err() != nil { // later it would be made, and nobody would know
		return "", context.Cause(ctx)
	}
	rec, opts, err := m.plan(req)
	if err != nil {
		return "", err
	}
	h, err := m.handle()
	if err != nil {
		return "", err
	}
	defer h.Close()
	if err := m.chooseSubnets(h, &rec); err != nil {
		return "", err
	}
	if err := m.nameInterface(h, &rec, &opts); err != nil {
		return "", err
	}

	var steps undo.Stack
	defer steps.Run() // does nothing after Keep
	// The record comes first: an interface without one would never be removed.
	// It may be there even if saving it fails at the last, and would come to life with the next daemon.
	steps.Add(func() error { return m.store.removeRecord(rec.ID) })
	if err := m.store.saveRecord(rec); err != nil {
		return "", fmt.Errorf("save network %s: %w", rec.Name, err)
	}
	n := &netw{Record: rec, opts: opts}
	steps.Add(func() error { return removeInterface(h, n) })
	if n.link, err = m.ensureNetwork(h, n); err != nil {
		return "", err
	}
	m.setNetwork(n)
	steps.AddFunc(func() { m.forgetNetwork(rec.ID) })
	if err := m.applyRules(); err != nil {
		return "", err
	}
	steps.Keep()
	return rec.ID, nil
}

// plan turns a request into a record, with neither subnets that nobody gave nor
// the name of an interface.
func (m *Manager) plan(req network.CreateRequest) (Record, driverOptions, error) {
	rec := Record{
		Version: stateVersion, ID: newID(), Name: req.Name, Driver: req.Driver, Created: time.Now().UTC(),
		IPv4: req.EnableIPv4 == nil || *req.EnableIPv4, IPv6: req.EnableIPv6 != nil && *req.EnableIPv6,
		Internal: req.Internal, Attachable: req.Attachable, Labels: req.Labels, Options: req.Options,
	}
	if rec.Driver == "" || rec.Driver == "default" {
		rec.Driver = DriverBridge
	}
	if err := m.checkName(req); err != nil {
		return rec, driverOptions{}, err
	}
	switch rec.Driver {
	case DriverBridge, DriverMacvlan, DriverIPvlan:
	case DriverHost, DriverNull:
		return rec, driverOptions{}, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("only one instance of %q network is allowed", rec.Driver))
	default:
		return rec, driverOptions{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("could not find plugin %s in v1 plugin registry: plugin %q not found", rec.Driver, rec.Driver))
	}
	if !rec.IPv4 && !rec.IPv6 {
		return rec, driverOptions{}, errdefs.ErrInvalidArgument.WithMessage("IPv4 or IPv6 must be enabled")
	}
	opts, err := parseOptions(rec.Driver, req.Options)
	if err != nil {
		return rec, opts, err
	}
	if req.IPAM != nil {
		rec.IPAMDriver, rec.IPAMOptions = req.IPAM.Driver, req.IPAM.Options
		for _, c := range req.IPAM.Config {
			s := Subnet{Prefix: c.Subnet, Range: c.IPRange, Gateway: c.Gateway, Aux: c.AuxAddress, Given: true}
			if err := checkSubnet(s, rec.IPv4, rec.IPv6); err != nil {
				return rec, opts, err
			}
			rec.Subnets = append(rec.Subnets, s)
		}
	}
	if rec.IPAMDriver != "" && rec.IPAMDriver != "default" && rec.IPAMDriver != "null" {
		return rec, opts, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("plugin %q not found", rec.IPAMDriver))
	}
	return rec, opts, nil
}

func (m *Manager) checkName(req network.CreateRequest) error {
	switch name := req.Name; {
	case strings.TrimSpace(name) == "":
		return errdefs.ErrInvalidArgument.WithMessage("invalid network name: name is empty")
	case name == BridgeNetwork, name == HostNetwork, name == NoneNetwork, name == "default":
		return errdefs.ErrPermissionDenied.WithMessage("operation is not permitted on predefined " + name + " network")
	case strings.HasPrefix(name, "container:"):
		return errdefs.ErrInvalidArgument.WithMessage("invalid network name: it means the network of a container")
	case req.ConfigOnly || req.ConfigFrom != nil && req.ConfigFrom.Network != "":
		return errdefs.ErrNotImplemented.WithMessage("networks that are only a configuration are not supported")
	case req.Ingress || (req.Scope != "" && req.Scope != "local"):
		return errdefs.ErrUnavailable.WithMessage("This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nets {
		if n.Name == req.Name {
			return errdefs.ErrAlreadyExists.WithMessage("network with name " + req.Name + " already exists")
		}
	}
	return nil
}

// chooseSubnets checks those that were given against other networks, finds some
// for the families without one, and gives each a gateway.
func (m *Manager) chooseSubnets(h *netlink.Handle, rec *Record) error {
	ours := m.ourSubnets("")
	for i, s := range rec.Subnets {
		others := slices.Concat(ours, prefixes(rec.Subnets[:i]))
		if overlapsAny(s.Prefix, others) {
			return errdefs.ErrPermissionDenied.WithMessage("invalid pool request: Pool overlaps with other one on this address space")
		}
	}
	has := func(is6 bool) bool {
		return slices.ContainsFunc(rec.Subnets, func(s Subnet) bool { return s.Prefix.Addr().Is6() == is6 })
	}
	if rec.IPv4 && !has(false) {
		used, err := usedPrefixes(h, m.ownIndexes())
		if err != nil {
			return err
		}
		p, ok := m.freePool(false, append(ours, used...))
		if !ok {
			return errdefs.ErrUnavailable.WithMessage("all predefined address pools have been fully subnetted")
		}
		rec.Subnets = append(rec.Subnets, Subnet{Prefix: p})
	}
	if rec.IPv6 && !has(true) {
		p, ok := m.freePool(true, ours)
		if !ok {
			return errdefs.ErrUnavailable.WithMessage("all predefined address pools have been fully subnetted")
		}
		rec.Subnets = append(rec.Subnets, Subnet{Prefix: p})
	}
	for i, s := range rec.Subnets {
		// A macvlan network's gateway is somebody else's router; without one said
		// Docker takes the first address all the same.
		if !s.Gateway.IsValid() {
			rec.Subnets[i].Gateway = firstAddress(s)
		}
	}
	return nil
}

// uniqueLocal is a random IPv6 subnet for local use, see RFC 4193 section 3.2.
func uniqueLocal() netip.Prefix {
	var a [16]byte
	_, _ = rand.Read(a[1:8]) // never fails, see crypto/rand
	a[0] = 0xfd
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

func prefixes(list []Subnet) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, s.Prefix)
	}
	return p
}

// ourSubnets are those of all networks but one.
func (m *Manager) ourSubnets(but string) (list []netip.Prefix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nets {
		if n.ID != but {
			list = append(list, prefixes(n.Subnets)...)
		}
	}
	return list
}

// ownIndexes are the interfaces of our networks.
func (m *Manager) ownIndexes() map[int]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := map[int]bool{}
	for _, n := range m.nets {
		if n.Driver == DriverBridge && n.link.Index != 0 {
			own[int(n.link.Index)] = true
		}
	}
	return own
}

// Remove removes a network that no container is on.
func (m *Manager) Remove(ctx context.Context, ref string) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	n, err := m.find(ref)
	if err != nil {
		return err
	}
	if n.ID == m.net.BridgeID {
		return errdefs.ErrPermissionDenied.WithMessage(n.Name + " is a pre-defined network and cannot be removed")
	}
	// What was detached may not be gone yet.
	if err := m.Settle(ctx); err != nil {
		return err
	}
	if err := m.closeNetwork(n); err != nil {
		return err
	}
	h, err := m.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	if err := removeInterface(h, n); err != nil {
		m.setNetwork(n)
		return err
	}
	if err := m.store.removeRecord(n.ID); err != nil {
		return errors.Join(fmt.Errorf("remove network %s: %w", n.Name, err), m.takeBack(h, n))
	}
	return m.applyRules()
}

// takeBack undoes the removal of a network whose record is not gone for good: the
// next daemon might have it, and meanwhile another could take its name.
func (m *Manager) takeBack(h *netlink.Handle, n *netw) error {
	err := m.store.putBack(n.Record)
	if err != nil {
		return err // then it is gone, for this boot at least
	}
	n.link, err = m.ensureNetwork(h, n)
	m.setNetwork(n)
	return err
}

// closeNetwork takes a network from the list, unless somebody is on it.
func (m *Manager) closeNetwork(n *netw) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var users []string
	for _, l := range m.leases {
		if l.Endpoint.NetworkID == n.ID {
			users = append(users, fmt.Sprintf("name:%q id:%q", l.Name, l.Endpoint.EndpointID[:12]))
		}
	}
	if len(users) > 0 {
		sort.Strings(users)
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(
			"error while removing network: network %s has active endpoints (%s)", n.Name, strings.Join(users, ", ")))
	}
	delete(m.nets, n.ID)
	return nil
}

func (m *Manager) setNetwork(n *netw) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nets[n.ID] = n
}

func (m *Manager) forgetNetwork(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nets, id)
}

// find resolves a name, an id or the beginning of an id.
func (m *Manager) find(ref string) (*netw, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lookup(ref)
}

// lookup is find with mu held. A whole name counts more than an id, and a whole
// id more than its beginning.
func (m *Manager) lookup(ref string) (*netw, error) {
	if ref == "" || ref == "default" {
		ref = BridgeNetwork
	}
	all := m.all()
	for _, same := range []func(n *netw) bool{
		func(n *netw) bool { return n.Name == ref }, func(n *netw) bool { return n.ID == ref },
	} {
		if i := slices.IndexFunc(all, same); i >= 0 {
			return all[i], nil
		}
	}
	var found *netw
	for _, n := range all {
		if !strings.HasPrefix(n.ID, ref) {
			continue
		}
		if found != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage("network " + ref + " is ambiguous (2 matches found based on ID prefix)")
		}
		found = n
	}
	if found == nil {
		return nil, errdefs.ErrNotFound.WithMessage("network " + ref + " not found")
	}
	return found, nil
}

// all are the networks, those without interfaces included, by name. mu is held.
func (m *Manager) all() []*netw {
	list := []*netw{m.plain(HostNetwork, DriverHost, m.net.HostID), m.plain(NoneNetwork, DriverNull, m.net.NoneID)}
	for _, n := range m.nets {
		list = append(list, n)
	}
	if m.nets[m.net.BridgeID] == nil {
		list = append(list, m.plain(BridgeNetwork, DriverBridge, m.net.BridgeID))
	}
	slices.SortFunc(list, func(a, b *netw) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (m *Manager) plain(name, driver, id string) *netw {
	return &netw{Record: Record{ID: id, Name: name, Driver: driver, Created: m.net.Created, IPv4: true}}
}

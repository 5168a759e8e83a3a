package network

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var macvlanModes = map[string]netlink.MacvlanMode{
	"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE, "private": netlink.MACVLAN_MODE_PRIVATE,
	"vepa": netlink.MACVLAN_MODE_VEPA, "passthru": netlink.MACVLAN_MODE_PASSTHRU,
}

var ipvlanModes = map[string]netlink.IPVlanMode{
	"": netlink.IPVLAN_MODE_L2, "l2": netlink.IPVLAN_MODE_L2, "l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S,
}

func checkVlanMode(driver, mode string) error {
	_, mac := macvlanModes[mode]
	_, ip := ipvlanModes[mode]
	if (driver == DriverMacvlan && !mac) || (driver == DriverIPvlan && !ip) {
		return fmt.Errorf("requested %s mode %q is not valid", driver, mode)
	}
	return nil
}

// nameInterface decides on the bridge, or the parent of a macvlan network, and
// refuses one that somebody else has.
func (m *Manager) nameInterface(h *netlink.Handle, rec *Record, opts *driverOptions) error {
	if rec.Driver != DriverBridge {
		rec.Interface = opts.parent
		if rec.Interface == "" {
			rec.Interface, rec.Made = "dm-"+rec.ID[:12], true
		}
		if rec.Internal {
			rec.Interface, rec.Made = "dm-"+rec.ID[:12], true
		}
		// A VLAN that is not there is made, and goes with the network.
		if _, err := h.LinkByName(rec.Interface); err != nil && strings.Contains(rec.Interface, ".") {
			rec.Made = true
		}
		return nil
	}
	rec.Made = true
	rec.Interface = "br-" + rec.ID[:12]
	if opts.bridge == "" {
		return nil
	}
	rec.Interface = opts.bridge
	m.mu.Lock()
	for _, n := range m.nets {
		if n.Interface == opts.bridge {
			m.mu.Unlock()
			return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(
				"cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge name", rec.ID, rec.Interface, n.ID, n.Interface))
		}
	}
	m.mu.Unlock()
	// A bridge of somebody else's may be used, and is left when we go.
	if link, err := h.LinkByName(rec.Interface); err == nil {
		if link.Type() != "bridge" {
			return errdefs.ErrConflict.WithMessage(fmt.Sprintf("interface %s is a %s, not a bridge", rec.Interface, link.Type()))
		}
		rec.Made = false
	}
	return nil
}

// ensureParent finds the parent of a macvlan or ipvlan network, or makes it: a
// dummy interface where none was named, a VLAN for a name like eth0.50.
func (m *Manager) ensureParent(h *netlink.Handle, n *netw) (bridgeLink, error) {
	link, err := h.LinkByName(n.Interface)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		link, err = newParent(h, n)
	}
	if err != nil {
		return bridgeLink{}, fmt.Errorf("find parent interface %s: %w", n.Interface, err)
	}
	a := link.Attrs()
	mtu := a.MTU
	if n.opts.mtu != 0 {
		mtu = n.opts.mtu
	}
	return bridgeLink{Index: uint32(a.Index), MTU: uint32(mtu)}, nil
}

func newParent(h *netlink.Handle, n *netw) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.Interface
	var link netlink.Link = &netlink.Dummy{LinkAttrs: attrs}
	if n.Interface == n.opts.parent {
		parent, tag, ok := strings.Cut(n.Interface, ".")
		id, err := strconv.ParseUint(tag, 10, 12)
		if !ok || err != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage("invalid subinterface vlan name " + n.Interface + ", example formatting is eth0.10")
		}
		on, err := h.LinkByName(parent)
		if err != nil {
			return nil, err
		}
		attrs.ParentIndex = on.Attrs().Index
		link = &netlink.Vlan{LinkAttrs: attrs, VlanId: int(id), VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	}
	err := h.LinkAdd(link)
	if errors.Is(err, unix.EOPNOTSUPP) && link.Type() == "dummy" {
		// A bridge without ports leads nowhere either, and more kernels have it.
		link = &netlink.Bridge{LinkAttrs: attrs}
		err = h.LinkAdd(link)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, errdefs.ErrNotImplemented.WithMessage("the kernel has no interfaces of type " + link.Type())
	}
	if err == nil {
		err = h.LinkSetUp(link)
	}
	if err != nil {
		return nil, err
	}
	return h.LinkByName(n.Interface)
}

// removeInterface removes what was made for a network.
func removeInterface(h *netlink.Handle, n *netw) error {
	if !n.Made {
		return nil
	}
	link, err := h.LinkByName(n.Interface)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove interface %s: %w", n.Interface, err)
	}
	return nil
}

// unmoved is the name that an interface has until it is in the container: the
// kernel looks for the name at the host first.
func (l *lease) unmoved() string { return "ph" + l.Endpoint.EndpointID[:12] }

// removeUnmoved removes the interfaces of leases that a daemon has made at the
// host, and died before it could move them into the container.
func (m *Manager) removeUnmoved() error {
	m.mu.Lock()
	var names []string
	for _, l := range m.leases {
		if l.Endpoint.HostInterface == "" {
			names = append(names, l.unmoved())
		}
	}
	m.mu.Unlock()
	if len(names) == 0 {
		return nil
	}
	h, err := m.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	for _, name := range names {
		link, err := h.LinkByName(name)
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			continue
		}
		if err == nil {
			err = h.LinkDel(link)
		}
		if err != nil {
			return fmt.Errorf("remove interface %s: %w", name, err)
		}
		m.log.Warn("removed an interface that was not moved into its container", "interface", name)
	}
	return nil
}

// connectVlan makes a macvlan or ipvlan interface in a container.
func (m *Manager) connectVlan(n *netw, l *lease, ns *os.File) error {
	h, err := m.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = l.unmoved(), int(n.link.Index)
	attrs.HardwareAddr = l.Endpoint.MAC
	var link netlink.Link
	if n.Driver == DriverMacvlan {
		link = &netlink.Macvlan{LinkAttrs: attrs, Mode: macvlanModes[n.opts.kind]}
	} else {
		flags := map[string]netlink.IPVlanFlag{"private": netlink.IPVLAN_FLAG_PRIVATE, "vepa": netlink.IPVLAN_FLAG_VEPA}
		link = &netlink.IPVlan{LinkAttrs: attrs, Mode: ipvlanModes[n.opts.kind], Flag: flags[n.opts.flag]}
	}
	err = h.LinkAdd(link)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return errdefs.ErrNotImplemented.WithMessage("the kernel has no interfaces of type " + n.Driver)
	}
	if err != nil {
		return fmt.Errorf("create %s interface on %s: %w", n.Driver, n.Interface, err)
	}
	if err := h.LinkSetNsFd(link, int(ns.Fd())); err != nil {
		return errors.Join(fmt.Errorf("move %s interface into container: %w", n.Driver, err), h.LinkDel(link))
	}
	in, err := handleAt(ns)
	if err != nil {
		return err
	}
	defer in.Close()
	moved, err := in.LinkByName(attrs.Name)
	if err == nil {
		err = in.LinkSetName(moved, l.Endpoint.Interface)
	}
	if err == nil && n.opts.mtu != 0 {
		err = in.LinkSetMTU(moved, n.opts.mtu)
	}
	if err != nil {
		return fmt.Errorf("set up %s interface in container: %w", n.Driver, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l.Endpoint.MTU = moved.Attrs().MTU
	if len(l.Endpoint.MAC) == 0 {
		l.Endpoint.MAC = moved.Attrs().HardwareAddr
	}
	return nil
}

package floor

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The names and addresses of the network that floor containers are on.
const (
	bridgeName = "phfloor0"
	hostEnd    = "phfloor1"
	inside     = "eth0"
)

var (
	gateway = net.IPv4(10, 253, 255, 1)
	address = &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 253, 255, 2), Mask: net.CIDRMask(24, 32)}}
)

// bridge is the network of the containers.
type bridge struct {
	handle *netlink.Handle
	link   netlink.Link
}

func newBridge() (*bridge, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	b := &bridge{handle: h}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	b.link = &netlink.Bridge{LinkAttrs: attrs}
	if err := h.LinkAdd(b.link); err != nil {
		h.Close()
		return nil, fmt.Errorf("make bridge %s: %w", bridgeName, err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: gateway, Mask: net.CIDRMask(24, 32)}}
	if err := errors.Join(h.AddrAdd(b.link, addr), h.LinkSetUp(b.link)); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *bridge) Close() error {
	defer b.handle.Close()
	return b.handle.LinkDel(b.link)
}

// attach gives the process's network namespace an interface on the bridge.
func (b *bridge) attach(pid int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = hostEnd, b.link.Attrs().Index
	attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: inside, PeerNamespace: netlink.NsPid(pid)}
	if err := b.handle.LinkAdd(veth); err != nil {
		return fmt.Errorf("make veth pair: %w", err)
	}
	if err := b.handle.LinkSetUp(veth); err != nil {
		return fmt.Errorf("set %s up: %w", hostEnd, err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := netlink.NewHandleAt(netns.NsHandle(f.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	peer, err := h.LinkByName(inside)
	if err != nil {
		return fmt.Errorf("find %s: %w", inside, err)
	}
	if err := errors.Join(h.LinkSetUp(peer), h.AddrAdd(peer, address)); err != nil {
		return fmt.Errorf("configure %s: %w", inside, err)
	}
	return h.RouteAdd(&netlink.Route{LinkIndex: peer.Attrs().Index, Gw: gateway})
}

// detach removes the pair.
func (b *bridge) detach() error {
	link, err := b.handle.LinkByName(hostEnd)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil // gone with the namespace already
	}
	if err != nil {
		return err
	}
	if err := b.handle.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

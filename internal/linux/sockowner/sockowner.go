// Package sockowner tells which process has a socket that is spoken to.
//
//	pids := sockowner.Within(netns)
//	p, ok := sockowner.Find(netns, "udp", client, server, pids)
//
// The kernel is asked for the socket (sock_diag(7)), and the processes' open files
// are looked through for it. So the answer is right as long as the socket is open:
// a client that waits for an answer has it open, one that has got it may not.
package sockowner

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/ns"
)

// Process is one that has a socket.
type Process struct {
	PID    int    `json:"pid"`    // as the caller counts
	Inside int    `json:"inside"` // in its own pid namespace
	Name   string `json:"name"`   // of at most 15 bytes
}

// Find finds the process, of those, that has the socket which speaks from local to
// remote, by "udp" or "tcp", in a network namespace. A socket of UDP need not be
// connected.
func Find(netns *os.File, network string, local, remote netip.AddrPort, pids []int) (Process, bool) {
	inode, err := socket(netns, network, local, remote)
	if err != nil || inode == 0 {
		return Process{}, false
	}
	want := fmt.Sprintf("socket:[%d]", inode)
	for _, pid := range pids {
		if has(pid, want) {
			return describe(pid)
		}
	}
	return Process{}, false
}

// Within are the processes in a network namespace.
func Within(netns *os.File) (pids []int) {
	var st unix.Stat_t
	if err := unix.Fstat(int(netns.Fd()), &st); err != nil {
		return nil
	}
	want := fmt.Sprintf("net:[%d]", st.Ino)
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == want {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// socket is the inode of a socket; 0: it is not there.
func socket(netns *os.File, network string, local, remote netip.AddrPort) (inode uint32, err error) {
	list := netlink.SocketDiagUDP
	if network == "tcp" {
		list = netlink.SocketDiagTCP
	}
	families := []uint8{unix.AF_INET6}
	if local.Addr().Unmap().Is4() {
		families = []uint8{unix.AF_INET, unix.AF_INET6} // one of IPv6 speaks IPv4 as well
	}
	err = ns.Do([]ns.Entry{{File: netns, Kind: ns.Net}}, func() error {
		for _, family := range families {
			// A listing that something changed meanwhile may lack what changed: the
			// socket that is looked for waits, and is in it.
			all, err := list(family)
			for _, s := range all {
				switch fits(s, network, local, remote) {
				case whole:
					inode = s.INode
					return nil
				case part:
					inode = s.INode
				case not:
				}
			}
			if err != nil && len(all) == 0 {
				return err
			}
		}
		return nil
	})
	return inode, err
}

// fit is how well a socket fits what is looked for.
type fit int

const (
	not   fit = iota
	part      // it is not connected
	whole     // it is connected to the other end
)

func fits(s *netlink.Socket, network string, local, remote netip.AddrPort) fit {
	from, to := addr(s.ID.Source), addr(s.ID.Destination)
	if s.ID.SourcePort != local.Port() || from.IsValid() && !from.IsUnspecified() && from != local.Addr().Unmap() {
		return not
	}
	switch {
	case s.ID.DestinationPort == remote.Port() && to == remote.Addr().Unmap():
		return whole
	case network == "udp" && s.ID.DestinationPort == 0:
		return part
	}
	return not
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// has tells whether a process has a file open.
func has(pid int, want string) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	for _, name := range names {
		if target, err := os.Readlink(dir + "/" + name); err == nil && target == want {
			return true
		}
	}
	return false
}

// describe reads what a process is; false if it has just ended.
func describe(pid int) (p Process, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return p, false
	}
	p.PID = pid
	for line := range strings.Lines(string(text)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(ids)
			p.Inside, _ = strconv.Atoi(f[len(f)-1])
		}
	}
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	p.Name = strings.TrimSuffix(string(name), "\n")
	return p, true
}

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/procfile"
	"github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/problem"
)

// explainPort words the failure to publish a port as Docker does, and names who
// has the port.
func (m *Manager) explainPort(spec SandboxSpec, asked []keeper.Port, err error) error {
	var busy *keeper.InUseError
	if !errors.As(err, &busy) {
		return fmt.Errorf("driver failed programming external connectivity on endpoint %s: %w", spec.Name, err)
	}
	text := fmt.Sprintf("driver failed programming external connectivity on endpoint %s: %v", spec.Name, busy)
	holder, hint := m.holder(spec.ContainerID, asked, busy)
	if holder != "" {
		text += ": it is held by " + holder
	}
	return problem.WithHint(errdefs.ErrConflict.WithMessage(text), hint)
}

// holder tells who has a port, and what can be done about it. Both may be empty.
func (m *Manager) holder(asker string, asked []keeper.Port, busy *keeper.InUseError) (who, hint string) {
	m.mu.Lock()
	for id, b := range m.sandboxes {
		for _, p := range b.Published {
			if id != asker && p.HostPort == busy.Addr.Port() && string(p.Container.Proto()) == busy.Proto && overlap(p.HostIP, busy.Addr.Addr()) {
				m.mu.Unlock()
				name := b.Spec.Name
				if name == "" {
					name = id[:min(12, len(id))]
				}
				return "container " + name, fmt.Sprintf("free the port with: porthole stop %s; or publish another port of the host", name)
			}
		}
	}
	m.mu.Unlock()
	if askedTwice(asked, busy) {
		return "the container itself, which asks for it more than once", "leave one of them out, or publish another port of the host"
	}
	inodes, err := m.socketsOn(busy.Proto, busy.Addr)
	if err != nil {
		m.log.Debug("sockets of a port cannot be listed", "port", busy.Addr.String(), "err", err)
		return "", ""
	}
	pid := processWith(inodes)
	if command := commandOf(pid); strings.HasPrefix(command, keeper.Name+" ") {
		return fmt.Sprintf("process %d (%s)", pid, command), "publish another port of the host"
	} else if pid != 0 {
		return fmt.Sprintf("process %d (%s)", pid, command), fmt.Sprintf("end that process, or publish another port of the host; see it with: ps -fp %d", pid)
	}
	if len(inodes) > 0 {
		return "a socket of no process that can be seen from here", ""
	}
	return "", ""
}

// askedTwice tells whether the container's own ports are in one another's way.
func askedTwice(asked []keeper.Port, busy *keeper.InUseError) bool {
	n := 0
	for _, p := range asked {
		if p.Proto == busy.Proto && p.First == busy.Addr.Port() && p.Last == p.First &&
			slices.ContainsFunc(p.HostIPs, func(ip netip.Addr) bool { return overlap(ip, busy.Addr.Addr()) }) {
			n++
		}
	}
	return n > 1
}

// overlap tells whether sockets on two addresses are in one another's way.
func overlap(a, b netip.Addr) bool {
	return a == b || (a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified()))
}

// socketsOn are the inodes of the sockets that have a port in our namespace.
func (m *Manager) socketsOn(proto string, at netip.AddrPort) (inodes map[string]bool, err error) {
	inodes = map[string]bool{}
	note := func(local net.IP, port uint16, inode uint32) {
		a, ok := netip.AddrFromSlice(local)
		if ok && port == at.Port() && inode != 0 && (overlap(a.Unmap(), at.Addr()) || a.IsUnspecified()) {
			inodes[fmt.Sprintf("socket:[%d]", inode)] = true
		}
	}
	err = inNetNS(m.netns, func() error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			var list []*netlink.Socket
			var err error
			if proto == "udp" {
				list, err = netlink.SocketDiagUDP(family)
			} else {
				list, err = netlink.SocketDiagTCP(family)
			}
			if err != nil {
				return err
			}
			for _, s := range list {
				note(s.ID.Source, s.ID.SourcePort, s.INode)
			}
		}
		return nil
	})
	return inodes, err
}

// processWith finds a process that has one of the sockets; 0: none can be seen.
func processWith(inodes map[string]bool) (pid int) {
	if len(inodes) == 0 {
		return 0
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || !inodes[target] {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil {
			return pid
		}
	}
	return 0
}

// commandOf is the beginning of a process's command line, or its name.
func commandOf(pid int) string {
	const longest = 120
	dir := "/proc/" + strconv.Itoa(pid)
	text, err := procfile.Read(filepath.Join(dir, "cmdline"), longest+1)
	command := strings.TrimSpace(strings.ReplaceAll(string(text), "\x00", " "))
	if err != nil || command == "" {
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		command = strings.TrimSpace(string(name))
	}
	if len(command) > longest {
		command = command[:longest] + "..."
	}
	return command
}

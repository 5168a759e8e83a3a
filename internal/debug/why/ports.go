package why

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/api"
)

// sockets are the TCP addresses that somebody listens on in the network namespace
// of a process.
func sockets(pid int) ([]netip.AddrPort, error) {
	var list []netip.AddrPort
	for _, file := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		if os.IsNotExist(err) && file == "tcp6" {
			continue // without IPv6
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			const local, state, listen = 1, 3, "0A"
			f := strings.Fields(line)
			if len(f) <= state || f[state] != listen {
				continue
			}
			if a, ok := parseSocket(f[local]); ok {
				list = append(list, a)
			}
		}
	}
	return list, nil
}

// parseSocket reads an address as in /proc/net/tcp: words of 32 bits in the
// order of the machine, and the port as a number.
func parseSocket(s string) (a netip.AddrPort, ok bool) {
	host, port, _ := strings.Cut(s, ":")
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil || len(host)%8 != 0 {
		return a, false
	}
	var b []byte
	for ; host != ""; host = host[8:] {
		w, err := strconv.ParseUint(host[:8], 16, 32)
		if err != nil {
			return a, false
		}
		b = append(b, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
	}
	ip, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(ip.Unmap(), uint16(p)), ok
}

// ports are those of TCP that others are meant to reach.
func (e *evidence) ports() []uint16 {
	var list []uint16
	for p := range e.sub.Config.ExposedPorts {
		if p.Proto() == mobynet.TCP {
			list = append(list, p.Num())
		}
	}
	for _, p := range e.sub.Published {
		if p.Container.Proto() == mobynet.TCP {
			list = append(list, p.Container.Num())
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// listeners are ports that nobody, or only the container itself, can reach.
func listeners(e *evidence) []api.Verdict {
	if e.sub.HostConfig.NetworkMode.IsHost() || e.sub.Pid == 0 {
		return nil
	}
	open, err := sockets(e.sub.Pid)
	if err != nil {
		e.unknown = append(e.unknown, "who listens in its network: "+err.Error())
		return nil
	}
	var out []api.Verdict
	for _, port := range e.ports() {
		reachable, only := false, netip.Addr{}
		for _, l := range open {
			switch {
			case l.Port() != port:
			case l.Addr().IsLoopback():
				only = l.Addr()
			default:
				reachable = true
			}
		}
		switch {
		case reachable:
		case only.IsValid():
			out = append(out, verdict("localhost-only", api.Certain,
				fmt.Sprintf("port %d is listened on at %s only, which nobody outside of the container reaches", port, netip.AddrPortFrom(only, port)), e.publishedNote(port),
				fmt.Sprintf("have it listen on 0.0.0.0:%d (or [::])", port), fmt.Sprintf("porthole forward %s %d   # meanwhile", e.name, port))...)
		case len(e.publishedNote(port)) > 0:
			text := fmt.Sprintf("nobody listens on the published port %d", port)
			if l := listed(open); l != "" {
				text += "; " + l
			}
			out = append(out, verdict("not-listening", api.Certain, text, e.publishedNote(port), "porthole logs "+e.name, "check the port that the program uses")...)
		}
	}
	return out
}

func (e *evidence) publishedNote(port uint16) []string {
	var out []string
	for _, p := range e.sub.Published {
		if p.Container.Num() == port && p.Container.Proto() == mobynet.TCP && !p.Forward {
			out = append(out, fmt.Sprintf("published as %s", netip.AddrPortFrom(p.HostIP, p.HostPort)))
		}
	}
	return out
}

// listening tells on what somebody listens; empty: nobody does, or that is not known.
func (e *evidence) listening() string {
	if e.sub.HostConfig.NetworkMode.IsHost() || e.sub.Pid == 0 {
		return ""
	}
	open, err := sockets(e.sub.Pid)
	if err != nil {
		return ""
	}
	return listed(open)
}

func listed(open []netip.AddrPort) string {
	var names []string
	for _, l := range open {
		names = append(names, l.String())
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) == 0 {
		return ""
	}
	return "listening: " + strings.Join(names, ", ")
}

package whois

import (
	"net/netip"
	"testing"
)

func TestAddressPort(t *testing.T) {
	for asked, want := range map[string]struct {
		addr, port, proto string
		ok                bool
	}{
		"10.0.0.1:80":       {"10.0.0.1", "80", "", true},
		"[fd00::2]:53/udp":  {"fd00::2", "53", "udp", true},
		"localhost:80":      {"127.0.0.1", "80", "", true},
		"*:22/tcp":          {"", "22", "tcp", true},
		"10.0.0.1:80/sctp":  {},
		"10.0.0.1:http":     {},
		"fd00::2":           {},
		"02:42:ac:1e:00:02": {},
		"[fe80::1%eth0]:80": {"fe80::1", "80", "", true},
		"veth1":             {},
	} {
		addr, port, proto, ok := addressPort(asked)
		var wantAddr netip.Addr
		if want.addr != "" {
			wantAddr = netip.MustParseAddr(want.addr)
		}
		if ok != want.ok || ok && (addr != wantAddr || port != want.port || proto != want.proto) {
			t.Errorf("%s: %v %s %s %v", asked, addr, port, proto, ok)
		}
	}
}

func TestInGroup(t *testing.T) {
	const id = "ae000ea4eb63d49fe85bc4eda2deb0481cc7a15eef6abad273bfc298a6bab21b"
	for group, want := range map[string][2]string{
		"/porthole/" + id + "/app":        {id, "app"},
		"/porthole/" + id + "/app/nested": {id, "app"},
		"/porthole/" + id:                 {id, ""},
		"/porthole/shims":                 {},
		"/docker/" + id:                   {},
		"/porthole2/" + id + "/app":       {},
		"/":                               {},
	} {
		gotID, sub := inGroup(group, "/porthole")
		if got := [2]string{gotID, sub}; got != want {
			t.Errorf("%s: %q, want %q", group, got, want)
		}
	}
}

func TestPlaceOf(t *testing.T) {
	const id = "ae000ea4eb63d49fe85bc4eda2deb0481cc7a15eef6abad273bfc298a6bab21b"
	for groups, want := range map[string]string{
		"0::/system.slice/ssh.service\n":                       ", of unit ssh.service",
		"1:cpu:/\n0::/system.slice/docker-" + id + ".scope\n":  ", of container ae000ea4eb63 of another engine (/system.slice/docker-" + id + ".scope)",
		"0::/docker/" + id + "\n":                              ", of container ae000ea4eb63 of another engine (/docker/" + id + ")",
		"0::/user.slice/user-0.slice/session-1.scope\n":        "",
		"0::/kubepods.slice/cri-containerd-" + id + ".scope\n": ", of container ae000ea4eb63 of another engine (/kubepods.slice/cri-containerd-" + id + ".scope)",
	} {
		if got := placeOf(groups); got != want {
			t.Errorf("%q: %q, want %q", groups, got, want)
		}
	}
}

package filter

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
)

// wire is the layout of a packet with an Ethernet header, for a program that runs
// outside of the kernel.
var wire = layout{bpf.LoadAbsolute{Off: 12, Size: 2}, 14}

// frame is a packet with an Ethernet header.
func frame(etherType uint16, parts ...[]byte) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 12), etherType)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func ip4(proto byte, src, dst string, options int, fragment uint16) []byte {
	b := make([]byte, 20+options)
	b[0], b[9] = 0x40|byte((20+options)/4), proto
	binary.BigEndian.PutUint16(b[6:], fragment)
	copy(b[12:], netip.MustParseAddr(src).AsSlice())
	copy(b[16:], netip.MustParseAddr(dst).AsSlice())
	return b
}

func ip6(next byte, src, dst string) []byte {
	b := make([]byte, 40)
	b[0], b[6] = 0x60, next
	copy(b[8:], netip.MustParseAddr(src).AsSlice())
	copy(b[24:], netip.MustParseAddr(dst).AsSlice())
	return b
}

func l4(src, dst uint16, flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	b[12], b[13] = 0x50, flags
	return b
}

func arp(sender, target string) []byte {
	b := make([]byte, 28)
	copy(b[14:], netip.MustParseAddr(sender).AsSlice())
	copy(b[24:], netip.MustParseAddr(target).AsSlice())
	return b
}

var packets = map[string][]byte{
	"web":      frame(0x0800, ip4(6, "10.91.0.3", "10.91.0.2", 0, 0), l4(41000, 80, 0x02)),
	"answer":   frame(0x0800, ip4(6, "10.91.0.2", "10.91.0.3", 0, 0), l4(80, 41000, 0x12)),
	"options":  frame(0x0800, ip4(6, "10.91.0.3", "10.91.0.2", 12, 0), l4(41000, 80, 0x10)),
	"fragment": frame(0x0800, ip4(6, "10.91.0.3", "10.91.0.2", 0, 100), l4(41000, 80, 0x10)),
	"dns":      frame(0x0800, ip4(17, "10.91.0.3", "8.8.8.8", 0, 0), l4(5353, 53, 0)),
	"ping":     frame(0x0800, ip4(1, "10.91.0.3", "10.92.0.9", 0, 0), make([]byte, 8)),
	"web6":     frame(0x86dd, ip6(6, "fd00::3", "fd00::2"), l4(41000, 80, 0x02)),
	"ping6":    frame(0x86dd, ip6(58, "fd00::3", "fd01::2"), make([]byte, 8)),
	"arp":      frame(0x0806, arp("10.91.0.3", "10.91.0.2")),
	"long":     append(frame(0x0800, ip4(17, "10.91.0.3", "10.91.0.2", 0, 0), l4(1, 9000, 0)), make([]byte, 500)...),
}

func TestFilters(t *testing.T) {
	resolve := func(name string) []netip.Addr {
		if name == "db" {
			return []netip.Addr{netip.MustParseAddr("10.91.0.2"), netip.MustParseAddr("fd00::2")}
		}
		return nil
	}
	for _, tt := range []struct{ expression, want string }{
		{"ip", "answer dns fragment long options ping web"},
		{"ip6", "ping6 web6"},
		{"arp", "arp"},
		{"tcp", "answer fragment options web web6"},
		{"icmp or icmp6", "ping ping6"},
		{"udp", "dns long"},
		{"proto 17", "dns long"},
		{"ip proto icmp", "ping"},
		{"port 80", "answer options web web6"},
		{"src port 80", "answer"},
		{"dst port 80", "options web web6"},
		{"tcp dst port 80 and ip", "options web"},
		{"port 80 or 53", "answer dns options web web6"},
		{"portrange 50-79", "dns"},
		{"udp portrange 50-10000", "dns long"},
		{"host 10.91.0.2", "answer arp fragment long options web"},
		{"src host 10.91.0.2", "answer"},
		{"src 10.91.0.2", "answer"},
		{"src and dst net 10.91.0.0/24", "answer arp fragment long options web"},
		{"dst net 10.92.0.0/16", "ping"},
		{"net 0.0.0.0/0", "answer arp dns fragment long options ping web"},
		{"net fd01::/16", "ping6"},
		{"host fd00::2", "web6"},
		{"host db and tcp", "answer fragment options web web6"},
		{"tcp host 10.91.0.2", "answer fragment options web"},
		{"arp host 10.91.0.2", "arp"},
		{"not ip and not arp", "ping6 web6"},
		{"! (ip or arp)", "ping6 web6"},
		{"tcp and not port 80", "fragment"},
		{"greater 500", "long"},
		{"less 42", "arp ping"},
		{"tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", "web web6"},
		{"tcp[tcpflags] & tcp-syn != 0", "answer web web6 fragment"},
		{"tcp[13] = 0x12", "answer"},
		{"host 10.91.0.3 && (udp port 53 || icmp)", "dns ping"},
	} {
		program, err := compile(tt.expression, resolve, wire)
		if err != nil {
			t.Errorf("%s: %v", tt.expression, err)
			continue
		}
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Errorf("%s: %v", tt.expression, err)
			continue
		}
		want := map[string]bool{}
		for name := range strings.FieldsSeq(tt.want) {
			want[name] = true
		}
		for name, p := range packets {
			n, err := vm.Run(p)
			if err != nil {
				t.Errorf("%s on %s: %v", tt.expression, name, err)
			}
			if (n > 0) != want[name] {
				t.Errorf("%s passes %s: %v", tt.expression, name, n > 0)
			}
		}
	}
}

func TestWrongFilters(t *testing.T) {
	for expression, want := range map[string]string{
		"port":                                `a value is missing behind "port"`,
		"port http":                           `"http" is no port`,
		"port 70000":                          `"70000" is no port`,
		"portrange 9-8":                       `"9-8" is no range`,
		"portrange 80":                        `does not fit portrange`,
		"icmp port 80":                        "icmp has no ports",
		"host nosuch":                         `"nosuch" is neither an address nor a container that has one`,
		"net 10":                              `"10" is no network`,
		"ip6 host 10.0.0.1":                   "ip6 has no address 10.0.0.1",
		"(tcp":                                "a closing bracket is missing",
		"tcp)":                                `")" is out of place`,
		"tcp and":                             "ends where a condition should be",
		"vlan 5":                              `"vlan" is not supported here`,
		"ip[0] & 0xf != 5":                    "only tcp[tcpflags] is supported here",
		"tcp[tcpflags] > 3":                   "neither = nor !=",
		"less much":                           "a length is missing",
		"proto nosuch":                        `"nosuch" is no protocol`,
		"tcp udp":                             "neither an address nor",
		"and":                                 `"and" is no condition`,
		strings.Repeat("not ", 200) + "tcp":   "nested too deep",
		strings.Repeat("tcp or ", 999) + "ip": "longer than",
	} {
		if _, err := Compile(expression, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.50s: %v, want %q", expression, err, want)
		}
	}
	if raw, err := Compile("  ", nil); raw != nil || err != nil {
		t.Errorf("an empty filter: %v, %v", raw, err)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("host 10.0.0.1 and (tcp port 80 or udp portrange 1-9) and not tcp[tcpflags] & (tcp-syn|2) != 0")
	f.Fuzz(func(t *testing.T, expression string) {
		program, err := compile(expression, nil, wire)
		if err != nil || program == nil {
			return
		}
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Fatalf("%q: %v", expression, err)
		}
		for _, p := range packets {
			if _, err := vm.Run(p); err != nil {
				t.Fatalf("%q: %v", expression, err)
			}
		}
	})
}

package dig

import (
	"bytes"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// zone is a small internet on one port of several loopback addresses: 127.0.0.1
// resolves, and knows the root's servers; 127.0.0.2 is the root, 127.0.0.3 has
// example.test.
func zone(t *testing.T) (port string) {
	t.Helper()
	var servers []*dns.Server
	for range 100 {
		// A port that is free for UDP may be taken for TCP.
		var err error
		if servers, port, err = listen(); err == nil {
			break
		}
		t.Log(err)
	}
	if len(servers) == 0 {
		t.Fatal("no port is free on all addresses")
	}
	for i, s := range servers {
		address := addresses[i/2]
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) { answer(w, r, address) })
		go func() { _ = s.ActivateAndServe() }()
	}
	t.Cleanup(func() { closeAll(servers) })
	return port
}

var addresses = []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}

// listen has a UDP and a TCP socket of one port on each address, or none.
func listen() (servers []*dns.Server, port string, err error) {
	defer func() {
		if err != nil {
			closeAll(servers)
			servers = nil
		}
	}()
	port = "0"
	for _, address := range addresses {
		p, err := net.ListenPacket("udp", address+":"+port)
		if err != nil {
			return servers, "", err
		}
		servers = append(servers, &dns.Server{PacketConn: p})
		if _, port, err = net.SplitHostPort(p.LocalAddr().String()); err != nil {
			return servers, "", err
		}
		l, err := net.Listen("tcp", address+":"+port)
		if err != nil {
			return servers, "", err
		}
		servers = append(servers, &dns.Server{Listener: l})
	}
	return servers, port, nil
}

func closeAll(servers []*dns.Server) {
	for _, s := range servers {
		if s.PacketConn != nil {
			s.PacketConn.Close()
		} else {
			s.Listener.Close()
		}
	}
}

func answer(w dns.ResponseWriter, r *dns.Msg, address string) {
	m := new(dns.Msg)
	m.SetReply(r)
	add := func(to *[]dns.RR, text string) {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		*to = append(*to, rr)
	}
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	name, kind := r.Question[0].Name, r.Question[0].Qtype
	switch {
	case kind == dns.TypeNS && name == ".":
		add(&m.Answer, ". 60 IN NS root.test.")
		add(&m.Extra, "root.test. 60 IN A 127.0.0.2")
	case address == "127.0.0.2":
		add(&m.Ns, "example.test. 60 IN NS ns.example.test.")
		add(&m.Extra, "ns.example.test. 60 IN A 127.0.0.3")
	case name == "silent.test.":
		return
	case name == "refused.test.":
		m.Rcode = dns.RcodeRefused
	case name == "none.test.":
		m.Rcode = dns.RcodeNameError
		add(&m.Ns, "test. 60 IN SOA ns.test. me.test. 1 2 3 4 5")
	case name == "long.test." && udp:
		m.Truncated = true
	case name == "odd.test.":
		m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{"a\x1b[31mb"}})
	case kind == dns.TypePTR:
		add(&m.Answer, name+" 60 IN PTR one.example.test.")
	case kind == dns.TypeMX:
		add(&m.Answer, name+" 60 IN MX 10 mail."+name)
	case kind == dns.TypeAAAA:
		add(&m.Answer, name+" 60 IN AAAA fd00::1")
	default:
		m.Authoritative = true
		add(&m.Answer, name+" 60 IN A 192.0.2.1")
	}
	_ = w.WriteMsg(m)
}

func run(args ...string) (out, stderr string, code int) {
	var o, e bytes.Buffer
	code = Main(nil, &o, &e, args)
	return o.String(), e.String(), code
}

func TestShort(t *testing.T) {
	port := zone(t)
	tests := []struct {
		name string
		args []string
		out  string
	}{
		{"address", []string{"one.test"}, "192.0.2.1\n"},
		{"type behind", []string{"one.test", "mx"}, "10 mail.one.test.\n"},
		{"type in front", []string{"AAAA", "one.test"}, "fd00::1\n"},
		{"type by option", []string{"-t", "mx", "-q", "a"}, "10 mail.a.\n"},
		{"reverse", []string{"-x", "192.0.2.1"}, "one.example.test.\n"},
		{"by tcp", []string{"+tcp", "one.test"}, "192.0.2.1\n"},
		{"no such name", []string{"none.test"}, ""},
		{"two names", []string{"one.test", "two.test", "aaaa"}, "192.0.2.1\nfd00::1\n"},
		{"control characters", []string{"odd.test", "TXT"}, "\"a\\027[31mb\"\n"},
		{"answer alone", []string{"+noshort", "+noall", "+answer", "one.test"}, "one.test.\t\t60\tIN\tA\t192.0.2.1\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, stderr, code := run(append([]string{"@127.0.0.1", "-p", port, "+short"}, tt.args...)...)
			if diff := cmp.Diff([]any{tt.out, 0}, []any{out, code}); diff != "" {
				t.Errorf("(-want +got)\n%s\n%s", diff, stderr)
			}
		})
	}
}

func TestWhole(t *testing.T) {
	port := zone(t)
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"answer", []string{"one.example.test"}, []string{
			`^\n; <<>> DiG `, `\n;; Got answer:\n;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: \d+\n;; flags: qr aa rd; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 0\n`,
			`\n;; QUESTION SECTION:\n;one\.example\.test\.\t\tIN\tA\n`, `\n;; ANSWER SECTION:\none\.example\.test\.\t60\tIN\tA\t192\.0\.2\.1\n`,
			`\n;; Query time: \d+ msec\n;; SERVER: 127\.0\.0\.1#\d+\(127\.0\.0\.1\) \(UDP\)\n;; WHEN: .*\n;; MSG SIZE  rcvd: \d+\n`,
		}},
		{"no such name", []string{"none.test"}, []string{`status: NXDOMAIN`, `\n;; AUTHORITY SECTION:\ntest\.\t\t\t60\tIN\tSOA\tns\.test\. me\.test\. 1 2 3 4 5\n`}},
		{"refused", []string{"refused.test"}, []string{`status: REFUSED`}},
		{"truncated", []string{"long.test"}, []string{`;; Truncated, retrying in TCP mode\.\n`, `\(TCP\)\n`, `192\.0\.2\.1`}},
		{"trace", []string{"+trace", "one.example.test"}, []string{
			`\n\.\t\t\t60\tIN\tNS\troot\.test\.\n;; Received \d+ bytes from 127\.0\.0\.1#`, `\nexample\.test\.\t\t60\tIN\tNS\tns\.example\.test\.\n;; Received \d+ bytes from 127\.0\.0\.2#\d+\(root\.test\.\)`,
			`\none\.example\.test\.\t60\tIN\tA\t192\.0\.2\.1\n;; Received \d+ bytes from 127\.0\.0\.3#\d+\(ns\.example\.test\.\)`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, stderr, code := run(append([]string{"@127.0.0.1", "-p", port}, tt.args...)...)
			if code != 0 {
				t.Errorf("status %d, %s", code, stderr)
			}
			for _, want := range tt.want {
				if !regexp.MustCompile(want).MatchString(out) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
		})
	}
}

func TestNoReply(t *testing.T) {
	port := zone(t)
	out, _, code := run("@127.0.0.1", "-p", port, "+time=1", "+tries=1", "silent.test")
	if code != noReply || !strings.Contains(out, ";; communications error to 127.0.0.1#"+port+": timed out\n") || !strings.Contains(out, ";; no servers could be reached\n") {
		t.Errorf("%d, %q", code, out)
	}
	out, _, code = run("@127.0.0.9", "-p", port, "+tries=1", "one.test")
	if code != noReply || !strings.Contains(out, "connection refused") {
		t.Errorf("nobody there: %d, %q", code, out)
	}
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{{"+nonsense"}, {"+time=soon"}, {"-Z", "a"}, {"-t", "nonsense", "a"}, {"-x", "nobody"}, {"-p", "0", "a"}, {"a", "-p"}, {"+short=1"}, {"+subnet=x"}, {"+notime=1"}} {
		if _, stderr, code := run(args...); code != badUsage || !strings.HasPrefix(stderr, "dig: ") {
			t.Errorf("%q: %d, %q", args, code, stderr)
		}
	}
	if out, _, code := run("-h"); code != 0 || !strings.HasPrefix(out, "Usage: dig") {
		t.Errorf("-h: %d, %q", code, out)
	}
}

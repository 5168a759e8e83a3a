package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world has two names and the servers that a test gives it.
type world struct {
	servers  []Upstream
	internal bool
}

func (w *world) Lookup(name string) ([]netip.Addr, bool) {
	switch name {
	case "db":
		return []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}, true
	case "four":
		return []netip.Addr{netip.MustParseAddr("10.0.0.4")}, true
	}
	return nil, false
}

func (w *world) Reverse(a netip.Addr) (string, bool) {
	return "db.app", a == netip.MustParseAddr("10.0.0.2") || a == netip.MustParseAddr("fd00::2")
}

func (w *world) Upstreams() ([]Upstream, bool) { return w.servers, !w.internal }

func (w *world) Dial(ctx context.Context, network string, u Upstream) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, u.Addr.String())
}

// serve runs a handler as a name server on a loopback address, by UDP and TCP.
func serve(t *testing.T, h dns.Handler) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{Listener: l, Handler: h}, {PacketConn: p, Handler: h}} {
		started, ended := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(ended)
			_ = s.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			if err := s.Shutdown(); err != nil {
				t.Error(err)
			}
			<-ended
		})
	}
	return netip.MustParseAddrPort(l.Addr().String())
}

// upstream answers by the name: big, refused, fail, and an address else.
func upstream(w dns.ResponseWriter, req *dns.Msg) {
	resp := new(dns.Msg)
	resp.SetReply(req)
	name := req.Question[0].Name
	switch {
	case strings.HasPrefix(name, "refused"):
		resp.Rcode = dns.RcodeRefused
	case strings.HasPrefix(name, "missing"):
		resp.Rcode = dns.RcodeNameError
	case strings.HasPrefix(name, "big"):
		for i := range 200 {
			rr, _ := dns.NewRR(fmt.Sprintf("%s 60 IN A 192.0.2.%d", name, i))
			resp.Answer = append(resp.Answer, rr)
		}
		if w.LocalAddr().Network() == "udp" {
			resp.Truncate(dns.MinMsgSize)
		}
	default:
		rr, _ := dns.NewRR(name + " 60 IN A 192.0.2.1")
		resp.Answer = append(resp.Answer, rr)
	}
	_ = w.WriteMsg(resp)
}

func TestServe(t *testing.T) {
	up := serve(t, dns.HandlerFunc(upstream))
	refusing := serve(t, dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(req, dns.RcodeRefused))
	}))
	external := &world{servers: []Upstream{{Addr: refusing, From: "first"}, {Addr: up, From: "second"}}}
	for _, c := range []struct {
		name   string
		source *world
		ask    string
		typ    uint16
		tcp    bool
		code   int
		want   []string // addresses and names
		server string
	}{
		{"address", external, "db.", dns.TypeA, false, dns.RcodeSuccess, []string{"10.0.0.2"}, Embedded},
		{"upper case", external, "DB.", dns.TypeA, false, dns.RcodeSuccess, []string{"10.0.0.2"}, Embedded},
		{"IPv6", external, "db.", dns.TypeAAAA, true, dns.RcodeSuccess, []string{"fd00::2"}, Embedded},
		{"known, but not so", external, "four.", dns.TypeAAAA, false, dns.RcodeSuccess, nil, Embedded},
		{"pointer", external, "2.0.0.10.in-addr.arpa.", dns.TypePTR, false, dns.RcodeSuccess, []string{"db.app."}, Embedded},
		{"IPv6 pointer", external, "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, false, dns.RcodeSuccess, []string{"db.app."}, Embedded},
		{"passed on", external, "example.org.", dns.TypeA, false, dns.RcodeSuccess, []string{"192.0.2.1"}, up.String()},
		{"passed on by TCP", external, "example.org.", dns.TypeA, true, dns.RcodeSuccess, []string{"192.0.2.1"}, up.String()},
		{"not there", external, "missing.org.", dns.TypeA, false, dns.RcodeNameError, nil, up.String()},
		{"all refuse", external, "refused.org.", dns.TypeA, false, dns.RcodeRefused, nil, up.String()},
		{"internal", &world{servers: external.servers, internal: true}, "example.org.", dns.TypeA, false, dns.RcodeNameError, nil, ""},
		{"no servers", &world{}, "example.org.", dns.TypeA, false, dns.RcodeServerFailure, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log Log
			at := serve(t, New(c.source, &log))
			client := &dns.Client{}
			if c.tcp {
				client.Net = "tcp"
			}
			resp, _, err := client.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(c.ask, c.typ), at.String())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, rr := range resp.Answer {
				got = append(got, data(rr))
			}
			if diff := cmp.Diff(c.want, got); diff != "" || resp.Rcode != c.code {
				t.Errorf("code %d, want %d; answers (-want +got):\n%s", resp.Rcode, c.code, diff)
			}
			last, all := log.Queries()
			if all != 1 || len(last) != 1 || last[0].Server != c.server || last[0].Code != dns.RcodeToString[c.code] {
				t.Errorf("written down: %+v of %d, want one by %q", last, all, c.server)
			}
		})
	}
}

// TestTruncation asks for more than fits into a packet of UDP.
func TestTruncation(t *testing.T) {
	up := serve(t, dns.HandlerFunc(upstream))
	at := serve(t, New(&world{servers: []Upstream{{Addr: up}}}, new(Log)))
	resp, _, err := new(dns.Client).ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("big.org.", dns.TypeA), at.String())
	if err == nil {
		resp.Compress = true // as it came
	}
	if err != nil || !resp.Truncated || resp.Len() > dns.MinMsgSize {
		t.Fatalf("by UDP: %v, truncated %v", err, resp != nil && resp.Truncated)
	}
	resp, _, err = (&dns.Client{Net: "tcp"}).ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("big.org.", dns.TypeA), at.String())
	if err != nil || resp.Truncated || len(resp.Answer) != 200 {
		t.Fatalf("by TCP: %v, %d answers", err, len(resp.Answer))
	}
}

// TestSilentServer has the next one asked.
func TestSilentServer(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := netip.MustParseAddrPort(dead.Addr().String())
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	up := serve(t, dns.HandlerFunc(upstream))
	var log Log
	at := serve(t, New(&world{servers: []Upstream{{Addr: gone}, {Addr: up}}}, &log))
	resp, _, err := new(dns.Client).ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("example.org.", dns.TypeA), at.String())
	if err != nil || len(resp.Answer) != 1 {
		t.Fatalf("%v, %v", resp, err)
	}
	if last, _ := log.Queries(); last[0].Server != up.String() || last[0].Error != "" {
		t.Errorf("written down: %+v", last)
	}
}

func TestLog(t *testing.T) {
	var l Log
	for i := range Kept + 3 {
		l.add(Query{Name: fmt.Sprint(i)})
	}
	last, all := l.Queries()
	if all != Kept+3 || len(last) != Kept || last[0].Name != "3" || last[Kept-1].Name != fmt.Sprint(Kept+2) {
		t.Errorf("%d queries of %d, from %s to %s", len(last), all, last[0].Name, last[len(last)-1].Name)
	}
}

func FuzzPointerAddress(f *testing.F) {
	f.Add("2.0.0.10.in-addr.arpa.")
	f.Add("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.")
	f.Fuzz(func(t *testing.T, name string) {
		a, ok := pointerAddress(name)
		if !ok {
			return
		}
		back, err := dns.ReverseAddr(a.String())
		if err != nil {
			t.Fatal(err)
		}
		if again, ok := pointerAddress(back); !ok || again != a {
			t.Errorf("%q is %s, whose name is %q", name, a, back)
		}
	})
}

// silent has a server that never answers.
type silent struct {
	world
	asked chan struct{} // gets a token for each question
	end   chan struct{}
}

func (s *silent) Dial(ctx context.Context, _ string, _ Upstream) (net.Conn, error) {
	s.asked <- struct{}{}
	select {
	case <-s.end:
	case <-ctx.Done():
	}
	return nil, errors.New("no answer")
}

// answers is a client that only keeps what it is answered.
type answers struct {
	dns.ResponseWriter
	list chan *dns.Msg
}

func (answers) LocalAddr() net.Addr { return &net.UDPAddr{} }
func (a answers) WriteMsg(m *dns.Msg) error {
	a.list <- m
	return nil
}

// TestFlood asks more than anybody has to ask at once.
func TestFlood(t *testing.T) {
	const tooMany = 3 * maxAsking
	source := &silent{
		world: world{servers: []Upstream{{}}}, asked: make(chan struct{}, maxAsking+tooMany), end: make(chan struct{}),
	}
	r := New(source, new(Log))
	client := answers{list: make(chan *dns.Msg, maxAsking+tooMany+1)}
	var wg sync.WaitGroup
	ask := func(name string) {
		wg.Go(func() { r.ServeDNS(client, new(dns.Msg).SetQuestion(name, dns.TypeA)) })
	}
	for range maxAsking {
		ask("example.org.")
	}
	for range maxAsking {
		<-source.asked
	}
	// Those that are too many are told at once, and names of the networks go on.
	for range tooMany {
		ask("example.org.")
	}
	ask("db.")
	codes := map[int]int{}
	for range tooMany + 1 {
		codes[(<-client.list).Rcode]++
	}
	if diff := cmp.Diff(map[int]int{dns.RcodeServerFailure: tooMany, dns.RcodeSuccess: 1}, codes); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
	if n := len(source.asked); n != 0 {
		t.Errorf("%d questions were asked besides", n)
	}
	close(source.end)
	wg.Wait()
}

// TestLogOfLargeAnswers has an answer of 64 KB.
func TestLogOfLargeAnswers(t *testing.T) {
	up := serve(t, dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
		resp := new(dns.Msg).SetReply(req)
		for range 200 {
			resp.Answer = append(resp.Answer, &dns.TXT{
				Hdr: dns.RR_Header{Name: req.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET},
				Txt: []string{strings.Repeat("\\001", 250)},
			})
		}
		_ = w.WriteMsg(resp)
	}))
	log := new(Log)
	at := serve(t, New(&world{servers: []Upstream{{Addr: up}}}, log))
	resp, _, err := (&dns.Client{Net: "tcp"}).Exchange(new(dns.Msg).SetQuestion("big.", dns.TypeTXT), at.String())
	if err != nil || len(resp.Answer) != 200 {
		t.Fatalf("answer: %v, %v", resp, err)
	}
	last, _ := log.Queries()
	size := 0
	for _, a := range last[0].Answers {
		size += len(a)
	}
	if size < keptBytes || size > keptAnswers*(keptBytes+10)+20 {
		t.Errorf("%d bytes are kept", size)
	}
	if end := last[0].Answers[len(last[0].Answers)-1]; end != "and 184 more" {
		t.Errorf("the last of them is %q", end)
	}
}

// TestFollower has one who does not read.
func TestFollower(t *testing.T) {
	var l Log
	f := l.Follow()
	for range Kept + 3 {
		l.add(Query{Name: "x"})
	}
	if got := f.Dropped(); got != 3 || len(f.C) != Kept || f.Dropped() != 0 {
		t.Errorf("%d dropped, %d there", got, len(f.C))
	}
	f.Close()
	if l.add(Query{}); l.Followed() || len(f.C) != Kept {
		t.Error("it is followed still")
	}
}

package queries

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/linux/packet"
	"github.com/portholehq/porthole/internal/linux/sockowner"
	"github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/network/resolver"
	"github.com/portholehq/porthole/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// target is a container that is this process, in a network of its own.
type target struct{ engine.QueriesTarget }

func (t target) TraceQueries(string) (engine.QueriesTarget, func(), error) {
	return t.QueriesTarget, func() {}, nil
}

func newTarget(t *testing.T) target {
	t.Helper()
	netns := testenv.NetNS(t)
	testenv.InNetNS(t, netns, ns.LoopbackUp)
	return target{engine.QueriesTarget{
		ID: "one", Name: "one", NetNS: netns, Done: make(chan struct{}), Pids: func() ([]int, error) { return []int{os.Getpid()}, nil },
	}}
}

// watched is a Run that goes on.
type watched struct {
	events chan *api.TraceEvent
	end    context.CancelFunc
	ended  chan error
}

// watch begins to follow, and returns once it has begun.
func watch(t *testing.T, src Source, o Options) *watched {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watched{events: make(chan *api.TraceEvent, 100), end: cancel, ended: make(chan error, 1)}
	var wg sync.WaitGroup
	wg.Go(func() {
		w.ended <- Run(ctx, src, o, func(e *api.TraceEvent) error {
			w.events <- e
			return nil
		})
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	if e := w.next(t); e.Kind != api.TraceBegin {
		t.Fatalf("it begins with %+v", e)
	}
	return w
}

func (w *watched) next(t *testing.T) *api.TraceEvent {
	t.Helper()
	select {
	case e := <-w.events:
		return e
	case err := <-w.ended:
		if w.ended <- err; len(w.events) == 0 { // which come before the end
			t.Fatalf("it has ended: %v", err)
		}
		return <-w.events
	case <-time.After(30 * time.Second):
		t.Fatal("nothing is told")
	}
	return nil
}

// answering is a name server in the namespace, which takes its time, so that who
// asks can be seen.
func answering(t *testing.T, netns *os.File, proto, at string) {
	t.Helper()
	s := &dns.Server{Net: proto, Addr: at, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
		<-time.After(100 * time.Millisecond)
		resp := new(dns.Msg).SetReply(req)
		rr, err := dns.NewRR(req.Question[0].Name + " 5 IN A 10.1.2.3")
		if err != nil || strings.HasPrefix(req.Question[0].Name, "no.") {
			resp.Rcode = dns.RcodeNameError
		} else {
			resp.Answer = append(resp.Answer, rr)
		}
		_ = w.WriteMsg(resp)
	})}
	begun := make(chan struct{})
	s.NotifyStartedFunc = func() { close(begun) }
	testenv.InNetNS(t, netns, func() (err error) {
		if proto == "udp" {
			s.PacketConn, err = net.ListenPacket("udp", at)
		} else {
			s.Listener, err = net.Listen("tcp", at)
		}
		return err
	})
	served := make(chan error, 1)
	go func() { served <- s.ActivateAndServe() }()
	<-begun
	t.Cleanup(func() {
		_ = s.Shutdown()
		<-served
	})
}

// ask asks in the namespace; how it ends is not of interest.
func ask(t *testing.T, netns *os.File, proto, server, name string) {
	t.Helper()
	testenv.InNetNS(t, netns, func() error {
		_, _, _ = (&dns.Client{Net: proto, Timeout: 5 * time.Second}).Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), server)
		return nil
	})
}

func TestPackets(t *testing.T) {
	src := newTarget(t)
	for _, at := range []string{"127.0.0.1:53", "[::1]:53"} {
		for _, proto := range []string{"udp", "tcp"} {
			answering(t, src.NetNS, proto, at)
		}
	}
	w := watch(t, src, Options{})
	for _, tt := range []struct{ proto, server, name, code string }{
		{"udp", "127.0.0.1:53", "web.", "NOERROR"},
		{"udp", "[::1]:53", "no.web.", "NXDOMAIN"},
		{"tcp", "127.0.0.1:53", "no.web.", "NXDOMAIN"},
		{"tcp", "[::1]:53", "web.", "NOERROR"},
	} {
		ask(t, src.NetNS, tt.proto, tt.server, tt.name)
		e := w.next(t)
		q := e.DNS
		if q == nil || q.Protocol != tt.proto || q.Server != tt.server || q.Name+"." != tt.name || q.Type != "A" || q.Code != tt.code || q.Source != api.SourcePackets || q.Error != "" {
			t.Errorf("%+v: %+v, %+v", tt, e, q)
		}
		if answered := len(q.Answers) == 1 && q.Answers[0] == "10.1.2.3"; answered != (tt.code == "NOERROR") {
			t.Errorf("%+v: answers %v", tt, q.Answers)
		}
		if e.TookNanoseconds < int64(50*time.Millisecond) || time.Since(e.Time) > time.Minute {
			t.Errorf("%+v: at %v, took %v", tt, e.Time, time.Duration(e.TookNanoseconds))
		}
		if e.HostPID != os.Getpid() && e.HostPID != 0 { // a machine that is very busy looks too late
			t.Errorf("%+v: of process %d", tt, e.HostPID)
		}
	}
	// Nobody is there, and the kernel says so.
	ask(t, src.NetNS, "udp", "127.0.0.2:53", "gone.")
	if e := w.next(t); e.DNS == nil || e.DNS.Code != "" || !strings.Contains(e.DNS.Error, "not delivered, says 127.0.0.2") {
		t.Errorf("refused: %+v, %+v", e, e.DNS)
	}
	w.end()
	if e := w.next(t); e.Kind != api.TraceEnd || e.Sent != 5 || e.Lost != 0 || e.Why != "it was told to" {
		t.Errorf("it ends with %+v", e)
	}
}

func TestCountAndFailed(t *testing.T) {
	src := newTarget(t)
	answering(t, src.NetNS, "udp", "127.0.0.1:53")
	w := watch(t, src, Options{Count: 1, Failed: true})
	ask(t, src.NetNS, "udp", "127.0.0.1:53", "web.")
	ask(t, src.NetNS, "udp", "127.0.0.1:53", "no.web.")
	if e := w.next(t); e.DNS == nil || e.DNS.Name != "no.web" {
		t.Errorf("%+v", e)
	}
	if e := w.next(t); e.Kind != api.TraceEnd || e.Sent != 1 || e.Why != errCount.Error() {
		t.Errorf("it ends with %+v", e)
	}
}

// TestShared has a network that others are in as well.
func TestShared(t *testing.T) {
	src := newTarget(t)
	src.Shared = true
	src.Pids = func() ([]int, error) { return []int{os.Getppid()}, nil }
	answering(t, src.NetNS, "udp", "127.0.0.1:53")
	w := watch(t, src, Options{})
	ask(t, src.NetNS, "udp", "127.0.0.1:53", "web.")
	w.end()
	if e := w.next(t); e.Kind != api.TraceEnd || e.LeftOut != 1 || e.Sent != 0 {
		t.Errorf("it ends with %+v, %+v", e, e.DNS)
	}
}

// TestResolver has a name server of ours, which is killed, and which passes on a
// question that is seen in packets.
func TestResolver(t *testing.T) {
	src := newTarget(t)
	answering(t, src.NetNS, "udp", "127.0.0.1:53")
	lines, broken := make(chan keeper.Followed), make(chan struct{})
	src.Follow = func(ctx context.Context, fn func(keeper.Followed) error) error {
		if err := fn(keeper.Followed{}); err != nil {
			return err
		}
		for {
			select {
			case line := <-lines:
				if err := fn(line); err != nil || line.End {
					return err
				}
			case <-broken:
				return errors.New("killed")
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	src.Pids = func() ([]int, error) { return nil, nil }
	src.AskedByUs = func(context.Context, string, netip.AddrPort) (bool, error) { return true, nil }
	done := make(chan struct{})
	src.Done = done
	w := watch(t, src, Options{})
	ask(t, src.NetNS, "udp", "127.0.0.1:53", "passed-on.")
	lines <- keeper.Followed{Dropped: 3, Query: &resolver.Query{Name: "db", Type: "A", Code: "NOERROR", Server: resolver.Embedded, Asker: &sockowner.Process{PID: 70, Inside: 7, Name: "wget"}}}
	if e := w.next(t); e.DNS == nil || e.DNS.Name != "db" || e.DNS.Source != api.SourceResolver || e.PID != 7 || e.HostPID != 70 || e.Name != "wget" {
		t.Errorf("%+v, %+v", e, e.DNS)
	}
	broken <- struct{}{}
	for e := w.next(t); !strings.Contains(e.Why, "name server has ended"); e = w.next(t) {
		if e.Kind != api.TraceLost || e.Lost != 3 { // or told each second
			t.Errorf("%+v", e)
		}
	}
	lines <- keeper.Followed{Query: &resolver.Query{Name: "last", Type: "A", Code: "NXDOMAIN"}} // to another one
	close(done)
	select {
	case lines <- keeper.Followed{End: true}:
	case <-time.After(lastWords): // a machine that is very busy has given it up
	}
	for e := w.next(t); e.Kind != api.TraceEnd; e = w.next(t) {
		if e.Kind == api.TraceDNS && e.DNS.Name != "last" {
			t.Errorf("%+v", e.DNS)
		}
		if e.Kind == api.TraceEnd && (e.Lost != 3 || e.Sent != 2 || e.Why != errEnded.Error()) {
			t.Errorf("it ends with %+v", e)
		}
	}
}

// raw is a packet of IPv4 without checksums, from a client to a server.
func raw(proto byte, sport, dport uint16, head, data []byte) []byte {
	b := make([]byte, 20, 20+len(head)+len(data))
	b[0], b[9] = 0x45, proto
	copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	binary.BigEndian.PutUint16(b[2:], uint16(cap(b)))
	binary.BigEndian.PutUint16(head, sport)
	binary.BigEndian.PutUint16(head[2:], dport)
	return append(append(b, head...), data...)
}

func newBook() (*book, *[]*api.TraceEvent) {
	var told []*api.TraceEvent
	b := &book{asked: map[question]*api.TraceEvent{}, streams: map[flow]*stream{}}
	b.who = func(string, netip.AddrPort, netip.AddrPort) (*sockowner.Process, bool) { return nil, true }
	b.tell = func(e *api.TraceEvent) { told = append(told, e) }
	return b, &told
}

// TestStream has messages that come in pieces, and one that is missing.
func TestStream(t *testing.T) {
	b, told := newBook()
	at := time.Unix(100, 0)
	var wire []byte
	for i, name := range []string{"one.", "two."} {
		m := new(dns.Msg).SetQuestion(name, dns.TypeA)
		m.Id = uint16(i)
		text, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		wire = append(binary.BigEndian.AppendUint16(wire, uint16(len(text))), text...)
	}
	send := func(seq uint32, flags byte, data []byte) {
		head := make([]byte, 20)
		binary.BigEndian.PutUint32(head[4:], seq)
		head[12], head[13] = 5<<4, flags
		b.packet(packet.Packet{LinkType: packet.Raw, Outgoing: true, Time: at, Data: raw(unix.IPPROTO_TCP, 4000, 53, head, data)})
	}
	first := ^uint32(0) - 3 // the numbers turn over
	send(first-1, syn, nil)
	send(first, 0, wire[:1])
	send(first+1, 0, wire[1:20])
	send(first, 0, wire[:30]) // again, and more
	send(first+30, fin, wire[30:])
	if len(b.asked) != 2 || len(b.streams) != 0 || b.lost != 0 {
		t.Errorf("%d questions, %d streams, %d lost", len(b.asked), len(b.streams), b.lost)
	}
	b.expire(at.Add(noAnswer))
	if len(*told) != 2 || (*told)[0].DNS.Name != "one" || (*told)[1].DNS.Error != "no answer in 5s" || len(b.order) != 0 {
		t.Errorf("told: %v, %d are remembered", *told, len(b.order))
	}
	send(100, syn, nil)
	send(200, 0, wire)
	if len(b.streams) != 0 || b.lost != 1 {
		t.Errorf("a gap: %d streams, %d lost", len(b.streams), b.lost)
	}
}

// TestBounds has a container that asks and asks.
func TestBounds(t *testing.T) {
	b, _ := newBook()
	text, err := new(dns.Msg).SetQuestion("x.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for sport := range uint16(mostAsked + 5) {
		b.packet(packet.Packet{LinkType: packet.Raw, Outgoing: true, Time: time.Unix(100, 0), Data: raw(unix.IPPROTO_UDP, sport, 53, make([]byte, 8), text)})
		head := make([]byte, 20)
		head[12] = 5 << 4
		b.packet(packet.Packet{LinkType: packet.Raw, Outgoing: true, Data: raw(unix.IPPROTO_TCP, sport, 53, head, []byte{255})})
	}
	if len(b.asked) != mostAsked || len(b.streams) != 2*mostStreams || b.lost != 5+mostAsked+5-2*mostStreams {
		t.Errorf("%d questions, %d streams, %d lost", len(b.asked), len(b.streams), b.lost)
	}
	// What others ask a server here is not its own.
	b, _ = newBook()
	b.packet(packet.Packet{LinkType: packet.Raw, Interface: 2, Data: raw(unix.IPPROTO_UDP, 1, 53, make([]byte, 8), text)})
	if len(b.asked) != 0 {
		t.Error("a question of another is told as the container's")
	}
}

func FuzzPacket(f *testing.F) {
	text, err := new(dns.Msg).SetQuestion("x.", dns.TypeA).Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw(unix.IPPROTO_UDP, 1, 53, make([]byte, 8), text))
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 8, 44, 64}, make([]byte, 60)...))
	f.Add(raw(unix.IPPROTO_ICMP, 3<<8, 0, make([]byte, 8), raw(unix.IPPROTO_UDP, 1, 53, make([]byte, 8), nil)))
	f.Fuzz(func(_ *testing.T, data []byte) {
		b, _ := newBook()
		for _, link := range []packet.LinkType{packet.Raw, packet.Ethernet} {
			b.packet(packet.Packet{LinkType: link, Outgoing: true, Data: data})
		}
	})
}

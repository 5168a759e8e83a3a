package resolver

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// liar has a server that answers each question with the same bytes.
type liar struct {
	world
	answer []byte
	know   bool // the id and the question of what it was asked
}

func (l *liar) Upstreams() ([]Upstream, bool) {
	return []Upstream{{Addr: netip.MustParseAddrPort("192.0.2.1:53")}}, true
}

func (l *liar) Dial(_ context.Context, network string, _ Upstream) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		c := &dns.Conn{Conn: theirs, UDPSize: dns.MaxMsgSize}
		asked, err := c.ReadMsg()
		if err != nil {
			return
		}
		b := append([]byte(nil), l.answer...)
		if l.know {
			var m dns.Msg
			if m.Unpack(b) == nil {
				m.Id, m.Question = asked.Id, asked.Question
				if packed, err := m.Pack(); err == nil {
					b = packed
				}
			} else if len(b) >= 2 {
				binary.BigEndian.PutUint16(b, asked.Id)
			}
		}
		_, _ = theirs.Write(binary.BigEndian.AppendUint16(nil, uint16(len(b))))
		_, _ = theirs.Write(b)
	}()
	return ours, nil
}

// replies is a client that keeps what it is answered.
type replies struct {
	dns.ResponseWriter
	udp  bool
	list []*dns.Msg
}

func (r *replies) LocalAddr() net.Addr {
	if r.udp {
		return &net.UDPAddr{}
	}
	return &net.TCPAddr{}
}

func (r *replies) WriteMsg(m *dns.Msg) error {
	r.list = append(r.list, m)
	return nil
}

// FuzzServe has a container ask anything, and a server answer it anything. There is
// one answer, to that question, which can be sent and is not longer than the client
// takes; what is written down of it is bounded.
func FuzzServe(f *testing.F) {
	seed := func(name string, typ uint16, answer string) {
		q := new(dns.Msg).SetQuestion(name, typ)
		q.SetEdns0(1232, true)
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		a := new(dns.Msg).SetReply(q)
		if answer != "" {
			rr, err := dns.NewRR(answer)
			if err != nil {
				f.Fatal(err)
			}
			a.Answer = append(a.Answer, rr)
		}
		packed, err := a.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, packed, true, true)
		f.Add(b, packed, false, true)
		f.Add(b, packed, false, false)
	}
	seed("db.", dns.TypeA, "")
	seed("2.0.0.10.in-addr.arpa.", dns.TypePTR, "")
	seed("example.org.", dns.TypeTXT, `example.org. 60 IN TXT "one\007" "two"`)
	seed("example.org.", dns.TypeANY, "example.org. 60 IN SOA a. b. 1 2 3 4 5")
	f.Fuzz(func(t *testing.T, query, answer []byte, udp, know bool) {
		if len(query) > dns.MaxMsgSize || len(answer) > dns.MaxMsgSize {
			return
		}
		req := new(dns.Msg)
		if req.Unpack(query) != nil {
			return // as by the server of the library
		}
		var log Log
		client := &replies{udp: udp}
		New(&liar{answer: answer, know: know}, &log).ServeDNS(client, req)
		if len(client.list) != 1 {
			t.Fatalf("%d answers", len(client.list))
		}
		got := client.list[0]
		if got.Id != req.Id || !got.Response && !know {
			t.Errorf("id %d, want %d; an answer: %v", got.Id, req.Id, got.Response)
		}
		if len(req.Question) == 1 && req.Opcode == dns.OpcodeQuery && !sameQuestion(got, req) {
			t.Errorf("answers %v, asked was %v", got.Question, req.Question)
		}
		packed, err := got.Pack()
		if err != nil {
			t.Fatalf("cannot be sent: %v", err)
		}
		if udp && len(packed) > bufferSize(req) && len(got.Answer)+len(got.Ns) > 0 {
			t.Errorf("%d bytes for a client that takes %d", len(packed), bufferSize(req))
		}
		last, _ := log.Queries()
		if len(last) != 1 || len(last[0].Answers) > keptAnswers+1 || len(last[0].Name) > 4*256 {
			t.Errorf("written down: %+v", last)
		}
		for _, a := range last[0].Answers {
			if len(a) > keptBytes+3 {
				t.Errorf("%d bytes of an answer are kept", len(a))
			}
		}
	})
}

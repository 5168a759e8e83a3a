package queries

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/linux/packet"
	"github.com/portholehq/porthole/internal/linux/sockowner"
	"github.com/portholehq/porthole/internal/network/resolver"
)

// Bounds of what is remembered, and how long.
const (
	noAnswer    = 5 * time.Second // as long as the C library waits
	mostAsked   = 4096            // questions that wait for their answer
	mostStreams = 128             // connections of TCP, of which each has two
)

const port = 53

// loopback is the index of that interface in each network namespace
// (LOOPBACK_IFINDEX of the kernel's include/net/flow.h).
const loopback = 1

// book has the questions that were seen in packets and wait for their answers.
type book struct {
	// who tells of the process that asks, and whether the question is told of.
	who func(network string, client, server netip.AddrPort) (p *sockowner.Process, told bool)
	// tell is called with each question once it is answered or given up.
	tell func(*api.TraceEvent)
	lost uint64 // questions or parts of streams that found no room

	asked   map[question]*api.TraceEvent
	order   []question // by time; those that are answered are in it still
	streams map[flow]*stream
}

type flow struct {
	network  string
	src, dst netip.AddrPort
}

type question struct {
	flow
	id uint16
}

// stream is one direction of a connection.
type stream struct {
	next uint32 // number of the next byte
	data []byte // the beginning of a message
}

// packet reads a packet.
func (b *book) packet(p packet.Packet) {
	s, ok := decode(p)
	if !ok {
		return
	}
	// What others ask a name server in the container is not its own question.
	own := p.Outgoing || p.Interface == loopback
	switch {
	case s.refused:
		b.refused(s, p.Time)
	case s.proto == unix.IPPROTO_UDP:
		b.message(flow{"udp", s.src, s.dst}, s.data, p.Time, own)
	default:
		b.tcp(s, p.Time, own)
	}
}

// message reads a question or an answer.
func (b *book) message(f flow, data []byte, at time.Time, own bool) {
	var m dns.Msg
	// Of the first fragment of an answer the beginning is enough.
	if err := m.Unpack(data); err != nil && (!m.Response || len(m.Question) == 0) {
		return
	}
	switch {
	case m.Response && f.src.Port() == port:
		b.answer(f, &m, at)
	case !m.Response && f.dst.Port() == port && own && len(m.Question) == 1 && m.Opcode == dns.OpcodeQuery:
		b.question(f, &m, at)
	}
}

func (b *book) question(f flow, m *dns.Msg, at time.Time) {
	key := question{f, m.Id}
	if b.asked[key] != nil {
		return // again, or on another interface
	}
	p, told := b.who(f.network, f.src, f.dst)
	if !told {
		return
	}
	if len(b.asked) >= mostAsked {
		b.lost++
		return
	}
	e := &api.TraceEvent{Kind: api.TraceDNS, Time: at.UTC(), DNS: &api.TraceQuery{
		Protocol: f.network, Server: f.dst.String(), Source: api.SourcePackets,
	}}
	e.DNS.Name, e.DNS.Type = resolver.Words(m.Question[0])
	process(e, p)
	b.asked[key] = e
	b.order = append(b.order, key)
}

func process(e *api.TraceEvent, p *sockowner.Process) {
	if p != nil {
		e.HostPID, e.PID, e.Name = p.PID, p.Inside, p.Name
	}
}

func (b *book) answer(f flow, m *dns.Msg, at time.Time) {
	key := question{flow{f.network, f.dst, f.src}, m.Id}
	e := b.asked[key]
	if e == nil {
		return
	}
	e.DNS.Code, e.DNS.Answers, e.DNS.Truncated = dns.RcodeToString[m.Rcode], resolver.Answers(m.Answer), m.Truncated
	b.done(key, at, "")
}

// done tells of a question.
func (b *book) done(key question, at time.Time, failure string) {
	e := b.asked[key]
	delete(b.asked, key)
	e.TookNanoseconds, e.DNS.Error = int64(max(at.Sub(e.Time), 0)), failure
	b.tell(e)
}

// refused ends the questions of a flow that a host sends back.
func (b *book) refused(s segment, at time.Time) {
	f := flow{"udp", s.src, s.dst}
	if s.proto == unix.IPPROTO_TCP {
		f.network = "tcp"
	}
	b.end(f, at, "it was not delivered, says "+s.from.String())
}

func (b *book) end(f flow, at time.Time, failure string) {
	if f.dst.Port() != port {
		return
	}
	for key := range b.asked {
		if key.flow == f {
			b.done(key, at, failure)
		}
	}
}

// tcp reads a segment of a connection.
func (b *book) tcp(s segment, at time.Time, own bool) {
	f := flow{"tcp", s.src, s.dst}
	if s.flags&syn != 0 {
		b.begin(f, s.seq+1)
		return
	}
	if len(s.data) > 0 {
		if b.streams[f] == nil { // it was there before us: a message begins here, likely
			b.begin(f, s.seq)
		}
		b.stream(f, s, at, own)
	}
	if s.flags&(fin|rst) == 0 {
		return
	}
	delete(b.streams, f)
	// Of one that is cut off nothing more is answered.
	if s.flags&rst != 0 {
		b.end(f, at, "the connection was cut off by the client")
		b.end(flow{"tcp", s.dst, s.src}, at, "the server has cut the connection off")
	}
}

func (b *book) begin(f flow, next uint32) {
	if len(b.streams) >= 2*mostStreams {
		for other := range b.streams { // any one: it goes on as one that was there before us
			delete(b.streams, other)
			b.lost++
			break
		}
	}
	b.streams[f] = &stream{next: next}
}

// stream adds a segment to its stream, and reads the messages that are whole.
func (b *book) stream(f flow, s segment, at time.Time, own bool) {
	x := b.streams[f]
	behind := int32(x.next - s.seq) // of what was sent again
	if behind < 0 {                 // one is missing
		delete(b.streams, f)
		b.lost++
		return
	}
	if int(behind) >= len(s.data) {
		return
	}
	x.data = append(x.data, s.data[behind:]...)
	x.next = s.seq + uint32(len(s.data))
	rest := x.data
	for len(rest) >= 2 {
		n := 2 + int(binary.BigEndian.Uint16(rest))
		if len(rest) < n {
			break
		}
		b.message(f, rest[2:n], at, own)
		rest = rest[n:]
	}
	x.data = append([]byte(nil), rest...)
}

// expire gives up what has waited for too long.
func (b *book) expire(now time.Time) {
	for len(b.order) > 0 {
		key := b.order[0]
		if e := b.asked[key]; e != nil {
			if now.Sub(e.Time) < noAnswer {
				return
			}
			b.done(key, now, "no answer in "+noAnswer.String())
		}
		b.order = b.order[1:]
	}
}

// rest tells of what waits when nobody looks any more.
func (b *book) rest(now time.Time) {
	for _, key := range b.order {
		if b.asked[key] != nil {
			b.done(key, now, "no answer by the end of the trace")
		}
	}
}

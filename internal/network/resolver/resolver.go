// Package resolver answers the questions for names of one container: from the
// names on its networks, else from an upstream server. It remembers what was
// asked and what became of it.
//
// A [Resolver] is a handler of github.com/miekg/dns. Who is on which network, and
// where upstream servers are, it asks its [Source].
package resolver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/portholehq/porthole/internal/linux/sockowner"
)

// Source knows the names. Its methods are called by several goroutines at once.
type Source interface {
	// Lookup finds a name, in lower case and without the dot at its end. A name
	// that is known and has no addresses of one family is found all the same.
	Lookup(name string) (addrs []netip.Addr, found bool)
	// Reverse finds the name of an address, without the dot.
	Reverse(a netip.Addr) (name string, found bool)
	// Upstreams are the servers to ask for other names, in order. With external
	// false nobody is to be asked: the container has no way out.
	Upstreams() (list []Upstream, external bool)
	// Dial connects to a server by "udp" or "tcp".
	Dial(ctx context.Context, network string, u Upstream) (net.Conn, error)
}

// Upstream is a server to ask.
type Upstream struct {
	Addr netip.AddrPort
	// Inside asks from the container's network namespace, not from the host's.
	Inside bool
	// From tells where the server was named: a file, or an option.
	From string
}

// Embedded is what a query's Server says when the answer came from the names on
// the container's networks.
const Embedded = "embedded"

// Query is a question with what became of it.
type Query struct {
	At       time.Time     `json:"at"`
	Name     string        `json:"name"`
	Type     string        `json:"type"`
	Protocol string        `json:"protocol"` // udp or tcp
	Server   string        `json:"server"`   // who answered, or was asked last; empty: nobody was asked
	From     string        `json:"from,omitempty"`
	Code     string        `json:"code"` // NOERROR, NXDOMAIN, ...
	Answers  []string      `json:"answers,omitempty"`
	Took     time.Duration `json:"took"`
	Error    string        `json:"error,omitempty"`
	// Asker is the process that has asked; nil where it is not known, or nobody
	// follows the queries.
	Asker *sockowner.Process `json:"asker,omitempty"`
}

// ttl of names on the networks: they change as containers come and go. It is
// what Docker gives.
const ttl = 600

// attempt is how long one server gets to answer.
const attempt = 3 * time.Second

// maxAsking is how many questions of a container may wait for servers at once, as
// with Docker. Each has a socket and a buffer, which are not the container's.
const maxAsking = 1024

// Resolver answers for one container.
type Resolver struct {
	source Source
	log    *Log
	asking chan struct{} // has a token for each question that waits for servers

	// Asker, which may be nil, finds who asks from an address. It is called while
	// the question waits, and only when somebody follows the log.
	Asker func(network string, client netip.AddrPort) *sockowner.Process
}

// New returns a resolver that writes down queries in log.
func New(source Source, log *Log) *Resolver {
	return &Resolver{source: source, log: log, asking: make(chan struct{}, maxAsking)}
}

// ServeDNS answers one question.
func (r *Resolver) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	begin := time.Now()
	network := w.LocalAddr().Network()
	q := Query{At: begin, Protocol: network}
	if r.Asker != nil && r.log.Followed() {
		if client, err := netip.ParseAddrPort(w.RemoteAddr().String()); err == nil {
			q.Asker = r.Asker(network, client)
		}
	}
	resp := r.answer(network, req, &q)
	q.Took = time.Since(begin)
	q.Code = dns.RcodeToString[resp.Rcode]
	q.Answers = Answers(resp.Answer)
	r.log.add(q)
	if network == "udp" {
		resp.Truncate(bufferSize(req))
	}
	_ = w.WriteMsg(resp) // who has asked and gone hears nothing
}

// bufferSize is the longest answer that the client takes by UDP.
func bufferSize(req *dns.Msg) int {
	if opt := req.IsEdns0(); opt != nil {
		return max(int(opt.UDPSize()), dns.MinMsgSize)
	}
	return dns.MinMsgSize
}

// What the log keeps of an answer, which may be of 64 KB and made to fill memory.
const (
	keptAnswers = 16
	keptBytes   = 256 // of each
)

// Answers are the records of an answer in words, as much of them as the log keeps.
func Answers(answers []dns.RR) (list []string) {
	for i, rr := range answers {
		if i == keptAnswers {
			return append(list, fmt.Sprintf("and %d more", len(answers)-i))
		}
		text := data(rr)
		if len(text) > keptBytes {
			text = text[:keptBytes] + "..." // all of it is ASCII
		}
		list = append(list, strings.Clone(text))
	}
	return list
}

// data is a record without what the question says already.
func data(rr dns.RR) string {
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

func (r *Resolver) answer(network string, req *dns.Msg, q *Query) *dns.Msg {
	if len(req.Question) != 1 || req.Opcode != dns.OpcodeQuery {
		q.Error = "not one question"
		return reply(req, dns.RcodeFormatError)
	}
	question := req.Question[0]
	q.Name, q.Type = Words(question)
	if resp := r.local(req, question); resp != nil {
		q.Server = Embedded
		return resp
	}
	return r.forward(network, req, q)
}

// Words are the name and the type of a question as the log has them.
func Words(q dns.Question) (name, typ string) {
	name, typ = strings.TrimSuffix(q.Name, "."), dns.TypeToString[q.Qtype]
	if typ == "" {
		typ = "TYPE" + strconv.Itoa(int(q.Qtype))
	}
	if name == "" {
		name = "."
	}
	return name, typ
}

// reply is an answer to req without records. It tells an EDNS client that we
// know of that, too.
func reply(req *dns.Msg, code int) *dns.Msg {
	resp := new(dns.Msg)
	resp.SetRcode(req, code)
	resp.RecursionAvailable = true
	if opt := req.IsEdns0(); opt != nil {
		resp.SetEdns0(dns.DefaultMsgSize, opt.Do())
	}
	return resp
}

// local answers from the networks' names; nil: it is no name of theirs.
func (r *Resolver) local(req *dns.Msg, q dns.Question) *dns.Msg {
	if q.Qclass != dns.ClassINET {
		return nil
	}
	if q.Qtype == dns.TypePTR {
		return r.pointer(req, q)
	}
	addrs, found := r.source.Lookup(strings.ToLower(strings.TrimSuffix(q.Name, ".")))
	if !found {
		return nil
	}
	resp := reply(req, dns.RcodeSuccess)
	for _, a := range addrs {
		header := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Ttl: ttl}
		switch {
		case a.Is4() && q.Qtype == dns.TypeA:
			header.Rrtype = dns.TypeA
			resp.Answer = append(resp.Answer, &dns.A{Hdr: header, A: a.AsSlice()})
		case a.Is6() && q.Qtype == dns.TypeAAAA:
			header.Rrtype = dns.TypeAAAA
			resp.Answer = append(resp.Answer, &dns.AAAA{Hdr: header, AAAA: a.AsSlice()})
		}
	}
	// Clients take the first one: each time another.
	rand.Shuffle(len(resp.Answer), func(i, j int) { resp.Answer[i], resp.Answer[j] = resp.Answer[j], resp.Answer[i] })
	return resp
}

func (r *Resolver) pointer(req *dns.Msg, q dns.Question) *dns.Msg {
	a, ok := pointerAddress(q.Name)
	if !ok {
		return nil
	}
	name, found := r.source.Reverse(a)
	if !found {
		return nil
	}
	resp := reply(req, dns.RcodeSuccess)
	header := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Rrtype: dns.TypePTR, Ttl: ttl}
	resp.Answer = append(resp.Answer, &dns.PTR{Hdr: header, Ptr: dns.Fqdn(name)})
	return resp
}

// pointerAddress is the address that a name below in-addr.arpa or ip6.arpa
// stands for, see RFC 1035 section 3.5 and RFC 3596 section 2.5.
func pointerAddress(name string) (netip.Addr, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		p := strings.Split(rest, ".")
		if len(p) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(p[3] + "." + p[2] + "." + p[1] + "." + p[0])
		return a, err == nil
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	nibbles := strings.Split(rest, ".")
	if !ok || len(nibbles) != 32 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := 31; i >= 0; i-- {
		b.WriteString(nibbles[i])
		if i%4 == 0 && i > 0 {
			b.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil
}

// forward asks the servers, one after the other, until one gives an answer that
// means something.
func (r *Resolver) forward(network string, req *dns.Msg, q *Query) *dns.Msg {
	servers, external := r.source.Upstreams()
	if !external {
		q.Error = "the container is on internal networks only: nobody outside is asked"
		return reply(req, dns.RcodeNameError)
	}
	if len(servers) == 0 {
		q.Error = "the host has no name servers"
		return reply(req, dns.RcodeServerFailure)
	}
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	default:
		q.Error = fmt.Sprintf("the container waits for answers to %d other questions", maxAsking)
		return reply(req, dns.RcodeServerFailure)
	}
	var refused *dns.Msg
	for _, u := range servers {
		q.Server, q.From = u.Addr.String(), u.From
		resp, err := r.exchange(network, u, req)
		if err != nil {
			q.Error = err.Error()
			continue
		}
		q.Error = ""
		if resp.Rcode == dns.RcodeServerFailure || resp.Rcode == dns.RcodeRefused {
			refused = resp
			continue
		}
		return resp
	}
	if refused != nil {
		return refused
	}
	return reply(req, dns.RcodeServerFailure)
}

// exchange asks one server, as the client has asked us.
func (r *Resolver) exchange(network string, u Upstream, req *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(context.Background(), attempt)
	defer cancel()
	conn, err := r.source.Dial(ctx, network, u)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	c := &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}
	sent := req.Copy()
	sent.Id = dns.Id() // not the one that the container has chosen, which could be guessed
	if err := c.WriteMsg(sent); err != nil {
		return nil, err
	}
	for {
		resp, err := c.ReadMsg()
		if err != nil {
			return nil, err
		}
		if resp.Id != sent.Id || !sameQuestion(resp, sent) {
			if network == "tcp" {
				return nil, errors.New("the answer is to another question")
			}
			continue // late, or made up by somebody
		}
		resp.Id = req.Id
		return resp, nil
	}
}

func sameQuestion(a, b *dns.Msg) bool {
	return len(a.Question) == 1 && len(b.Question) == 1 && a.Question[0].Qtype == b.Question[0].Qtype &&
		strings.EqualFold(a.Question[0].Name, b.Question[0].Name)
}

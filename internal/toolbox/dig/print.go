package dig

import (
	"fmt"
	"io"
	"strings"

	"github.com/miekg/dns"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// printer shows replies.
type printer struct {
	out io.Writer
	q   *query
}

// line prints a line of which only tabs are not shown.
func (p *printer) line(text string) {
	fields := strings.Split(text, "\t")
	for i := range fields {
		fields[i] = screen.Visible(fields[i])
	}
	fmt.Fprintln(p.out, strings.Join(fields, "\t"))
}

func (p *printer) note(text string) { p.line(";; " + text) }

func (p *printer) header(commandLine string) {
	if p.q.show["cmd"] && !p.q.short {
		p.line("")
		p.line("; <<>> DiG (of porthole's tools) <<>> " + commandLine)
		p.note("global options: +cmd")
	}
}

// reply prints an answer, by section.
func (p *printer) reply(r *reply) {
	q, m := p.q, r.msg
	if q.short {
		for _, rr := range m.Answer {
			p.line(data(rr))
		}
		return
	}
	if q.show["comments"] {
		p.note("Got answer:")
		p.note(fmt.Sprintf("->>HEADER<<- opcode: %s, status: %s, id: %d", dns.OpcodeToString[m.Opcode], status(m), m.Id))
		p.note(fmt.Sprintf("flags:%s; QUERY: %d, ANSWER: %d, AUTHORITY: %d, ADDITIONAL: %d", flags(m), len(m.Question), len(m.Answer), len(m.Ns), len(m.Extra)))
		if m.RecursionDesired && !m.RecursionAvailable {
			p.note("WARNING: recursion requested but not available")
		}
		p.line("")
		p.edns(m)
	}
	if q.show["question"] && len(m.Question) > 0 {
		p.title("QUESTION")
		for _, question := range m.Question {
			p.line(pad(";"+question.Name, 32) + dns.ClassToString[question.Qclass] + "\t" + dns.Type(question.Qtype).String())
		}
		p.gap()
	}
	p.section("answer", m.Answer)
	p.section("authority", m.Ns)
	p.section("additional", m.Extra)
	if q.show["stats"] {
		p.note(fmt.Sprintf("Query time: %d msec", r.took.Milliseconds()))
		p.note(fmt.Sprintf("SERVER: %s(%s) (%s)", r.from, r.from.name, map[bool]string{false: "UDP", true: "TCP"}[r.tcp]))
		p.note("WHEN: " + r.at.Format("Mon Jan 02 15:04:05 MST 2006"))
		p.note(fmt.Sprintf("MSG SIZE  rcvd: %d", m.Len()))
		p.line("")
	}
}

func (p *printer) title(section string) {
	if p.q.show["comments"] {
		p.note(section + " SECTION:")
	}
}

func (p *printer) gap() {
	if p.q.show["comments"] {
		p.line("")
	}
}

func (p *printer) edns(m *dns.Msg) {
	opt := m.IsEdns0()
	if opt == nil {
		return
	}
	do := ""
	if opt.Do() {
		do = " do"
	}
	p.note("OPT PSEUDOSECTION:")
	p.line(fmt.Sprintf("; EDNS: version: %d, flags:%s; udp: %d", opt.Version(), do, opt.UDPSize()))
	for _, o := range opt.Option {
		if s, ok := o.(*dns.EDNS0_SUBNET); ok {
			p.line("; CLIENT-SUBNET: " + s.String())
		} else {
			p.line(fmt.Sprintf("; OPT=%d: %s", o.Option(), o.String()))
		}
	}
}

// section prints records; of the additional ones the OPT is told elsewhere.
func (p *printer) section(name string, list []dns.RR) {
	if !p.q.show[name] {
		return
	}
	shown := 0
	for _, rr := range list {
		if rr.Header().Rrtype == dns.TypeOPT {
			continue
		}
		if shown == 0 {
			p.title(strings.ToUpper(name))
		}
		shown++
		p.record(rr)
	}
	if shown > 0 {
		p.gap()
	}
}

// record prints a record in dig's columns.
func (p *printer) record(rr dns.RR) {
	h := rr.Header()
	p.line(pad(h.Name, 24) + fmt.Sprintf("%d\t%s\t%s\t%s", h.Ttl, dns.Class(h.Class), dns.Type(h.Rrtype), data(rr)))
}

// data is a record without its name, time, class and type.
func data(rr dns.RR) string {
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

// pad fills a field by tabs; one is always there.
func pad(text string, column int) string {
	n := len(text)
	text += "\t"
	for n = n/8*8 + 8; n < column; n += 8 {
		text += "\t"
	}
	return text
}

func status(m *dns.Msg) string {
	if s, ok := dns.RcodeToString[m.Rcode]; ok {
		return s
	}
	return fmt.Sprintf("RESERVED%d", m.Rcode)
}

func flags(m *dns.Msg) string {
	var b strings.Builder
	for _, f := range []struct {
		on   bool
		name string
	}{
		{m.Response, "qr"},
		{m.Authoritative, "aa"},
		{m.Truncated, "tc"},
		{m.RecursionDesired, "rd"},
		{m.RecursionAvailable, "ra"},
		{m.AuthenticatedData, "ad"},
		{m.CheckingDisabled, "cd"},
	} {
		if f.on {
			b.WriteString(" " + f.name)
		}
	}
	return b.String()
}

// referral prints a step of +trace and returns the name servers to ask next;
// none: this was the answer.
func (p *printer) referral(r *reply) (next []string) {
	list := r.msg.Answer
	isRoot := len(r.msg.Question) > 0 && r.msg.Question[0].Name == "." && r.msg.RecursionDesired
	if len(list) == 0 {
		list = r.msg.Ns
	}
	for _, rr := range list {
		ns, ok := rr.(*dns.NS)
		if ok && (isRoot || len(r.msg.Answer) == 0) {
			next = append(next, ns.Ns)
		}
		if p.q.short {
			if len(r.msg.Answer) > 0 && !isRoot {
				p.line(data(rr))
			}
			continue
		}
		p.record(rr)
	}
	if !p.q.short {
		p.note(fmt.Sprintf("Received %d bytes from %s(%s) in %d ms", r.msg.Len(), r.from, r.from.name, r.took.Milliseconds()))
		p.line("")
	}
	return next
}

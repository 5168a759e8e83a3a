// Package dig is the command dig of the toolbox: it asks name servers and shows
// their answers whole, in the layout of BIND's dig. The protocol is
// github.com/miekg/dns. An option that it does not have is an error.
package dig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Statuses of dig(1).
const (
	badUsage = 1
	noReply  = 9
	internal = 10
)

const usage = `Usage: dig [@SERVER] [-4|-6] [-p PORT] [-t TYPE] [-c CLASS] [-q NAME] [-x ADDRESS] [NAME] [TYPE] [CLASS] [+OPTION...]
  TYPE    a, aaaa, any, mx, ns, ptr, soa, srv, txt, ...; axfr
  +OPTION +short +trace +tcp (+vc) +[no]recurse +[no]dnssec +[no]edns +[no]all +[no]cmd +[no]comments +[no]question
          +[no]answer +[no]authority +[no]additional +[no]stats +[no]adflag +[no]cdflag +[no]search +ignore
          +time=SECONDS +tries=N +retry=N +bufsize=BYTES +subnet=ADDRESS/BITS
Answers are shown whatever their status; 9 means that no server replied.
`

// Main runs the command with the arguments after its name and returns its exit
// status.
func Main(_ io.Reader, out, stderr io.Writer, args []string) int {
	list, err := parse(args)
	if errors.Is(err, errHelp) {
		fmt.Fprint(out, usage)
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "dig: %v\n%s", err, usage)
		return badUsage
	}
	status := 0
	for i := range list {
		if err := list[i].run(out, strings.Join(args, " ")); err != nil {
			fmt.Fprintf(out, ";; %v\n", err)
			if status = noReply; !errors.Is(err, errNoServers) {
				status = internal
			}
		}
	}
	return status
}

var (
	errHelp      = errors.New("help")
	errNoServers = errors.New("no servers could be reached")
)

// query is a question, to whom, and what of the answer is shown.
type query struct {
	server, port  string
	name          string
	kind, class   uint16
	kindSet       bool
	ipv4, ipv6    bool
	short, trace  bool
	tcp, ignore   bool
	recurse, edns bool
	dnssec        bool
	ad, cd        bool
	search        bool
	bufsize       uint16
	subnet        netip.Prefix
	timeout       time.Duration
	tries         int
	show          map[string]bool // cmd, comments, question, answer, authority, additional, stats
}

var sections = []string{"cmd", "comments", "question", "answer", "authority", "additional", "stats"}

func newQuery() query {
	q := query{port: "53", class: dns.ClassINET, kind: dns.TypeA, recurse: true, edns: true, ad: true, bufsize: 1232, timeout: 5 * time.Second, tries: 3, show: map[string]bool{}}
	q.showAll(true)
	return q
}

func (q *query) showAll(on bool) {
	for _, s := range sections {
		q.show[s] = on
	}
}

// parse reads the command line. Options before the first name are for all names,
// others for the name before them.
func parse(args []string) ([]query, error) {
	common := newQuery()
	var list []query
	current := &common
	next := func(name string) {
		q := common
		q.show = map[string]bool{}
		maps.Copy(q.show, common.show)
		q.name = name
		list = append(list, q)
		current = &list[len(list)-1]
	}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		value := func() (string, error) {
			if len(arg) > 2 {
				return arg[2:], nil
			}
			if i++; i >= len(args) {
				return "", fmt.Errorf("option %s needs a value", arg)
			}
			return args[i], nil
		}
		switch {
		case arg == "-h" || arg == "--help":
			return nil, errHelp
		case strings.HasPrefix(arg, "@") && len(arg) > 1:
			current.server = arg[1:]
			if current != &common && len(list) == 1 {
				common.server = arg[1:]
			}
		case strings.HasPrefix(arg, "+"):
			if err := current.option(arg); err != nil {
				return nil, err
			}
		case arg == "-4":
			current.ipv4 = true
		case arg == "-6":
			current.ipv6 = true
		case len(arg) > 1 && arg[0] == '-' && strings.IndexByte("ptcqx", arg[1]) >= 0:
			v, err := value()
			if err != nil {
				return nil, err
			}
			switch arg[1] {
			case 'q':
				next(v)
			case 'x':
				reverse, err := dns.ReverseAddr(v)
				if err != nil {
					return nil, fmt.Errorf("-x needs an address, not %q", v)
				}
				next(reverse)
				current.kind, current.kindSet = dns.TypePTR, true
			default:
				if err := current.letter(arg[1], v); err != nil {
					return nil, err
				}
			}
		case strings.HasPrefix(arg, "-"):
			return nil, fmt.Errorf("invalid option: %s", arg)
		default:
			if kind, ok := typeOf(arg); ok && !current.kindSet {
				current.kind, current.kindSet = kind, true
			} else if class, ok := dns.StringToClass[strings.ToUpper(arg)]; ok && current != &common {
				current.class = class
			} else {
				next(arg)
			}
		}
	}
	if len(list) == 0 {
		next(".")
		if !current.kindSet {
			current.kind = dns.TypeNS
		}
	}
	return list, nil
}

func typeOf(text string) (uint16, bool) {
	text = strings.ToUpper(text)
	if n, ok := strings.CutPrefix(text, "TYPE"); ok {
		if v, err := strconv.ParseUint(n, 10, 16); err == nil {
			return uint16(v), true
		}
	}
	kind, ok := dns.StringToType[text]
	return kind, ok
}

func (q *query) letter(letter byte, v string) error {
	switch letter {
	case 'p':
		if n, err := strconv.ParseUint(v, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("couldn't parse port number %q", v)
		}
		q.port = v
	case 't':
		kind, ok := typeOf(v)
		if !ok {
			return fmt.Errorf("unknown type %q", v)
		}
		q.kind, q.kindSet = kind, true
	case 'c':
		class, ok := dns.StringToClass[strings.ToUpper(v)]
		if !ok {
			return fmt.Errorf("unknown class %q", v)
		}
		q.class = class
	}
	return nil
}

// option applies a "+[no]NAME[=VALUE]".
func (q *query) option(arg string) error {
	name, value, valued := strings.Cut(arg[1:], "=")
	on := true
	if rest, ok := strings.CutPrefix(name, "no"); ok {
		name, on = rest, false
	}
	switches := map[string]*bool{
		"tcp": &q.tcp, "vc": &q.tcp, "ignore": &q.ignore, "recurse": &q.recurse, "rec": &q.recurse, "edns": &q.edns,
		"dnssec": &q.dnssec, "do": &q.dnssec, "adflag": &q.ad, "ad": &q.ad, "cdflag": &q.cd, "cd": &q.cd, "search": &q.search, "trace": &q.trace, "short": &q.short,
	}
	if to := switches[name]; to != nil && (!valued || name == "edns") {
		*to = on
		return nil
	}
	if slices.Contains(sections, name) && !valued {
		q.show[name] = on
		return nil
	}
	switch {
	case name == "all" && !valued:
		q.showAll(on)
		return nil
	case !on || !valued:
		return fmt.Errorf("invalid option: %s", arg)
	}
	return q.number(arg, name, value)
}

func (q *query) number(arg, name, value string) error {
	if name == "subnet" {
		p, err := netip.ParsePrefix(value)
		if a, addrErr := netip.ParseAddr(value); addrErr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return fmt.Errorf("couldn't parse %s: %w", arg, err)
		}
		q.subnet = p.Masked()
		return nil
	}
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return fmt.Errorf("couldn't parse %s", arg)
	}
	switch name {
	case "time", "timeout":
		q.timeout = time.Duration(max(1, n)) * time.Second
	case "tries":
		q.tries = int(max(1, n))
	case "retry":
		q.tries = int(n) + 1
	case "bufsize":
		q.bufsize = uint16(n)
	default:
		return fmt.Errorf("invalid option: %s", arg)
	}
	return nil
}

// message is the query as it is sent.
func (q *query) message(name string) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, q.kind)
	m.Question[0].Qclass = q.class
	m.RecursionDesired, m.AuthenticatedData, m.CheckingDisabled = q.recurse, q.ad, q.cd
	if !q.edns && !q.dnssec && !q.subnet.IsValid() {
		return m
	}
	m.SetEdns0(max(512, q.bufsize), q.dnssec)
	if q.subnet.IsValid() {
		family := uint16(1)
		if q.subnet.Addr().Is6() {
			family = 2
		}
		opt := m.IsEdns0()
		opt.Option = append(opt.Option, &dns.EDNS0_SUBNET{
			Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(q.subnet.Bits()), Address: q.subnet.Addr().AsSlice(),
		})
	}
	return m
}

// server is a name server to ask.
type server struct {
	name    string // as it was given
	address string
	port    string
}

func (s server) String() string { return s.address + "#" + s.port }

// servers are those to ask in turn: the one that was given, or the system's.
func (q *query) servers(ctx context.Context) ([]server, []string, error) {
	var searched []string
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err == nil && q.search {
		searched = config.Search
	}
	if q.server == "" {
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, nil, err
		}
		if err != nil || len(config.Servers) == 0 {
			return []server{{"127.0.0.1", "127.0.0.1", q.port}}, searched, nil //nolint:nilerr // as resolv.conf(5) has it
		}
		var list []server
		for _, s := range config.Servers {
			list = append(list, server{s, s, q.port})
		}
		return list, searched, nil
	}
	addrs, err := q.addresses(ctx, q.server)
	if err != nil {
		return nil, nil, fmt.Errorf("couldn't get address for '%s': not found", q.server)
	}
	var list []server
	for _, a := range addrs {
		list = append(list, server{q.server, a, q.port})
	}
	return list, searched, nil
}

// addresses are those of a host, of the family that is asked for.
func (q *query) addresses(ctx context.Context, host string) ([]string, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []string{a.String()}, nil
	}
	network := "ip"
	if q.ipv4 {
		network = "ip4"
	} else if q.ipv6 {
		network = "ip6"
	}
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	r := &net.Resolver{PreferGo: true}
	list, err := r.LookupNetIP(ctx, network, host)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, a := range list {
		out = append(out, a.Unmap().String())
	}
	return out, nil
}

// reply is an answer and how it came.
type reply struct {
	msg  *dns.Msg
	from server
	took time.Duration
	at   time.Time
	tcp  bool
}

// run asks and shows.
func (q *query) run(out io.Writer, commandLine string) error {
	ctx := context.Background()
	servers, searched, err := q.servers(ctx)
	if err != nil {
		return err
	}
	p := &printer{out: out, q: q}
	p.header(commandLine)
	if q.trace {
		return q.follow(ctx, p, servers)
	}
	names := []string{dns.Fqdn(q.name)}
	if q.search && !strings.HasSuffix(q.name, ".") && !strings.Contains(q.name, ".") {
		names = nil
		for _, d := range searched {
			names = append(names, dns.Fqdn(q.name+"."+d))
		}
		names = append(names, dns.Fqdn(q.name))
	}
	if q.kind == dns.TypeAXFR {
		return q.transfer(p, servers[0], names[0])
	}
	for i, name := range names {
		r, err := q.ask(ctx, p, servers, q.message(name))
		if err != nil {
			return err
		}
		if r.msg.Rcode == dns.RcodeNameError && i < len(names)-1 {
			continue
		}
		p.reply(r)
		return nil
	}
	return nil
}

// ask sends a message to one server after another, each as often as is asked
// for, until one replies. What goes wrong meanwhile is told.
func (q *query) ask(ctx context.Context, p *printer, servers []server, m *dns.Msg) (*reply, error) {
	for range q.tries {
		for _, s := range servers {
			r, err := q.once(ctx, s, m, q.tcp)
			if err != nil {
				p.note("communications error to " + s.String() + ": " + problem(err))
				continue
			}
			if r.msg.Truncated && !r.tcp && !q.ignore {
				p.note("Truncated, retrying in TCP mode.")
				if r, err = q.once(ctx, s, m, true); err != nil {
					p.note("communications error to " + s.String() + ": " + problem(err))
					continue
				}
			}
			return r, nil
		}
	}
	return nil, errNoServers
}

func (q *query) once(ctx context.Context, s server, m *dns.Msg, tcp bool) (*reply, error) {
	client := dns.Client{Net: "udp", Timeout: q.timeout, UDPSize: max(512, q.bufsize)}
	if tcp {
		client.Net = "tcp"
	}
	if q.ipv4 {
		client.Net += "4"
	} else if q.ipv6 {
		client.Net += "6"
	}
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	at := time.Now()
	answer, took, err := client.ExchangeContext(ctx, m, net.JoinHostPort(s.address, s.port))
	if err != nil {
		return nil, err
	}
	return &reply{msg: answer, from: s, took: took, at: at, tcp: tcp}, nil
}

// problem is an error in dig's words.
func problem(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "timed out"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		var call *os.SyscallError
		if errors.As(op.Err, &call) {
			return call.Err.Error()
		}
		return op.Err.Error()
	}
	return err.Error()
}

// transfer shows a whole zone.
func (q *query) transfer(p *printer, s server, name string) error {
	m := new(dns.Msg)
	m.SetAxfr(name)
	t := dns.Transfer{DialTimeout: q.timeout, ReadTimeout: q.timeout}
	parts, err := t.In(m, net.JoinHostPort(s.address, s.port))
	if err != nil {
		p.note("communications error to " + s.String() + ": " + problem(err))
		return errNoServers
	}
	for e := range parts {
		if e.Error != nil {
			p.line("; Transfer failed: " + e.Error.Error())
			return nil //nolint:nilerr // it has been told, and dig goes on
		}
		for _, rr := range e.RR {
			p.record(rr)
		}
	}
	return nil
}

// stepsMost bounds the way from the root to a name.
const stepsMost = 30

// follow asks from the root downwards, without recursion.
func (q *query) follow(ctx context.Context, p *printer, servers []server) error {
	root := *q
	root.kind, root.name = dns.TypeNS, "."
	r, err := root.ask(ctx, p, servers, root.message("."))
	if err != nil {
		return err
	}
	step := *q
	step.recurse = false
	for range stepsMost {
		next := p.referral(r)
		if len(next) == 0 {
			return nil
		}
		var list []server
		for _, name := range next {
			for _, a := range glue(r.msg, name, q) {
				list = append(list, server{name, a, q.port})
			}
		}
		for i := 0; len(list) == 0 && i < len(next); i++ {
			addrs, err := q.addresses(ctx, next[i])
			if err != nil {
				p.note("couldn't get address for '" + next[i] + "': not found")
				continue
			}
			for _, a := range addrs {
				list = append(list, server{next[i], a, q.port})
			}
		}
		if r, err = step.ask(ctx, p, list, step.message(dns.Fqdn(q.name))); err != nil {
			return err
		}
	}
	return fmt.Errorf("more than %d steps", stepsMost)
}

// glue are the addresses that an answer gives for a name server.
func glue(m *dns.Msg, name string, q *query) []string {
	var list []string
	for _, rr := range m.Extra {
		if !strings.EqualFold(rr.Header().Name, name) {
			continue
		}
		switch a := rr.(type) {
		case *dns.A:
			if !q.ipv6 {
				list = append(list, a.A.String())
			}
		case *dns.AAAA:
			if q.ipv6 {
				list = append(list, a.AAAA.String())
			}
		}
	}
	return list
}

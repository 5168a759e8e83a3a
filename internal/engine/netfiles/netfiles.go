// Package netfiles makes the contents of a container's /etc/hosts, /etc/hostname and /etc/resolv.conf. All functions are
// pure: reading the host's files and writing the container's is the caller's business.
package netfiles

import (
	"net/netip"
	"slices"
	"strings"
)

// Host is one line of /etc/hosts.
type Host struct {
	IP    string
	Names []string
}

var loopback = []Host{
	{"127.0.0.1", []string{"localhost"}},
	{"::1", []string{"localhost", "ip6-localhost", "ip6-loopback"}},
	{"fe00::", []string{"ip6-localnet"}},
	{"ff00::", []string{"ip6-mcastprefix"}},
	{"ff02::1", []string{"ip6-allnodes"}},
	{"ff02::2", []string{"ip6-allrouters"}},
}

// Hosts makes an /etc/hosts of the usual loopback names and more. base, the host's own file, replaces the loopback names
// if it is not empty, for containers in the host's network.
func Hosts(base string, more []Host) string {
	var b strings.Builder
	if base != "" {
		b.WriteString(base)
		if !strings.HasSuffix(base, "\n") {
			b.WriteByte('\n')
		}
	} else {
		writeHosts(&b, loopback)
	}
	writeHosts(&b, more)
	return b.String()
}

func writeHosts(b *strings.Builder, hosts []Host) {
	for _, h := range hosts {
		b.WriteString(h.IP + "\t" + strings.Join(h.Names, " ") + "\n")
	}
}

// Extra reads --add-host's NAME:IP. gateway stands for the special IP host-gateway; if it is not valid such an entry is
// reported in missing.
func Extra(specs []string, gateway netip.Addr) (hosts []Host, missing []string) {
	for _, spec := range specs {
		name, ip, ok := strings.Cut(spec, ":")
		if !ok {
			name, ip, ok = strings.Cut(spec, "=")
		}
		if !ok {
			continue // refused when the container was created
		}
		ip = strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]")
		if ip == "host-gateway" {
			if !gateway.IsValid() {
				missing = append(missing, spec)
				continue
			}
			ip = gateway.String()
		}
		hosts = append(hosts, Host{IP: ip, Names: []string{name}})
	}
	return hosts, missing
}

// Resolver is the content of a resolv.conf.
type Resolver struct {
	Servers []string
	Search  []string
	Options []string
}

// ParseResolver reads a resolv.conf. The last search or domain line counts, as in the C library.
func ParseResolver(text string) Resolver {
	var r Resolver
	for line := range strings.Lines(text) {
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			r.Servers = append(r.Servers, f[1])
		case "search", "domain":
			r.Search = f[1:]
		case "options":
			r.Options = append(r.Options, f[1:]...)
		}
	}
	return r
}

// IsStub tells that the only server is systemd-resolved's on 127.0.0.53, which containers cannot reach; the real ones
// are in /run/systemd/resolve/resolv.conf.
func (r Resolver) IsStub() bool {
	return len(r.Servers) > 0 && !slices.ContainsFunc(r.Servers, func(s string) bool { return s != "127.0.0.53" && s != "127.0.0.54" })
}

// Outside returns r without the servers that only exist in the host's own network: loopback addresses and link-local
// ones with a zone. dropped lists them.
func (r Resolver) Outside() (out Resolver, dropped []string) {
	out = r
	out.Servers = nil
	for _, s := range r.Servers {
		a, err := netip.ParseAddr(s)
		if err != nil || a.IsLoopback() || a.Zone() != "" {
			dropped = append(dropped, s)
			continue
		}
		out.Servers = append(out.Servers, s)
	}
	return out, dropped
}

// Override replaces what is set in by.
func (r Resolver) Override(by Resolver) Resolver {
	if len(by.Servers) > 0 {
		r.Servers = by.Servers
	}
	if len(by.Search) > 0 {
		r.Search = by.Search
		if len(by.Search) == 1 && by.Search[0] == "." {
			r.Search = nil // how --dns-search says "none"
		}
	}
	if len(by.Options) > 0 {
		r.Options = by.Options
	}
	return r
}

// File makes the file. source is named in its first line.
func (r Resolver) File(source string) string {
	var b strings.Builder
	b.WriteString("# Made by Porthole from " + source + ". A container may change its copy; it is made again at the next start.\n")
	for _, s := range r.Servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(r.Search) > 0 {
		b.WriteString("search " + strings.Join(r.Search, " ") + "\n")
	}
	if len(r.Options) > 0 {
		b.WriteString("options " + strings.Join(r.Options, " ") + "\n")
	}
	return b.String()
}

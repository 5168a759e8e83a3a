// Package whois tells whose something of the host is: a process, a port, an
// interface, an address, a path.
//
// [Find] takes what people have at hand, as top, ss, ip and df print it, finds
// out what kind of thing it is, and looks for it at containers, steps of builds,
// networks, volumes, images and the daemon's own processes. What is none of ours
// is told as well: which process of the host, which interface. Nothing is
// changed, and a container that is stuck is not waited for.
package whois

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/ledger"
	"github.com/portholehq/porthole/internal/network"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/record/death"
)

// Source is where facts come from: the engine.
type Source interface {
	Residents() []engine.Resident
	Deaths(o engine.DeathsOptions) ([]*death.Record, error)
	Claim(ctx context.Context, path string) (ledger.Claim, error)
	Places() engine.Places
	NetworkSurvey() (network.Survey, error)
	Sockets(ns *os.File) ([]network.Socket, error)
}

var _ Source = (*engine.Engine)(nil)

// The kinds of owners, see [api.Owner].
const (
	kindContainer = "container"
	kindStep      = "step"
	kindNetwork   = "network"
	kindVolume    = "volume"
	kindImage     = "image"
	kindDaemon    = "daemon"
	kindHost      = "host"
)

// search is one question under way.
type search struct {
	src       Source
	residents []engine.Resident
	out       api.Whois
}

// Find tells whose something is. What the question is about is seen from its
// form:
//
//	5802                          a process of the host
//	:8080, 8080/udp, 10.0.0.1:80  a port of the host, or that a container listens on
//	10.91.0.2, fd00::2, 02:…:01   an address
//	/any/path                     a path of the host
//	net:[4026532467]              a namespace, as in /proc/PID/ns
//	veth3c9a, br-1f2e             an interface, of the host or else of containers
//	ae000ea4eb63                  a container's id or its beginning, also of one that was removed
//
// Errors: NotFound for what nobody has, InvalidArgument for what is nothing of
// these.
func Find(ctx context.Context, src Source, asked string) (*api.Whois, error) {
	s := &search{src: src, residents: src.Residents()}
	s.out.Asked = asked
	if err := s.find(ctx, asked); err != nil {
		return nil, err
	}
	return &s.out, nil
}

var (
	digits    = regexp.MustCompile(`^[0-9]+$`)
	portForm  = regexp.MustCompile(`^:?([0-9]+)(?:/(tcp|udp))?$`)
	namespace = regexp.MustCompile(`^([a-z_]+):\[([0-9]+)\]$`)
)

func (s *search) find(ctx context.Context, asked string) error {
	switch {
	case asked == "":
		return errdefs.ErrInvalidArgument.WithMessage("whois needs a process, port, address, interface or path")
	case asked[0] == '/':
		s.out.As = "path"
		return s.path(ctx, asked)
	case digits.MatchString(asked):
		s.out.As = "process"
		return s.process(ctx, asked)
	}
	if m := portForm.FindStringSubmatch(asked); m != nil {
		s.out.As = "port"
		return s.port(ctx, netip.Addr{}, m[1], m[2])
	}
	if m := namespace.FindStringSubmatch(asked); m != nil {
		s.out.As = "namespace"
		return s.namespace(ctx, asked, m[1])
	}
	if addr, port, proto, ok := addressPort(asked); ok {
		s.out.As = "port"
		return s.port(ctx, addr, port, proto)
	}
	bare, _, _ := strings.Cut(asked, "/")
	if addr, err := netip.ParseAddr(bare); err == nil {
		s.out.As = "address"
		return s.address(addr.Unmap().WithZone(""))
	}
	if mac, err := net.ParseMAC(asked); err == nil {
		s.out.As = "address"
		return s.mac(mac)
	}
	s.out.As = "interface"
	return s.name(asked)
}

// addressPort takes ADDRESS:PORT[/PROTOCOL] apart, as ss and netstat print it.
func addressPort(asked string) (addr netip.Addr, port, proto string, ok bool) {
	rest, proto, _ := strings.Cut(asked, "/")
	if proto != "" && proto != "tcp" && proto != "udp" {
		return addr, "", "", false
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil || !digits.MatchString(port) {
		return addr, "", "", false
	}
	if host == "*" || host == "" {
		return netip.Addr{}, port, proto, true
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err = netip.ParseAddr(host)
	return addr.Unmap().WithZone(""), port, proto, err == nil
}

func (s *search) add(o api.Owner) { s.out.Found = append(s.out.Found, o) }

// found is nil if there is an answer, and else an error that says what was looked for.
func (s *search) found(hint, format string, args ...any) error {
	if len(s.out.Found) > 0 {
		return nil
	}
	return problem.WithHint(errdefs.ErrNotFound.WithMessage(fmt.Sprintf(format, args...)), hint)
}

// of finds a container or step by its id.
func (s *search) of(id string) *engine.Resident {
	i := slices.IndexFunc(s.residents, func(r engine.Resident) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return &s.residents[i]
}

// owner describes a container or step, also one that was removed.
func (s *search) owner(id, detail string) api.Owner {
	if r := s.of(id); r != nil {
		return ownerOf(r, detail)
	}
	o := api.Owner{Kind: kindContainer, ID: id, Status: "removed", Detail: detail}
	if list, err := s.src.Deaths(engine.DeathsOptions{Container: id}); err == nil && len(list) > 0 {
		o.Name, o.Image = list[0].Name, list[0].Image
	}
	return o
}

func ownerOf(r *engine.Resident, detail string) api.Owner {
	o := api.Owner{Kind: kindContainer, ID: r.ID, Name: r.Name, Status: string(r.Status), Detail: detail}
	if r.Step { // whose name is a line of somebody's Dockerfile
		o.Kind, o.Name = kindStep, quoted(r.Name)
	}
	if r.Config != nil {
		o.Image = r.Config.Image
	}
	return o
}

func host(format string, args ...any) api.Owner {
	return api.Owner{Kind: kindHost, Detail: fmt.Sprintf(format, args...)}
}

// sharing are the names of those that are in the network of a container besides it.
func (s *search) sharing(id string) string {
	var names []string
	for _, r := range s.residents {
		if r.NetworkOf == id && r.ID != id && r.Pid > 0 {
			names = append(names, r.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; in its network as well: " + strings.Join(names, ", ")
}

// quoted is a command line for people: nothing in it moves the cursor.
func quoted(command string) string {
	if strings.ContainsFunc(command, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(command)
	}
	return command
}

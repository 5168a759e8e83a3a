package server

import (
	"net/http"
	"net/netip"
	"strconv"
	"time"

	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/network"
)

func (s *Server) forwardList(r *request) error {
	list, err := s.backend.ContainerForwards(r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, forwards(list))
}

// forwardOpen has the container's port in port, and the host's side, which may
// be left out, in hostPort and hostIp.
func (s *Server) forwardOpen(r *request) error {
	port, err := mobynet.ParsePort(r.form.Get("port"))
	if err != nil {
		return invalid("invalid port specification: %q", r.form.Get("port"))
	}
	spec := network.PortSpec{Container: port}
	if text := r.form.Get("hostPort"); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return invalid("invalid port: %q", text)
		}
		spec.First, spec.Last = uint16(n), uint16(n)
	}
	if text := r.form.Get("hostIp"); text != "" {
		if spec.HostIP, err = netip.ParseAddr(text); err != nil {
			return invalid("invalid IP address: %q", text)
		}
	}
	list, err := s.backend.ContainerForward(r.ctx(), r.name, spec)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, forwards(list))
}

func (s *Server) forwardClose(r *request) error {
	port, err := strconv.ParseUint(r.form.Get("hostPort"), 10, 16)
	if err != nil {
		return invalid("invalid port: %q", r.form.Get("hostPort"))
	}
	if err := s.backend.ContainerUnforward(r.ctx(), r.name, uint16(port)); err != nil {
		return err
	}
	return r.json(http.StatusOK, struct{}{})
}

func forwards(list []network.Published) []api.Forward {
	out := make([]api.Forward, len(list))
	for i, p := range list {
		out[i] = api.Forward{HostIP: p.HostIP.String(), HostPort: p.HostPort, Port: p.Container.String()}
	}
	return out
}

func (s *Server) containerNames(r *request) error {
	q, err := s.backend.ContainerQueries(r.ctx(), r.name)
	if err != nil {
		return err
	}
	out := api.Names{External: q.External, Total: q.All, Servers: []api.NameServer{}, Queries: make([]api.Query, len(q.Last))}
	for _, u := range q.Upstreams {
		out.Servers = append(out.Servers, api.NameServer{Address: u.Addr.String(), From: u.From, Inside: u.Inside})
	}
	for i, x := range q.Last {
		out.Queries[i] = api.Query{
			At: x.At, Name: x.Name, Type: x.Type, Protocol: x.Protocol, Server: x.Server, From: x.From, Code: x.Code,
			Answers: x.Answers, Microseconds: int64(x.Took / time.Microsecond), Error: x.Error,
		}
	}
	return r.json(http.StatusOK, out)
}

// networkCheck walks from a container, or "host", to HOST:PORT.
func (s *Server) networkCheck(r *request) error {
	hops, err := s.backend.NetworkCheck(r.ctx(), r.form.Get("from"), r.form.Get("target"))
	if err != nil {
		return err
	}
	out := make([]api.Hop, len(hops))
	for i, h := range hops {
		out[i] = api.Hop(h)
	}
	return r.json(http.StatusOK, out)
}

// containerReach tells who can reach a container's ports, or one of them.
func (s *Server) containerReach(r *request) error {
	var port uint64
	if text := r.form.Get("port"); text != "" {
		var err error
		if port, err = strconv.ParseUint(text, 10, 16); err != nil || port == 0 {
			return invalid("invalid port: %q", text)
		}
	}
	list, paused, err := s.backend.ContainerReach(r.name, uint16(port))
	if err != nil {
		return err
	}
	out := api.Reach{Ports: make([]api.ReachPort, len(list))}
	if paused {
		out.Note = "the container is paused: the kernel takes connections, and nobody answers"
	}
	for i, p := range list {
		out.Ports[i] = api.ReachPort{Port: strconv.Itoa(int(p.Port)) + "/" + p.Proto, Listens: []string{}}
		for _, a := range p.Listens {
			out.Ports[i].Listens = append(out.Ports[i].Listens, a.String())
		}
		for _, f := range p.From {
			out.Ports[i].From = append(out.Ports[i].From, api.ReachFrom{Who: f.Who, Reached: f.Reached, By: append([]string{}, f.By...), Why: f.Why})
		}
	}
	return r.json(http.StatusOK, out)
}

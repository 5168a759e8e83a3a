package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"sync"

	"github.com/portholehq/porthole/internal/linux/sockowner"
	"github.com/portholehq/porthole/internal/network/resolver"
)

// sent are the sockets by which questions were last passed on from inside a
// container, where others can see them and take them for the container's own.
type sent struct {
	mu   sync.Mutex
	ring []socket
	next int
}

type socket struct {
	network string
	local   netip.AddrPort
}

// mostSent is more than wait for answers at once.
const mostSent = 2048

func (s *sent) add(network string, local netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ring) < mostSent {
		s.ring = append(s.ring, socket{network, local})
		return
	}
	s.ring[s.next] = socket{network, local}
	s.next = (s.next + 1) % mostSent
}

func (s *sent) has(network string, local netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.ring {
		if x.network == network && x.local == local {
			return true
		}
	}
	return false
}

// maxAskers is how many questions of a container may be looked for their asker at
// once. Of what comes faster it is not known.
const maxAskers = 2

// asker finds the process that asks the container's name server.
func (b *box) asker(network string, client netip.AddrPort) *sockowner.Process {
	select {
	case b.askers <- struct{}{}:
		defer func() { <-b.askers }()
	default:
		return nil
	}
	// As the client sees it, which is before the translation.
	server := netip.AddrPortFrom(nameServer, dnsPort)
	p, ok := sockowner.Find(b.netns, network, client, server, sockowner.Within(b.netns))
	if !ok {
		return nil
	}
	return &p
}

const dnsPort = 53

// follow writes what a container asks, until it ends or nobody reads.
func (s *Server) follow(w http.ResponseWriter, r *http.Request) {
	b := s.find(r.PathValue("id"))
	if b == nil {
		refuse(w, http.StatusNotFound, errors.New("no such sandbox"))
		return
	}
	f := b.log.Follow()
	defer f.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out, control := json.NewEncoder(w), http.NewResponseController(w)
	tell := func(line Followed) bool { return out.Encode(line) == nil && control.Flush() == nil }
	query := func(q resolver.Query) bool { return tell(Followed{Query: &q, Dropped: f.Dropped()}) }
	if !tell(Followed{}) {
		return
	}
	for {
		select {
		case q := <-f.C:
			if !query(q) {
				return
			}
		case <-b.over:
			for len(f.C) > 0 {
				if !query(<-f.C) {
					return
				}
			}
			tell(Followed{End: true, Dropped: f.Dropped()})
			return
		case <-r.Context().Done():
			return
		case <-s.end:
			return
		}
	}
}

// asked tells whether a socket in the container's network is ours, for a question
// that was passed on.
func (s *Server) asked(w http.ResponseWriter, r *http.Request) {
	local, err := netip.ParseAddrPort(r.FormValue("local"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	b := s.find(r.PathValue("id"))
	answer(w, b != nil && b.sent.has(r.FormValue("network"), local))
}

// Follow calls fn with what a container asks from now on, until the container
// ends, which is no error, ctx does, or fn gives an error. The first call says that
// it has begun. io.ErrUnexpectedEOF: the keeper has ended.
func (c *Client) Follow(ctx context.Context, id string, fn func(Followed) error) error {
	var failed error
	each := func(body io.Reader) error {
		for dec := json.NewDecoder(body); ; {
			var line Followed
			if err := dec.Decode(&line); err != nil {
				return io.ErrUnexpectedEOF
			}
			if failed = fn(line); failed != nil || line.End {
				return failed
			}
		}
	}
	err := c.stream(ctx, http.MethodGet, "/sandboxes/"+id+"/queries/follow", nil, each)
	switch {
	case failed != nil:
		return failed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

// Asked tells whether a socket in the container's network is the keeper's own, for
// a question that it passes on.
func (c *Client) Asked(ctx context.Context, id, network string, local netip.AddrPort) (ours bool, err error) {
	q := url.Values{"network": {network}, "local": {local.String()}}
	err = c.do(ctx, http.MethodGet, fmt.Sprintf("/sandboxes/%s/asked?%s", id, q.Encode()), nil, &ours)
	return ours, err
}

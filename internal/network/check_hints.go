package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// mostAsked bounds how many containers are looked into for a hint.
const mostAsked = 64

// unpublishedHint names containers that listen on the port inside, which is what
// people mean who ask the host for it: they have to publish it, or have published
// it as another one.
func (w *walk) unpublishedHint() string {
	if w.spec.Container == nil {
		return ""
	}
	w.m.mu.Lock()
	published := map[string]uint16{}
	var ids []string
	for _, l := range w.m.live {
		ids = append(ids, l.Container)
		if b := w.m.sandboxes[l.Container]; b != nil {
			for _, p := range b.Published {
				if p.Container.Num() == w.port && p.Container.Proto() == "tcp" {
					published[l.Container] = p.HostPort
				}
			}
		}
	}
	w.m.mu.Unlock()
	slices.Sort(ids)
	ids = slices.Compact(ids)
	var hints []string
	for _, id := range ids[:min(len(ids), mostAsked)] {
		name, listens := w.listensInside(id)
		switch host := published[id]; {
		case !listens:
		case host != 0:
			hints = append(hints, fmt.Sprintf("container %s listens on port %d, which is port %d of the host", name, w.port, host))
		default:
			hints = append(hints, fmt.Sprintf("container %s listens on port %d, which is not published: porthole forward %s %d:%d", name, w.port, name, w.port, w.port))
		}
	}
	slices.Sort(hints)
	const most = 3
	if len(hints) > most {
		hints = append(hints[:most], fmt.Sprintf("and %d more", len(hints)-most))
	}
	return strings.Join(hints, "; ")
}

// listensInside tells whether a server of a container waits on the port.
func (w *walk) listensInside(id string) (name string, yes bool) {
	end := w.spec.Container(id)
	if end == nil {
		return "", false
	}
	defer end.NetNS.Close()
	list, err := listeners(end.NetNS)
	if err != nil {
		return "", false
	}
	return end.Name, slices.ContainsFunc(list, func(a netip.AddrPort) bool { return a.Port() == w.port })
}

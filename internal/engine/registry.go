package engine

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/portholehq/porthole/internal/engine/names"
)

// registry finds containers by id, name or the beginning of an id.
type registry struct {
	mu    sync.RWMutex
	byID  map[string]*ctr
	names map[string]string // name -> id, also of containers that are being created
}

func newRegistry() *registry {
	return &registry{byID: map[string]*ctr{}, names: map[string]string{}}
}

// find resolves a reference as Docker does: whole id, name, unique beginning of an id.
func (r *registry) find(ref string) (*ctr, error) {
	if ref == "" {
		return nil, errNoSuchContainer(ref)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if c := r.byID[ref]; c != nil {
		return c, nil
	}
	if id, ok := r.names[strings.TrimPrefix(ref, "/")]; ok {
		if c := r.byID[id]; c != nil {
			return c, nil
		}
	}
	var found *ctr
	for id, c := range r.byID {
		if !strings.HasPrefix(id, ref) {
			continue
		}
		if found != nil {
			return nil, invalid("multiple IDs found with provided prefix: %s", ref)
		}
		found = c
	}
	if found == nil {
		return nil, errNoSuchContainer(ref)
	}
	return found, nil
}

// reserve takes a name for the container id. An empty name means one made up.
func (r *registry) reserve(name, id string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	given := name
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		name = r.free(id)
		r.names[name] = id
		return name, nil
	}
	if !names.Valid(name) {
		return "", invalid("Invalid container name (%s), only %s are allowed", given, names.Allowed)
	}
	if owner, taken := r.names[name]; taken {
		return "", conflict(`Conflict. The container name "/%s" is already in use by container "%s". You have to remove (or rename) that container to be able to reuse that name.`, name, owner)
	}
	r.names[name] = id
	return name, nil
}

// free makes up a name that is not taken; mu is held.
func (r *registry) free(id string) string {
	for attempt := range 12 {
		if name := names.Random(attempt); r.names[name] == "" {
			return name
		}
	}
	return "porthole_" + id[:12]
}

// release gives back a name that the container id holds.
func (r *registry) release(name, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names[name] == id {
		delete(r.names, name)
	}
}

// add makes a container known. Its name was reserved before.
func (r *registry) add(c *ctr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byID[c.id] = c
}

// adopt adds a container that was loaded from the state file. If another one has the same name, the newer of the two gets
// it and the older one is returned: it has none until [registry.rename].
func (r *registry) adopt(c *ctr) (older *ctr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := c.view().Name
	older = r.byID[r.names[name]]
	if older != nil && older.view().Created.After(c.view().Created) {
		r.byID[c.id] = c
		return c
	}
	r.names[name], r.byID[c.id] = c.id, c
	return older
}

// rename gives a container without a name the wanted one or, if that is taken, one that is made up.
func (r *registry) rename(c *ctr, wanted string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.names[wanted]; taken {
		wanted = r.free(c.id)
	}
	r.names[wanted] = c.id
	return wanted
}

// remove forgets a container and frees its name.
func (r *registry) remove(c *ctr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, c.id)
	if name := c.view().Name; r.names[name] == c.id {
		delete(r.names, name)
	}
}

// all returns the containers, the newest first.
func (r *registry) all() []*ctr {
	r.mu.RLock()
	list := make([]*ctr, 0, len(r.byID))
	for _, c := range r.byID {
		list = append(list, c)
	}
	r.mu.RUnlock()
	slices.SortFunc(list, func(a, b *ctr) int {
		if n := b.view().Created.Compare(a.view().Created); n != 0 {
			return n
		}
		return cmp.Compare(a.id, b.id)
	})
	return list
}

// ids are the names of all containers by id, also of those that are being created.
func (r *registry) ids() map[string]string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := make(map[string]string, len(r.names))
	for name, id := range r.names {
		names[id] = name
	}
	return names
}

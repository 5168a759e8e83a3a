package volume

import "sync"

// users knows which containers use each mounted volume. Volumes are mounted
// side by side, since a server may take its time; each by one goroutine at a
// time.
type users struct {
	mu  sync.Mutex
	all map[string]*volumeUsers
}

type volumeUsers struct {
	mu   sync.Mutex
	list map[string]bool // by container ID
}

// with runs fn while nobody else works on the volume's mount or fills it.
func (u *users) with(name string, fn func(users map[string]bool) error) error {
	u.mu.Lock()
	if u.all == nil {
		u.all = map[string]*volumeUsers{}
	}
	v := u.all[name]
	if v == nil {
		v = &volumeUsers{list: map[string]bool{}}
		u.all[name] = v
	}
	u.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	return fn(v.list)
}

// forget drops what is known of a volume that is gone.
func (u *users) forget(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.all, name)
}

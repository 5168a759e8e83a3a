package engine

import (
	"net/netip"

	"github.com/portholehq/porthole/internal/ps"
)

// Processes tells of the processes of a container, with its zombies, by pid: none if it does not run. It reads command
// lines and the container's /etc/passwd, which may wait for the container.
func (e *Engine) Processes(ref string) ([]ps.Info, error) {
	v, err := e.viewOf(ref)
	if err != nil || v.pid() == 0 {
		return nil, err
	}
	pids, err := v.task.Pids()
	if err != nil {
		return nil, err
	}
	return ps.Read(e.psSource(v), ps.WithZombies("/proc", pids))
}

// Addresses tells which container has which address in which it can be reached by others, by name.
func (e *Engine) Addresses() map[netip.Addr]string {
	names := map[netip.Addr]string{}
	for _, c := range e.registry.all() {
		v := c.view()
		for _, ep := range v.endpoints {
			for _, a := range []netip.Addr{ep.IPAddress, ep.GlobalIPv6Address} {
				if a.IsValid() {
					names[a] = v.Name
				}
			}
		}
	}
	return names
}

// Subjects are all containers that run, as [Engine.Subject] tells of one.
func (e *Engine) Subjects() []Subject {
	var list []Subject
	for _, c := range e.registry.all() {
		if c.view().pid() == 0 {
			continue
		}
		if s, err := e.Subject(c.id); err == nil && s.Pid > 0 { // else it has just gone
			list = append(list, s)
		}
	}
	return list
}

package engine

import (
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/runtime/spec"
)

// dangerousKey is the attribute of the events by which a container comes to be, or a process in one, that gives up what
// the host is protected by: the options that do so, with a comma between them. "events --filter label=dangerous" selects
// such events.
const dangerousKey = "dangerous"

// precious are places of the host from which all of it can be had. The engine's own come on top, see preciousPaths.
var precious = []string{
	"/boot", "/dev", "/etc", "/proc", "/root", "/sys", "/usr", "/run/containerd", "/run/docker.sock", "/run/podman", "/run/systemd",
}

// surrenders lists by which options a container gives up what the host is protected by; see [spec.Surrenders]. To those
// come mounts of what the host is run from, and of the sockets of engines.
func (e *Engine) surrenders(rec *state.Container) []string {
	list := spec.Surrenders(rec.HostConfig)
	if rec.UsernsNote != "" && hostUserReason(rec.HostConfig) == "" {
		list = append(list, "the host's user namespace: "+rec.UsernsNote)
	}
	for _, m := range rec.Mounts {
		if m.Type == mount.TypeBind && reaches(m.Source, e.preciousPaths()) {
			option := "--volume=" + m.Source + ":" + m.Destination
			if !m.RW {
				option += ":ro"
			}
			list = append(list, option)
		}
	}
	return list
}

func (e *Engine) preciousPaths() []string {
	return append([]string{e.config.DataRoot, e.config.ExecRoot}, append(precious, e.config.Sockets...)...)
}

// reaches tells whether a place of the host is one of those, or holds one. The links on the way to it count for what they
// are now.
func reaches(source string, places []string) bool {
	if real, err := filepath.EvalSymlinks(source); err == nil {
		source = real
	}
	for _, place := range places {
		if real, err := filepath.EvalSymlinks(place); err == nil {
			place = real
		}
		if source == place || source == "/" || strings.HasPrefix(place, source+"/") {
			return true
		}
	}
	return false
}

// dangerous is the attribute that tells of it; nil: there is nothing to tell.
func dangerous(options []string) map[string]string {
	if len(options) == 0 {
		return nil
	}
	return map[string]string{dangerousKey: strings.Join(options, ", ")}
}

// Surrender is a container that has given up what the host is protected by.
type Surrender struct {
	ID, Name, Status string
	Options          []string // as on the command line
}

// surrendered lists the containers that run and have given up what the host is protected by.
func (e *Engine) surrendered() []Surrender {
	var list []Surrender
	for _, c := range e.registry.all() {
		v := c.view()
		if !v.live() {
			continue
		}
		if options := e.surrenders(v.Container); len(options) > 0 {
			list = append(list, Surrender{ID: v.ID, Name: v.Name, Status: string(v.status()), Options: options})
		}
	}
	return list
}

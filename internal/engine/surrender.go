package engine

import (
	"context"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/mount"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/linux/patient"
	"github.com/portholehq/porthole/internal/runtime/spec"
)

// dangerousKey is the attribute of the events by which a container comes to be, or a process in one, that gives up what
// the host is protected by: the options that do so, with a comma between them. "events --filter label=dangerous" selects
// such events.
const dangerousKey = "dangerous"

// precious are places of the host from which all of it can be had: by themselves, or by what holds them.
var precious = []string{"/dev", "/proc", "/sys", "/run/containerd", "/run/docker.sock", "/run/podman", "/run/systemd"}

// preciousTrees are those of which a part is enough, if it can be written to.
var preciousTrees = []string{"/boot", "/etc", "/root", "/usr", "/var/spool/cron"}

// realPatience is how long the links on the way to a place are followed. It may be on a server that has gone.
const realPatience = 200 * time.Millisecond

// realPath is a place without links on the way, as they are now; as it is if that is not told.
func realPath(ctx context.Context, place string) string {
	real, err := patient.Within(ctx, "links of "+place, realPatience, func() (string, error) { return filepath.EvalSymlinks(place) })
	if err != nil {
		return filepath.Clean(place)
	}
	return real
}

// preciousPlaces are such places as they are on this host.
type preciousPlaces struct{ places, trees []string }

func (e *Engine) preciousPlaces(ctx context.Context) preciousPlaces {
	var p preciousPlaces
	for _, place := range append(slices.Clone(precious), e.config.Sockets...) {
		p.places = append(p.places, realPath(ctx, place))
	}
	for _, tree := range append([]string{e.config.DataRoot, e.config.ExecRoot}, preciousTrees...) {
		p.trees = append(p.trees, realPath(ctx, tree))
	}
	return p
}

// reached tells whether from a place of the host one of those can be had.
func (p preciousPlaces) reached(ctx context.Context, source string, writable bool) bool {
	source = realPath(ctx, source)
	holds := func(place string) bool {
		return source == place || source == "/" || strings.HasPrefix(place, source+"/")
	}
	return slices.ContainsFunc(p.places, holds) || slices.ContainsFunc(p.trees, func(tree string) bool {
		return holds(tree) || writable && strings.HasPrefix(source, tree+"/")
	})
}

// surrenders lists by which options a container gives up what the host is protected by; see [spec.Surrenders]. To those
// come mounts of what the host is run from, of its disks, and of the sockets of engines.
func (e *Engine) surrenders(ctx context.Context, rec *state.Container, p preciousPlaces) []string {
	list := spec.Surrenders(rec.HostConfig)
	if rec.UsernsNote != "" && hostUserReason(rec.HostConfig) == "" {
		list = append(list, "the host's user namespace: "+rec.UsernsNote)
	}
	for _, m := range rec.Mounts {
		option := "--volume=" + m.Source + ":" + m.Destination
		switch m.Type {
		case mount.TypeBind:
			if !p.reached(ctx, m.Source, m.RW) {
				continue
			}
		case mount.TypeVolume:
			device := e.volumeDevice(m.Name)
			if device == "" || !strings.HasPrefix(device, "/dev/") && !p.reached(ctx, device, m.RW) {
				continue
			}
			option = "--volume=" + m.Name + ":" + m.Destination + " of " + device
		default:
			continue
		}
		if !m.RW {
			option += ":ro"
		}
		list = append(list, option)
	}
	return list
}

// volumeDevice is the place or the disk of the host that a volume is of; empty: it is a directory of the engine's own.
func (e *Engine) volumeDevice(name string) string {
	v, err := e.deps.Volumes.Get(name)
	if err != nil || !path.IsAbs(v.Options["device"]) {
		return ""
	}
	return v.Options["device"]
}

// graftOption is the graft as an option, if it gives up what the host is protected by; empty: it does not.
func (p preciousPlaces) graftOption(ctx context.Context, g state.Graft) string {
	if !p.reached(ctx, g.Source, g.RW) {
		return ""
	}
	mode := ":ro"
	if g.RW {
		mode = ":rw"
	}
	return "mount graft " + g.Source + ":" + g.Destination + mode
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

// Surrendered lists the containers that run and have given up what the host is protected by.
func (e *Engine) Surrendered(ctx context.Context) []Surrender {
	places := e.preciousPlaces(ctx)
	var list []Surrender
	for _, c := range e.registry.all() {
		v := c.view()
		if !v.live() {
			continue
		}
		options := e.surrenders(ctx, v.Container, places)
		for _, g := range graftsOf(v) {
			if option := places.graftOption(ctx, g); option != "" {
				options = append(options, option)
			}
		}
		if len(options) > 0 {
			list = append(list, Surrender{ID: v.ID, Name: v.Name, Status: string(v.status()), Options: options})
		}
	}
	return list
}

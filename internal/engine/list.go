package engine

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/engine/state"
)

// sizePatience is how long a list waits for sizes to be measured anew that are known already.
const sizePatience = 300 * time.Millisecond

// ContainerList lists containers, newest first.
func (e *Engine) ContainerList(ctx context.Context, o ListOptions) ([]*container.Summary, error) {
	f, err := e.listFilter(ctx, &o)
	if err != nil {
		return nil, err
	}
	patience, cancel := context.WithTimeout(ctx, sizePatience)
	defer cancel()
	list := []*container.Summary{}
	for _, c := range e.registry.all() {
		if o.Limit > 0 && len(list) == o.Limit {
			break
		}
		v := c.view()
		if !f.match(v) {
			continue
		}
		s := e.summary(v)
		if o.Size {
			if s.SizeRw, s.SizeRootFs, err = e.containerSizes(ctx, patience, c.id); err != nil {
				return nil, err
			}
		}
		list = append(list, s)
	}
	return list, nil
}

// listFilter is a list's conditions, compiled.
type listFilter struct {
	Filters
	all       bool
	names     []*regexp.Regexp
	exited    []int
	ancestors map[string]bool // image ids; nil: any
	before    *view
	since     *view
	published []portRange
	exposed   []portRange
}

type portRange struct {
	first, last uint16
	proto       string
}

var listKeys = []string{
	"id", "name", "label", "status", "exited", "ancestor", "before", "since", "volume", "network", "publish", "expose",
	"health", "isolation", "is-task",
}

func (e *Engine) listFilter(ctx context.Context, o *ListOptions) (*listFilter, error) {
	if err := o.Filters.Check(listKeys...); err != nil {
		return nil, err
	}
	f := &listFilter{Filters: o.Filters, all: o.All || o.Limit > 0 || o.Filters.Has("status")}
	for _, name := range o.Filters["name"] {
		re, err := regexp.Compile(name)
		if err != nil {
			re = regexp.MustCompile(regexp.QuoteMeta(name))
		}
		f.names = append(f.names, re)
	}
	for _, s := range o.Filters["status"] {
		if err := container.ValidateContainerState(container.ContainerState(s)); err != nil {
			return nil, invalid("invalid filter 'status=%s'", s)
		}
	}
	for _, s := range o.Filters["health"] {
		if err := container.ValidateHealthStatus(container.HealthStatus(s)); err != nil {
			return nil, invalid("invalid filter 'health=%s'", s)
		}
	}
	for _, s := range o.Filters["exited"] {
		code, err := strconv.Atoi(s)
		if err != nil {
			return nil, invalid("invalid filter 'exited=%s'", s)
		}
		f.exited = append(f.exited, code)
		f.all = true
	}
	var err error
	if f.published, err = portRanges(o.Filters["publish"]); err != nil {
		return nil, err
	}
	if f.exposed, err = portRanges(o.Filters["expose"]); err != nil {
		return nil, err
	}
	return f, e.relatives(ctx, f)
}

// relatives looks up the containers and images that conditions refer to.
func (e *Engine) relatives(ctx context.Context, f *listFilter) error {
	for key, to := range map[string]**view{"before": &f.before, "since": &f.since} {
		for _, ref := range f.Filters[key] {
			v, err := e.viewOf(ref)
			if err != nil {
				return err
			}
			if *to == nil || (key == "before") == v.Created.Before((*to).Created) {
				*to = v
			}
			f.all = true
		}
	}
	if !f.Has("ancestor") {
		return nil
	}
	f.ancestors = map[string]bool{}
	for _, ref := range f.Filters["ancestor"] {
		img, err := e.deps.Images.Resolve(ctx, ref)
		if err != nil {
			continue // as Docker: an unknown image has no descendants
		}
		f.ancestors[img.ID] = true
	}
	return nil
}

func portRanges(specs []string) ([]portRange, error) {
	var list []portRange
	for _, s := range specs {
		r, err := network.ParsePortRange(s)
		if err != nil {
			return nil, invalid("invalid filter: %v", err)
		}
		list = append(list, portRange{r.Start(), r.End(), string(r.Proto())})
	}
	return list, nil
}

func (f *listFilter) match(v *view) bool {
	if !f.all && !v.live() {
		return false
	}
	if !f.Prefix("id", v.ID) || !f.Labels("label", v.Config.Labels) || !f.Exact("status", string(v.toldStatus())) ||
		!f.Exact("health", string(v.healthStatus())) || !f.Exact("isolation", "default") || slices.Contains(f.Filters["is-task"], "true") {
		return false
	}
	if len(f.names) > 0 && !slices.ContainsFunc(f.names, func(re *regexp.Regexp) bool { return re.MatchString(v.Name) || re.MatchString("/"+v.Name) }) {
		return false
	}
	if len(f.exited) > 0 && (v.live() || v.Life.StartedAt.IsZero() || !slices.Contains(f.exited, v.Life.ExitCode)) {
		return false
	}
	if f.ancestors != nil && !f.ancestors[v.ImageID] {
		return false
	}
	if (f.before != nil && !v.Created.Before(f.before.Created)) || (f.since != nil && !v.Created.After(f.since.Created)) {
		return false
	}
	return f.matchVolume(v) && f.matchNetwork(v) && f.matchPorts(v)
}

func (f *listFilter) matchVolume(v *view) bool {
	return !f.Has("volume") || slices.ContainsFunc(v.Mounts, func(m state.Mount) bool {
		return slices.Contains(f.Filters["volume"], m.Destination) || (m.Name != "" && slices.Contains(f.Filters["volume"], m.Name)) ||
			(m.Name == "" && m.Source != "" && slices.Contains(f.Filters["volume"], m.Source))
	})
}

func (f *listFilter) matchNetwork(v *view) bool {
	if !f.Has("network") {
		return true
	}
	for name, ep := range v.liveNetworks() {
		for _, want := range f.Filters["network"] {
			if want == name || (ep != nil && ep.NetworkID != "" && strings.HasPrefix(ep.NetworkID, want)) {
				return true
			}
		}
	}
	return false
}

func (f *listFilter) matchPorts(v *view) bool {
	if len(f.published)+len(f.exposed) == 0 {
		return true
	}
	in := func(p network.Port, ranges []portRange) bool {
		return slices.ContainsFunc(ranges, func(r portRange) bool {
			return p.Num() >= r.first && p.Num() <= r.last && string(p.Proto()) == r.proto
		})
	}
	for p := range v.HostConfig.PortBindings {
		if in(p, f.published) {
			return true
		}
	}
	for p := range v.Config.ExposedPorts {
		if in(p, f.exposed) {
			return true
		}
	}
	return false
}

// shownStatus is the status with a removal that is under way taken into account.
func (v *view) shownStatus() state.Status {
	if v.removing && !v.live() {
		return container.StateRemoving
	}
	return v.status()
}

func (v *view) healthStatus() container.HealthStatus {
	if v.health == nil {
		return container.NoHealthcheck
	}
	return v.health.Status
}

// toldStatus is what lists and inspect show: one that is to be removed and does not end is removing, though it lives.
func (v *view) toldStatus() state.Status {
	if v.Life.Removal != nil && v.live() {
		return container.StateRemoving
	}
	return v.shownStatus()
}

// summary is what list shows of a container.
func (e *Engine) summary(v *view) *container.Summary {
	s := &container.Summary{
		ID: v.ID, Names: []string{"/" + v.Name}, Image: v.Config.Image, ImageID: v.ImageID, ImageManifestDescriptor: v.Manifest,
		Command: commandLine(v), Created: v.Created.Unix(), Ports: ports(v), Labels: v.Config.Labels,
		State: v.toldStatus(), Status: statusText(v, time.Now()), Mounts: mountPoints(v),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: v.liveNetworks()},
	}
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	if s.NetworkSettings.Networks == nil {
		s.NetworkSettings.Networks = map[string]*network.EndpointSettings{}
	}
	s.HostConfig.NetworkMode, s.HostConfig.Annotations = string(v.HostConfig.NetworkMode), v.HostConfig.Annotations
	s.Health = &container.HealthSummary{Status: v.healthStatus()}
	if v.health != nil {
		s.Health.FailingStreak = v.health.FailingStreak
	}
	return s
}

// commandLine is the command as list shows it: words with spaces are in single quotes.
func commandLine(v *view) string {
	words := []string{v.Path}
	for _, a := range v.Args {
		if strings.Contains(a, " ") {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// statusText is the text of ps's STATUS column.
func statusText(v *view, now time.Time) string {
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch v.toldStatus() {
	case container.StateRunning, container.StatePaused:
		text := "Up " + since(v.Life.StartedAt)
		if v.status() == container.StatePaused {
			return text + " (Paused)"
		}
		switch h := v.healthStatus(); h {
		case container.NoHealthcheck:
			return text
		case container.Starting:
			return text + " (health: starting)"
		default:
			return text + " (" + string(h) + ")"
		}
	case container.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", v.Life.ExitCode, since(v.Life.FinishedAt))
	case container.StateRemoving:
		return "Removal In Progress"
	case container.StateDead:
		return "Dead"
	case container.StateCreated:
		return "Created"
	case container.StateExited:
	}
	if v.Life.FinishedAt.IsZero() {
		return ""
	}
	return fmt.Sprintf("Exited (%d) %s ago", v.Life.ExitCode, since(v.Life.FinishedAt))
}

// ports lists what is published, and what is exposed only.
func ports(v *view) []container.PortSummary {
	list := []container.PortSummary{}
	if v.pid() == 0 {
		return list // a port is of a network namespace
	}
	public := map[network.Port]bool{}
	for _, p := range v.published {
		public[p.Container] = true
		list = append(list, container.PortSummary{
			IP: p.HostIP, PrivatePort: p.Container.Num(), PublicPort: p.HostPort, Type: string(p.Container.Proto()),
		})
	}
	for p := range v.Config.ExposedPorts {
		if !public[p] {
			list = append(list, container.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
		}
	}
	slices.SortFunc(list, func(a, b container.PortSummary) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.Type, b.Type), a.IP.Compare(b.IP), cmp.Compare(a.PublicPort, b.PublicPort))
	})
	return list
}

// mountPoints are the mounts as the API shows them. Docker leaves tmpfs given by --tmpfs out.
func mountPoints(v *view) []container.MountPoint {
	list := []container.MountPoint{}
	for _, m := range v.Mounts {
		if _, plain := v.HostConfig.Tmpfs[m.Destination]; m.Type == mount.TypeTmpfs && plain {
			continue
		}
		list = append(list, container.MountPoint{
			Type: m.Type, Name: m.Name, Source: m.Source, Destination: m.Destination, Driver: m.Driver, Mode: m.Mode,
			RW: m.RW, Propagation: m.Propagation,
		})
	}
	return list
}

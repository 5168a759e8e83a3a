package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
)

func (s *Server) containerList(r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	limit, _, err := r.number("limit")
	if err != nil {
		return err
	}
	list, err := s.backend.ContainerList(r.ctx(), engine.ListOptions{
		All: r.flag("all"), Size: r.flag("size"), Limit: limit, Filters: f,
	})
	if err != nil {
		return err
	}
	if r.flag("only-ids") { // ours: what is not looked at is not worth its bytes
		ids := make([]struct {
			ID string `json:"Id"`
		}, len(list))
		for i, c := range list {
			ids[i].ID = c.ID
		}
		return r.json(http.StatusOK, ids)
	}
	out := make([]*container.Summary, len(list))
	for i, c := range list {
		out[i] = summaryForm(r, c)
	}
	return r.json(http.StatusOK, out)
}

// summaryForm returns a copy of c as the client's version knows it.
func summaryForm(r *request, c *container.Summary) *container.Summary {
	out := *c
	if r.before(46) {
		out.HostConfig.Annotations = nil
	}
	if r.before(48) {
		out.ImageManifestDescriptor = nil
	}
	out.Health = nil // since 1.52
	return &out
}

func (s *Server) containerInspect(r *request) error {
	c, err := s.backend.ContainerInspect(r.ctx(), r.name, r.flag("size"))
	if err != nil {
		return err
	}
	runs, err := s.backend.ContainerRuns(r.name)
	if err != nil {
		return err
	}
	operations, err := s.backend.Operations(c.ID)
	if err != nil {
		return err // it was removed meanwhile
	}
	kills, err := s.backend.ContainerOOMKills(c.ID)
	if err != nil {
		return err
	}
	grafts, err := s.backend.ContainerGrafts(c.ID)
	if err != nil {
		return err
	}
	ours := portholeMember(runs)
	ours.Grafts = graftForms(grafts)
	ours.OOMKills = oomKillForms(kills)
	ours.Operations = showOperations(operations)
	return r.json(http.StatusOK, inspectForm(r, *c, ours))
}

// inspectForm returns c as the client's version knows it, with what is ours. It leaves what c
// points to alone.
func inspectForm(r *request, c container.InspectResponse, more api.Container) any {
	if r.before(48) {
		c.ImageManifestDescriptor = nil
	}
	// Storage has replaced GraphDriver in 1.52.
	if c.GraphDriver == nil {
		c.GraphDriver = &storage.DriverData{Name: c.Driver}
		if st := c.Storage; st != nil && st.RootFS != nil && st.RootFS.Snapshot != nil {
			c.GraphDriver.Name = st.RootFS.Snapshot.Name
		}
	}
	c.Storage = nil
	if c.Config == nil {
		c.Config = &container.Config{}
	}
	extra := fields{"Config": fields{"OnBuild": nil}, "Porthole": more}
	if c.NetworkSettings != nil {
		ns := *c.NetworkSettings
		if r.before(45) {
			ns.Networks = withAliases(ns.Networks, c.ID, c.Config.Hostname)
		}
		c.NetworkSettings = &ns
		extra["NetworkSettings"] = legacyNetworkSettings(ns.Networks[network.NetworkBridge])
	}
	return withFields{c, extra}
}

// withAliases adds the names that older versions listed with the aliases.
func withAliases(networks map[string]*network.EndpointSettings, id, hostname string) map[string]*network.EndpointSettings {
	out := make(map[string]*network.EndpointSettings, len(networks))
	for name, ep := range networks {
		if container.NetworkMode(name).IsUserDefined() && ep != nil {
			e := *ep
			for _, alias := range []string{id[:min(12, len(id))], hostname} {
				if !slices.Contains(e.Aliases, alias) {
					e.Aliases = append(slices.Clone(e.Aliases), alias)
				}
			}
			ep = &e
		}
		out[name] = ep
	}
	return out
}

// legacyNetworkSettings repeats the default bridge's endpoint at the top, where
// versions up to 1.51 have it.
func legacyNetworkSettings(bridge *network.EndpointSettings) fields {
	if bridge == nil {
		bridge = &network.EndpointSettings{}
	}
	return fields{
		"Bridge":                 "",
		"HairpinMode":            false,
		"LinkLocalIPv6Address":   "",
		"LinkLocalIPv6PrefixLen": 0,
		"SecondaryIPAddresses":   nil,
		"SecondaryIPv6Addresses": nil,
		"EndpointID":             bridge.EndpointID,
		"Gateway":                bridge.Gateway,
		"GlobalIPv6Address":      bridge.GlobalIPv6Address,
		"GlobalIPv6PrefixLen":    bridge.GlobalIPv6PrefixLen,
		"IPAddress":              bridge.IPAddress,
		"IPPrefixLen":            bridge.IPPrefixLen,
		"IPv6Gateway":            bridge.IPv6Gateway,
		"MacAddress":             bridge.MacAddress,
	}
}

func (s *Server) containerTop(r *request) error {
	out, err := s.backend.ContainerTop(r.ctx(), r.name, r.form.Get("ps_args"))
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, out)
}

func (s *Server) containerStart(r *request) error {
	// The API lost its host configuration in the body with 1.24.
	if r.http.ContentLength > 7 || r.http.ContentLength == -1 {
		return invalid("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if r.form.Get("checkpoint") != "" {
		return invalid("checkpoint is only supported in experimental mode")
	}
	if err := s.backend.ContainerStart(r.ctx(), r.name); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

// stopOptions reads how a container is to be stopped.
func stopOptions(r *request) (engine.StopOptions, error) {
	var o engine.StopOptions
	if !r.before(42) {
		o.Signal = r.form.Get("signal")
	}
	seconds, given, err := r.number("t")
	if given {
		o.Timeout = &seconds
	}
	return o, err
}

func (s *Server) containerStop(r *request) error {
	o, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.backend.ContainerStop(r.ctx(), r.name, o); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *Server) containerRestart(r *request) error {
	o, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.backend.ContainerRestart(r.ctx(), r.name, o); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *Server) containerKill(r *request) error {
	if err := s.backend.ContainerKill(r.ctx(), r.name, r.form.Get("signal")); err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", r.name, err)
	}
	return r.done(http.StatusNoContent)
}

func (s *Server) containerPause(r *request) error {
	if err := s.backend.ContainerPause(r.ctx(), r.name); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *Server) containerUnpause(r *request) error {
	if err := s.backend.ContainerUnpause(r.ctx(), r.name); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *Server) containerRename(r *request) error {
	if err := s.backend.ContainerRename(r.ctx(), r.name, r.form.Get("name")); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *Server) containerRemove(r *request) error {
	err := s.backend.ContainerRemove(r.ctx(), r.name, engine.RemoveOptions{
		Force: r.flag("force"), Volumes: r.flag("v"), Link: r.flag("link"),
	})
	if err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *Server) containersPrune(r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	report, err := s.backend.ContainersPrune(r.ctx(), f)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, report)
}

func (s *Server) containerUpdate(r *request) error {
	var u container.UpdateConfig
	if err := r.readJSON(&u); err != nil {
		return err
	}
	// Versions before 1.55 take these fields and ignore them.
	u.BlkioWeightDevice, u.BlkioDeviceReadBps, u.BlkioDeviceWriteBps = nil, nil, nil
	u.BlkioDeviceReadIOps, u.BlkioDeviceWriteIOps = nil, nil
	if u.PidsLimit != nil && *u.PidsLimit <= 0 {
		u.PidsLimit = new(int64) // zero and below mean unlimited
	}
	out, err := s.backend.ContainerUpdate(r.ctx(), r.name, u)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, out)
}

func (s *Server) containerWait(r *request) error {
	condition := container.WaitConditionNotRunning
	if text := r.form.Get("condition"); text != "" {
		condition = container.WaitCondition(text)
		switch condition {
		case container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
		default:
			return invalid("invalid condition: %q", text)
		}
	}
	ctx, cancel := s.endless(r)
	defer cancel()
	result, err := s.backend.ContainerWait(ctx, r.name, condition)
	if err != nil {
		return err
	}
	// Clients start the container once they have seen the headers: from then on
	// the exit cannot be missed.
	r.w.Header().Set("Content-Type", "application/json")
	r.w.WriteHeader(http.StatusOK)
	r.w.Flush()

	answer, ok := <-result
	if !ok && r.ctx().Err() != nil {
		return nil // the client has what it wanted
	}
	if !ok {
		return context.Cause(ctx)
	}
	return json.NewEncoder(r.w).Encode(answer)
}

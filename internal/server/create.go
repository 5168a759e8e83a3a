package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func (s *Server) containerCreate(r *request) error {
	req, platform, warnings, err := readCreate(r)
	if err != nil {
		return err
	}
	out, err := s.backend.ContainerCreate(r.ctx(), r.form.Get("name"), req, platform)
	if err != nil {
		return err
	}
	out.Warnings = nonNil(append(out.Warnings, warnings...))
	return r.json(http.StatusCreated, out)
}

// readCreate reads what is to be created, in the newest form, and the platform
// if one was asked for. Its warnings are for the client.
func readCreate(r *request) (req container.CreateRequest, platform *ocispec.Platform, warnings []string, err error) {
	req, legacy, err := decodeCreate(r)
	if err != nil {
		return req, nil, nil, err
	}
	if text := r.form.Get("platform"); text != "" && !r.before(41) {
		p, err := platforms.Parse(text)
		if err != nil {
			return req, nil, nil, argumentError{err}
		}
		platform = &p
	}
	warnings, err = createForm(r, &req, legacy)
	return req, platform, warnings, err
}

// legacyCreate are members of a create request that its type has lost.
type legacyCreate struct {
	MacAddress network.HardwareAddr `json:",omitempty"`
	HostConfig struct {
		Capabilities []string `json:",omitempty"`
	}
}

// decodeCreate decodes the body of a create request and fills what later code
// relies on.
func decodeCreate(r *request) (container.CreateRequest, legacyCreate, error) {
	var req container.CreateRequest
	var legacy legacyCreate
	if err := r.checkJSON(); err != nil {
		return req, legacy, err
	}
	var text bytes.Buffer
	body := io.TeeReader(http.MaxBytesReader(r.w, r.http.Body, maxJSON), &text)
	if err := decodeJSON(body, &req); err != nil {
		return req, legacy, err
	}
	// Wrong types in it have been refused above, as far as they matter.
	_ = json.Unmarshal(text.Bytes(), &legacy)
	if req.Config == nil {
		return req, legacy, invalid("config cannot be empty in order to create a container")
	}
	if req.HostConfig == nil {
		req.HostConfig = &container.HostConfig{}
	}
	if req.HostConfig.LogConfig.Config == nil {
		req.HostConfig.LogConfig.Config = map[string]string{}
	}
	if req.HostConfig.PortBindings == nil {
		req.HostConfig.PortBindings = network.PortMap{}
	}
	if req.NetworkingConfig == nil {
		req.NetworkingConfig = &network.NetworkingConfig{}
	}
	if req.NetworkingConfig.EndpointsConfig == nil {
		req.NetworkingConfig.EndpointsConfig = map[string]*network.EndpointSettings{}
	}
	return req, legacy, nil
}

// createForm changes a request from the form of the client's API version into
// the newest one. It returns warnings for the client.
func createForm(r *request, req *container.CreateRequest, legacy legacyCreate) ([]string, error) {
	host := req.HostConfig
	defaultNetwork(host, req.NetworkingConfig)
	if r.before(41) {
		if len(legacy.HostConfig.Capabilities) > 0 {
			return nil, invalid("the HostConfig.Capabilities field is not supported by this daemon; use CapAdd and CapDrop to set capabilities")
		}
	}
	if r.before(42) {
		host.ConsoleSize = [2]uint{}
	}
	if r.before(43) {
		host.Annotations = nil
	}
	if r.before(44) && req.Config.Healthcheck != nil {
		req.Config.Healthcheck.StartInterval = 0
	}
	if err := mountForm(r, host.Mounts); err != nil {
		return nil, err
	}
	if err := endpointForm(r, req.NetworkingConfig); err != nil {
		return nil, err
	}

	var warnings []string
	if w := volumeDriverWarning(r, host); w != "" {
		warnings = append(warnings, w)
	}
	w, err := macAddressForm(r, req, legacy.MacAddress)
	if err != nil {
		return nil, err
	}
	if w != "" {
		warnings = append(warnings, w)
	}
	for port, bindings := range host.PortBindings {
		if len(bindings) == 0 {
			host.PortBindings[port] = []network.PortBinding{{}}
		}
	}
	if host.PidsLimit != nil && *host.PidsLimit <= 0 {
		host.PidsLimit = nil // any of them has always meant unlimited
	}
	return warnings, nil
}

// defaultNetwork replaces the mode "default" by what it means here.
func defaultNetwork(host *container.HostConfig, nets *network.NetworkingConfig) {
	if host.NetworkMode != "" && !host.NetworkMode.IsDefault() {
		return
	}
	host.NetworkMode = network.NetworkBridge
	if ep, ok := nets.EndpointsConfig[network.NetworkDefault]; ok {
		delete(nets.EndpointsConfig, network.NetworkDefault)
		nets.EndpointsConfig[network.NetworkBridge] = ep
	}
}

func mountForm(r *request, mounts []mount.Mount) error {
	for i := range mounts {
		m := &mounts[i]
		if r.before(42) {
			dropOldMountOptions(m)
		} else if err := checkMountOptions(m); err != nil {
			return err
		}
		if b := m.BindOptions; b != nil && r.before(44) {
			if b.ReadOnlyForceRecursive {
				return invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
			}
			// Read-only was not recursive then.
			b.ReadOnlyNonRecursive = true
		}
		if v := m.VolumeOptions; v != nil && v.Subpath != "" && r.before(45) {
			return invalid("VolumeOptions.Subpath needs API v1.45 or newer")
		}
		if m.Type == mount.TypeImage && r.before(48) {
			return invalid(`Mount type "Image" needs API v1.48 or newer`)
		}
	}
	return nil
}

// dropOldMountOptions takes away what versions before 1.42 let pass unread.
func dropOldMountOptions(m *mount.Mount) {
	if m.Type != mount.TypeVolume {
		m.VolumeOptions = nil
	}
	if m.Type != mount.TypeTmpfs {
		m.TmpfsOptions = nil
	}
	if m.BindOptions != nil {
		m.BindOptions.CreateMountpoint = false
	}
}

func checkMountOptions(m *mount.Mount) error {
	switch {
	case m.VolumeOptions != nil && m.Type != mount.TypeVolume:
		return invalid("VolumeOptions must not be specified on mount type %q", m.Type)
	case m.BindOptions != nil && m.Type != mount.TypeBind:
		return invalid("BindOptions must not be specified on mount type %q", m.Type)
	case m.TmpfsOptions != nil && m.Type != mount.TypeTmpfs:
		return invalid("TmpfsOptions must not be specified on mount type %q", m.Type)
	}
	return nil
}

func endpointForm(r *request, nets *network.NetworkingConfig) error {
	if r.before(44) && len(nets.EndpointsConfig) > 1 {
		names := slices.Sorted(maps.Keys(nets.EndpointsConfig))
		return invalid("Container cannot be created with multiple network endpoints: %s", strings.Join(names, ", "))
	}
	if r.before(48) {
		for _, ep := range nets.EndpointsConfig {
			if ep != nil {
				ep.GwPriority = 0
			}
		}
	}
	return nil
}

func volumeDriverWarning(r *request, host *container.HostConfig) string {
	if host.VolumeDriver == "" || r.before(48) {
		return ""
	}
	for _, m := range host.Mounts {
		if m.Type != mount.TypeVolume || (m.VolumeOptions != nil && m.VolumeOptions.DriverConfig != nil && m.VolumeOptions.DriverConfig.Name != "") {
			continue
		}
		return "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead"
	}
	return ""
}

// macAddressForm moves the container-wide address, which was deprecated with
// 1.44, to the endpoint it belongs to.
func macAddressForm(r *request, req *container.CreateRequest, mac network.HardwareAddr) (warning string, err error) {
	nets, mode := req.NetworkingConfig, req.HostConfig.NetworkMode
	if r.before(44) {
		if len(mac) == 0 {
			for _, ep := range nets.EndpointsConfig {
				if ep != nil {
					ep.MacAddress = nil
				}
			}
			return "", nil
		}
		if !mode.IsBridge() && !mode.IsUserDefined() {
			return "", invalid("conflicting options: mac-address and the network mode")
		}
		ep, err := endpointOf(r, nets, mode)
		if err != nil {
			return "", err
		}
		ep.MacAddress = mac
		return "", nil
	}
	if len(mac) == 0 {
		return "", nil
	}
	if mode.IsBridge() || mode.IsUserDefined() {
		ep, err := endpointOf(r, nets, mode)
		if err != nil {
			return "", fmt.Errorf("unable to migrate container-wide MAC address to a specific network: %w", err)
		}
		if len(ep.MacAddress) > 0 && !slices.Equal(ep.MacAddress, mac) {
			return "", invalid("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
		}
		ep.MacAddress = mac
	}
	return "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.", nil
}

// endpointOf finds or makes the settings of the container's main network.
func endpointOf(r *request, nets *network.NetworkingConfig, mode container.NetworkMode) (*network.EndpointSettings, error) {
	name := mode.NetworkName()
	ep, ok := nets.EndpointsConfig[name]
	if !ok && len(nets.EndpointsConfig) > 0 {
		if !r.before(44) {
			return nil, argumentError{errors.New("HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks")}
		}
		// Old versions had at most one and took it, whatever its name.
		for name, ep = range nets.EndpointsConfig {
			break
		}
	}
	if ep == nil {
		ep = &network.EndpointSettings{}
		nets.EndpointsConfig[name] = ep
	}
	return ep, nil
}

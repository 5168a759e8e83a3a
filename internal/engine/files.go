package engine

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/moby/moby/api/types/mount"
	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/engine/netfiles"
	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/network"
)

const (
	hostHosts       = "/etc/hosts"
	hostResolver    = "/etc/resolv.conf"
	resolvedServers = "/run/systemd/resolve/resolv.conf"
)

// files are the host's paths of a container's hosts, hostname and resolv.conf. A container in another one's network has
// that one's files.
func (e *Engine) files(v *view) Files {
	id := v.ID
	if v.ResolvedNet != "" {
		id = string(v.ResolvedNet)
	}
	return Files{Hosts: e.dir(id, "hosts"), Hostname: e.dir(id, "hostname"), ResolvConf: e.dir(id, "resolv.conf")}
}

// writeFiles writes a container's files, which are mounted when it is created; addAddresses completes them.
func (e *Engine) writeFiles(v *view) error {
	if v.ResolvedNet != "" {
		return nil
	}
	f := e.files(v)
	isHost := string(v.HostConfig.NetworkMode) == mobynet.NetworkHost
	hosts := ""
	if !isBridged(v) {
		var err error
		if hosts, err = e.hosts(v, isHost, netip.Addr{}); err != nil {
			return err
		}
	}
	resolver, err := e.resolver(v, isHost)
	if err != nil {
		return err
	}
	name := v.Config.Hostname
	if v.Config.Domainname != "" {
		name += "." + v.Config.Domainname
	}
	return errors.Join(writeInPlace(f.Hosts, hosts), writeInPlace(f.ResolvConf, resolver), writeInPlace(f.Hostname, name+"\n"))
}

// isBridged tells whether a container gets addresses of its own.
func isBridged(v *view) bool {
	if v.ResolvedNet != "" || v.Config.NetworkDisabled {
		return false
	}
	for name := range v.Networks {
		if name != mobynet.NetworkHost && name != mobynet.NetworkNone {
			return true
		}
	}
	return false
}

// addAddresses writes the hosts file of a container whose addresses have become known.
func (e *Engine) addAddresses(v *view, eps []network.Endpoint) error {
	var ips []netip.Addr
	var gateway netip.Addr
	for _, ep := range eps {
		for _, p := range []netip.Prefix{ep.IPv4, ep.IPv6} {
			if p.IsValid() {
				ips = append(ips, p.Addr())
			}
		}
		if !gateway.IsValid() {
			gateway = ep.Host
		}
	}
	hosts, err := e.hosts(v, false, gateway, ips...)
	if err != nil {
		return err
	}
	return writeInPlace(e.files(v).Hosts, hosts)
}

func (e *Engine) hosts(v *view, isHost bool, gateway netip.Addr, ips ...netip.Addr) (string, error) {
	base := ""
	if isHost {
		b, err := os.ReadFile(hostHosts)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		base = string(b)
		gateway = netip.MustParseAddr("127.0.0.1")
	}
	extra, missing := netfiles.Extra(v.HostConfig.ExtraHosts, gateway)
	if len(missing) > 0 {
		return "", invalid("unable to derive the IP value for host-gateway: the container has no gateway")
	}
	linked, err := e.linkedHosts(v)
	if err != nil {
		return "", err
	}
	extra = append(extra, linked...)
	names := []string{v.Config.Hostname}
	if v.Config.Domainname != "" {
		names = []string{v.Config.Hostname + "." + v.Config.Domainname, v.Config.Hostname}
	}
	for _, ip := range ips {
		extra = append(extra, netfiles.Host{IP: ip.String(), Names: names})
	}
	return netfiles.Hosts(base, extra), nil
}

// resolver takes the host's servers, or those behind systemd-resolved's stub, unless the container has its own.
func (e *Engine) resolver(v *view, isHost bool) (string, error) {
	h := v.HostConfig
	var own netfiles.Resolver
	for _, s := range h.DNS {
		own.Servers = append(own.Servers, s.String())
	}
	own.Search, own.Options = h.DNSSearch, h.DNSOptions
	if len(own.Servers) == 0 {
		own.Servers = e.config.DNS
	}
	if len(own.Search) == 0 {
		own.Search = e.config.DNSSearch
	}
	if len(own.Options) == 0 {
		own.Options = e.config.DNSOptions
	}

	if !isHost && hasResolver(v) {
		return embedded(own)
	}
	source := hostResolver
	r, err := readResolver(source)
	if err != nil {
		return "", err
	}
	if !isHost && r.IsStub() {
		if behind, err := readResolver(resolvedServers); err == nil && len(behind.Servers) > 0 {
			source, r = resolvedServers, behind
		}
	}
	if !isHost {
		var dropped []string
		if r, dropped = r.Outside(); len(dropped) > 0 && len(own.Servers) == 0 {
			e.log.Warn("name servers of the host cannot be reached from the container", "container", v.ID, "servers", strings.Join(dropped, ","), "left", len(r.Servers))
		}
	}
	if len(own.Servers) > 0 {
		source = "--dns options"
	}
	return r.Override(own).File(source), nil
}

func readResolver(path string) (netfiles.Resolver, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return netfiles.Resolver{}, nil
	}
	return netfiles.ParseResolver(string(b)), err
}

// writeInPlace writes a file that is or will be mounted: a rename would leave the mount with the old one.
func writeInPlace(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if err = failpoint.Hit("engine.write"); err == nil {
		_, err = f.WriteString(text)
	}
	return errors.Join(err, f.Close())
}

// prepareSources makes the missing source directories of -v, as Docker does. One that would cover a file of the image is
// refused: there somebody mistyped the path of a file, and a directory of that name on the host would be no help.
func (e *Engine) prepareSources(v *view, layers image.Layers) error {
	for _, m := range v.Mounts {
		if m.Type != mount.TypeBind {
			continue
		}
		_, err := os.Stat(m.Source)
		switch {
		case err == nil:
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return internal("error while checking mount source path '%s': %v", m.Source, err)
		case !m.MakeSource:
			return invalid(`invalid mount config for type "bind": bind source path does not exist: %s`, m.Source)
		case isFileInLayers(layers, m.Destination):
			return invalid("error while creating mount source path '%s': %s is a file in the image. Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type", m.Source, m.Destination)
		}
		if err := os.MkdirAll(m.Source, 0o755); err != nil {
			return internal("error while creating mount source path '%s': %v", m.Source, err)
		}
	}
	return nil
}

// isFileInLayers tells whether the topmost layer that has path has a file there. Paths through links are not followed:
// then the answer is no, and the mount itself will tell.
func isFileInLayers(l image.Layers, path string) bool {
	for _, dir := range append([]string{l.Upper}, l.Lower...) {
		if dir == "" {
			continue
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			continue
		}
		info, err := root.Lstat(strings.TrimPrefix(path, "/"))
		root.Close()
		if err == nil {
			return info.Mode().IsRegular()
		}
	}
	return false
}

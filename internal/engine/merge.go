package engine

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/image"
)

// merge completes a user's configuration with the image's, by Docker's rules. The result shares nothing that will be
// written to with its arguments.
func merge(user *container.Config, img image.Image) (*container.Config, error) {
	c := *user
	from := img.Config.Config
	if c.User == "" {
		c.User = from.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = from.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = from.StopSignal
	}
	if len(c.Shell) == 0 {
		c.Shell = from.Shell
	}
	c.Env = mergeEnv(c.Env, from.Env)
	c.Labels = mergeMaps(from.Labels, c.Labels)
	if len(from.Volumes) > maxImageVolumes {
		return nil, invalid("the image has more than %d volumes", maxImageVolumes)
	}
	c.Volumes = mergeMaps(from.Volumes, c.Volumes)
	ports, err := mergePorts(c.ExposedPorts, from.ExposedPorts)
	if err != nil {
		return nil, err
	}
	c.ExposedPorts = ports
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = from.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = from.Entrypoint
		}
	}
	c.Healthcheck = mergeHealth(c.Healthcheck, from.Healthcheck)
	// One empty word is how a client asks for no entrypoint, not even the image's.
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil
	}
	if len(c.Entrypoint) == 0 && len(c.Cmd) == 0 {
		return nil, invalid("no command specified")
	}
	return &c, nil
}

// mergeEnv adds the image's variables that the user did not name. A user's "K" without "=" keeps the image's K away.
func mergeEnv(user, img []string) []string {
	named := map[string]bool{}
	for _, e := range user {
		k, _, _ := strings.Cut(e, "=")
		named[k] = true
	}
	env := slices.Clone(user)
	for _, e := range img {
		if k, _, _ := strings.Cut(e, "="); !named[k] {
			env = append(env, e)
		}
	}
	return env
}

func mergeMaps[V any](base, over map[string]V) map[string]V {
	if len(base) == 0 && len(over) == 0 {
		return over
	}
	m := maps.Clone(base)
	if m == nil {
		m = map[string]V{}
	}
	maps.Copy(m, over)
	return m
}

// What an image may ask for. It is a stranger's: a few bytes of its configuration name all ports of a protocol, whose
// name they make up, and again, and each volume becomes a directory here.
const (
	maxImagePorts   = 3 << 16 // all of TCP, UDP and SCTP
	maxImageVolumes = 1000
)

func mergePorts(user network.PortSet, img map[string]struct{}) (network.PortSet, error) {
	if len(img) == 0 {
		return user, nil
	}
	named := 0
	ports := maps.Clone(user)
	if ports == nil {
		ports = network.PortSet{}
	}
	for p := range img {
		first, err := network.ParsePortRange(p)
		if err != nil {
			return nil, invalid("invalid exposed port %q of the image: %v", p, err)
		}
		if named += int(first.End()) - int(first.Start()) + 1; named > maxImagePorts {
			return nil, invalid("the image exposes more than %d ports", maxImagePorts)
		}
		for port := range first.All() {
			ports[port] = struct{}{}
		}
	}
	return ports, nil
}

func mergeHealth(user, img *container.HealthConfig) *container.HealthConfig {
	if img == nil || user == nil {
		if user == nil {
			return img
		}
		return user
	}
	h := *user
	if len(h.Test) == 0 {
		h.Test = img.Test
	}
	for _, d := range []struct{ mine, theirs *time.Duration }{
		{&h.Interval, &img.Interval}, {&h.Timeout, &img.Timeout}, {&h.StartPeriod, &img.StartPeriod}, {&h.StartInterval, &img.StartInterval},
	} {
		if *d.mine == 0 {
			*d.mine = *d.theirs
		}
	}
	if h.Retries == 0 {
		h.Retries = img.Retries
	}
	return &h
}

// command splits a configuration into the program and its arguments.
func command(c *container.Config) (path string, args []string) {
	argv := slices.Concat(c.Entrypoint, c.Cmd)
	return argv[0], argv[1:]
}

// withDefaults copies a request and fills in what it left open and [spec.SetDefaults] does not know of.
func withDefaults(user *container.HostConfig, log container.LogConfig) *container.HostConfig {
	var h container.HostConfig
	if user != nil {
		h = *user
	}
	if h.NetworkMode == "" || h.NetworkMode.IsDefault() {
		h.NetworkMode = network.NetworkBridge
	}
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	h.LogConfig = withLogDefaults(h.LogConfig, log)
	if h.MemorySwappiness != nil && *h.MemorySwappiness == -1 {
		h.MemorySwappiness = nil
	}
	if h.PidsLimit != nil && *h.PidsLimit == 0 {
		h.PidsLimit = nil
	}
	return &h
}

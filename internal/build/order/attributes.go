package order

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Attributes words the options as BuildKit's Dockerfile frontend wants them.
func (o Options) Attributes() (map[string]string, error) {
	a := map[string]string{"filename": o.Dockerfile, "image-resolve-mode": "local"}
	if o.Dockerfile == "" {
		a["filename"] = "Dockerfile"
	}
	set := func(key, value string) {
		if value != "" {
			a[key] = value
		}
	}
	number := func(key string, n int64) {
		if n != 0 {
			a[key] = strconv.FormatInt(n, 10)
		}
	}
	set("context", o.Remote)
	set("target", o.Target)
	set("platform", o.Platform)
	set("cache-from", strings.Join(o.CacheFrom, ",")) // the frontend asks for it, not the request to solve
	if o.NoCache {
		a["no-cache"] = ""
	}
	if o.Pull {
		a["image-resolve-mode"] = "pull"
	}
	for key, value := range o.BuildArgs {
		if value != nil {
			a["build-arg:"+key] = *value
		}
	}
	for key, value := range o.Labels {
		a["label:"+key] = value
	}
	switch o.Network {
	case "", "default", "bridge":
	case "host", "none":
		a["force-network-mode"] = o.Network
	default:
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("network mode %q not supported by buildkit - you can define a custom network for your builder using the network driver-opt in buildx create", o.Network))
	}
	if len(o.ExtraHosts) > 0 {
		var hosts []string
		for _, h := range o.ExtraHosts {
			name, ip, ok := strings.Cut(h, ":")
			if !ok {
				return nil, errdefs.ErrInvalidArgument.WithMessage("invalid host: " + h)
			}
			hosts = append(hosts, name+"="+ip)
		}
		a["add-hosts"] = strings.Join(hosts, ",")
	}
	set("ulimit", strings.Join(o.Ulimits, ","))
	number("shm-size", o.ShmSize)
	number("memory", o.Memory)
	number("memswap", o.MemorySwap)
	number("cpushares", o.CPUShares)
	number("cpuperiod", o.CPUPeriod)
	number("cpuquota", o.CPUQuota)
	set("cpusetcpus", o.CPUSetCPUs)
	set("cpusetmems", o.CPUSetMems)
	return a, nil
}

package compare

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	mobyimage "github.com/moby/moby/api/types/image"
	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/debug/look"
	"github.com/portholehq/porthole/internal/engine"
)

// ofImage takes an image's configuration apart.
func ofImage(ref string, img *mobyimage.InspectResponse) *facts {
	f := newFacts("image")
	f.Name, f.ID = ref, img.ID
	f.know(process, env, labels, layers)
	f.put(process, "platform", path.Join(img.Os, img.Architecture, img.Variant))
	f.layers = img.RootFS.Layers
	c := img.Config
	if c == nil {
		return f
	}
	f.program(append(append([]string{}, c.Entrypoint...), c.Cmd...), c.User, c.WorkingDir, c.StopSignal)
	f.variables(c.Env)
	for k, v := range c.Labels {
		f.put(labels, k, v)
	}
	return f
}

func (f *facts) program(command []string, user, dir, stop string) {
	f.put(process, "command", quoted(command))
	f.put(process, "user", orElse(user, "root"))
	f.put(process, "working directory", orElse(dir, "/"))
	f.put(process, "stop signal", orElse(stop, "SIGTERM"))
}

func (f *facts) variables(list []string) {
	for _, one := range list {
		name, value, _ := strings.Cut(one, "=")
		f.values[key{env, name}] = value // an empty one is one
	}
}

func orElse(s, usual string) string {
	if s == "" {
		return usual
	}
	return s
}

// quoted shows words so that it is seen where each ends.
func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = w
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\$") {
			out[i] = strconv.Quote(w)
		}
	}
	return strings.Join(out, " ")
}

// ofContainer takes a container apart: what was asked for, and of one that runs what
// is so.
func ofContainer(ctx context.Context, src Source, s engine.Subject, out *api.Comparison) (*facts, error) {
	f := newFacts("container")
	f.Name, f.ID, f.Status = s.Name, s.ID, string(s.Status)
	f.asked(&s)
	img, err := src.ImageInspect(ctx, s.ImageID)
	if err != nil {
		out.Unknown = append(out.Unknown, fmt.Sprintf("the layers of %s: %v", s.Name, err))
	} else {
		f.know(layers)
		f.layers = img.RootFS.Layers
	}
	return f, f.live(ctx, src, &s, out)
}

// asked are the facts of a container's configuration.
func (f *facts) asked(s *engine.Subject) {
	c, h := s.Config, s.HostConfig
	f.know(process, setUp, rights, limits, mounts, env, networks, sysctls, ulimits, standing, other, labels)
	f.program(append([]string{s.Path}, s.Args...), c.User, c.WorkingDir, c.StopSignal)
	f.put(process, "platform", path.Join(s.Platform.OS, s.Platform.Architecture, s.Platform.Variant))
	id := strings.TrimPrefix(s.ImageID, "sha256:")
	f.put(setUp, "image", c.Image+" ("+id[:min(12, len(id))]+")")
	f.put(setUp, "terminal", strconv.FormatBool(c.Tty))
	f.put(setUp, "init", strconv.FormatBool(h.Init != nil && *h.Init))
	f.variables(c.Env)

	f.put(rights, "privileged", strconv.FormatBool(h.Privileged))
	f.put(rights, "capabilities added", strings.Join(h.CapAdd, " "))
	f.put(rights, "capabilities dropped", strings.Join(h.CapDrop, " "))
	f.put(rights, "read-only root", strconv.FormatBool(h.ReadonlyRootfs))
	for _, o := range h.SecurityOpt {
		name, value, _ := strings.Cut(strings.Replace(o, ":", "=", 1), "=")
		f.put(rights, name, orElse(value, "yes"))
	}
	f.put(rights, "user namespace", orElse(string(h.UsernsMode), "default"))
	f.put(rights, "pid namespace", orElse(string(h.PidMode), "private"))
	f.put(rights, "ipc namespace", orElse(string(h.IpcMode), "private"))
	for _, d := range h.Devices {
		f.put(rights, "device "+d.PathInContainer, d.PathOnHost+" "+d.CgroupPermissions)
	}

	f.size("memory", h.Memory)
	f.size("memory and swap", h.MemorySwap)
	if h.NanoCPUs > 0 {
		f.put(limits, "cpus", strconv.FormatFloat(float64(h.NanoCPUs)/1e9, 'g', -1, 64))
	}
	f.count("cpu quota", h.CPUQuota)
	f.count("cpu shares", h.CPUShares)
	f.put(limits, "cpuset", h.CpusetCpus)
	if h.PidsLimit != nil && *h.PidsLimit > 0 {
		f.count("pids", *h.PidsLimit)
	}
	f.size("shm", h.ShmSize)
	for _, u := range h.Ulimits {
		f.put(ulimits, u.Name, fmt.Sprintf("%d:%d", u.Soft, u.Hard))
	}
	for name, value := range h.Sysctls {
		f.put(sysctls, name, value)
	}
	f.rest(s)
}

// rest are the facts about the container's surroundings.
func (f *facts) rest(s *engine.Subject) {
	c, h := s.Config, s.HostConfig
	for _, m := range s.Mounts {
		mode := "ro"
		if m.RW {
			mode = "rw"
		}
		f.put(mounts, m.Destination, strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s %s", m.Type, m.Name, m.Source, m.Subpath, mode)), " "))
	}
	f.put(networks, "mode", string(h.NetworkMode))
	for _, n := range s.Networks {
		f.put(networks, "on "+n, "yes")
	}
	for port := range c.ExposedPorts {
		f.put(networks, "exposed "+port.String(), "yes")
	}
	for port, list := range h.PortBindings {
		f.put(networks, "published "+port.String(), bindings(list))
	}
	for _, d := range h.DNS {
		f.put(networks, "dns "+d.String(), "yes")
	}
	for _, x := range h.ExtraHosts {
		name, address, _ := strings.Cut(x, ":")
		f.put(networks, "host "+name, address)
	}
	f.put(other, "restart policy", orElse(string(h.RestartPolicy.Name), "no"))
	f.put(other, "log driver", h.LogConfig.Type)
	if c.Healthcheck != nil {
		f.put(other, "health check", quoted(c.Healthcheck.Test))
	}
	f.put(standing, "status", string(s.Status))
	if s.Pid == 0 {
		f.put(standing, "exit code", strconv.Itoa(s.Life.ExitCode))
	}
	if s.Health != nil {
		f.put(standing, "health", string(s.Health.Status))
	}
	for k, v := range c.Labels {
		f.put(labels, k, v)
	}
}

func bindings(list []mobynet.PortBinding) string {
	var words []string
	for _, b := range list {
		address := ""
		if b.HostIP.IsValid() {
			address = b.HostIP.String() + ":"
		}
		words = append(words, address+orElse(b.HostPort, "any"))
	}
	return strings.Join(words, " ")
}

func (f *facts) size(name string, n int64) {
	if n > 0 {
		f.put(limits, name, units.BytesSize(float64(n)))
	}
}

func (f *facts) count(name string, n int64) {
	if n != 0 {
		f.put(limits, name, strconv.FormatInt(n, 10))
	}
}

// live are the facts of a container that runs.
func (f *facts) live(ctx context.Context, src Source, s *engine.Subject, out *api.Comparison) error {
	if s.Pid == 0 {
		return nil
	}
	iso, err := look.Isolation(ctx, src, s.ID)
	if err != nil || iso == nil {
		return err // nil: it has just ended
	}
	f.know(inEffect)
	for _, l := range iso.Limits {
		if l.Value != nil && !l.Own {
			f.put(inEffect, l.Name+" limit of a group around", fmt.Sprintf("%d by %s", *l.Value, l.From))
		}
	}
	f.put(inEffect, "capabilities", strings.ReplaceAll(strings.Join(iso.Capabilities.Effective, " "), "CAP_", ""))
	f.put(inEffect, "seccomp", iso.Seccomp.Mode)
	files, err := look.Files(ctx, src, s.ID, true)
	if errdefs.IsConflict(err) {
		return nil // it has ended meanwhile, as one that is started again and again does
	}
	if err != nil {
		return err
	}
	f.know(libraries)
	for _, m := range files.Mapped {
		if m.Executable {
			f.put(libraries, m.Path, "mapped")
		}
	}
	sockets, err := look.Sockets(ctx, src, s.ID, false)
	if errdefs.IsConflict(err) {
		return nil
	}
	if err != nil {
		return err
	}
	f.know(listening)
	for _, k := range sockets.Sockets {
		if k.State == "LISTEN" {
			f.put(listening, k.Protocol+" "+k.Local, "yes")
		}
	}
	for _, text := range append(files.Unknown, iso.Unknown...) {
		out.Unknown = append(out.Unknown, s.Name+": "+text)
	}
	return nil
}

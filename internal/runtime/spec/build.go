package spec

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/linux/seccomp"
)

// builder makes one document.
type builder struct {
	Input
	spec     *specs.Spec
	security security
	warnings []string
}

// Build makes the document. Warnings are for the answer to the user.
//
// Namespaces that the container shares with the host or with another container
// are not in the document; which of the two is said by HostConfig. Process.User
// holds the user in Docker's form (name|uid[:group|gid]) in Username, because
// only the container's own files can tell what it means.
func Build(in Input) (*specs.Spec, []string, error) {
	b := &builder{Input: in, spec: &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs", Readonly: in.HostConfig.ReadonlyRootfs},
		Process: &specs.Process{},
		Linux:   &specs.Linux{Sysctl: map[string]string{}, Resources: &specs.LinuxResources{}},
	}}
	for _, step := range []func() error{
		b.securityOptions, b.process, b.capabilities, b.namespaces, b.sysctls, b.resources, b.devices,
		b.mounts, b.paths, b.seccomp, b.apparmor,
	} {
		if err := step(); err != nil {
			return nil, b.warnings, err
		}
	}
	return b.spec, b.warnings, nil
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func (b *builder) warn(format string, args ...any) {
	b.warnings = append(b.warnings, fmt.Sprintf(format, args...))
}

// userNS tells whether the container has a user namespace of its own.
func (b *builder) userNS() bool { return b.IDs.Size > 0 }

func (b *builder) securityOptions() (err error) {
	b.security, err = parseSecurity(b.HostConfig.SecurityOpt)
	b.spec.Process.NoNewPrivileges = b.Host.NoNewPrivileges
	if b.security.noNewPrivileges != nil {
		b.spec.Process.NoNewPrivileges = *b.security.noNewPrivileges
	}
	return err
}

// process fills in what the first process is.
func (b *builder) process() error {
	c, hc, p := b.Config, b.HostConfig, b.spec.Process
	p.Args = slices.Concat(c.Entrypoint, c.Cmd)
	if len(p.Args) == 0 {
		return invalid("no command specified")
	}
	p.Cwd = c.WorkingDir
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	p.Terminal = c.Tty
	if c.Tty && (hc.ConsoleSize[0] > 0 || hc.ConsoleSize[1] > 0) {
		p.ConsoleSize = &specs.Box{Height: hc.ConsoleSize[0], Width: hc.ConsoleSize[1]}
	}
	p.Env = environment(c.Hostname, c.Tty, c.Env)
	p.User = specs.User{Username: c.User, Umask: hc.Umask}
	score := hc.OomScoreAdj
	p.OOMScoreAdj = &score
	p.Rlimits = rlimits(b.Host, hc.Ulimits)
	b.spec.Annotations = maps.Clone(hc.Annotations)
	return nil
}

// environment returns Docker's own variables and the container's, which win.
func environment(hostname string, tty bool, own []string) []string {
	env := []string{"PATH=" + defaultPath, "HOSTNAME=" + hostname}
	if tty {
		env = append(env, "TERM=xterm")
	}
	return mergeEnv(env, own)
}

// mergeEnv applies changes to an environment: K=V replaces or appends, K alone
// removes.
func mergeEnv(env, changes []string) []string {
	env = slices.Clone(env)
	for _, change := range changes {
		key, _, assigns := strings.Cut(change, "=")
		i := slices.IndexFunc(env, func(e string) bool { return e == key || strings.HasPrefix(e, key+"=") })
		switch {
		case i >= 0 && assigns:
			env[i] = change
		case i >= 0:
			env = slices.Delete(env, i, i+1)
		case assigns:
			env = append(env, change)
		}
	}
	return env
}

func (b *builder) capabilities() error {
	available := b.Host.available(b.userNS())
	list := available.Names()
	if !b.HostConfig.Privileged {
		var err error
		if list, err = caps.Tweak(caps.Default(), b.HostConfig.CapAdd, b.HostConfig.CapDrop, available); err != nil {
			return err
		}
	}
	b.spec.Process.Capabilities = capabilitySets(list)
	return nil
}

// capabilitySets returns the sets of a first process: neither inheritable nor
// ambient ones, so that a user other than root starts without any.
func capabilitySets(list []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list}
}

// namespaces lists the namespaces that are made for the container.
func (b *builder) namespaces() error {
	hc, linux := b.HostConfig, b.spec.Linux
	if b.userNS() {
		mapping := []specs.LinuxIDMapping{{ContainerID: 0, HostID: b.IDs.Host, Size: b.IDs.Size}}
		linux.UIDMappings, linux.GIDMappings = mapping, slices.Clone(mapping)
	}
	for _, n := range []struct {
		kind specs.LinuxNamespaceType
		own  bool
	}{
		{specs.MountNamespace, true},
		{specs.NetworkNamespace, hc.NetworkMode.IsPrivate()},
		{specs.UTSNamespace, hc.UTSMode.IsPrivate()},
		{specs.PIDNamespace, hc.PidMode.IsPrivate()},
		{specs.IPCNamespace, !hc.IpcMode.IsHost() && !hc.IpcMode.IsContainer()},
		{specs.CgroupNamespace, hc.CgroupnsMode.IsPrivate() && b.Host.CgroupNamespaces},
		{specs.UserNamespace, b.userNS()},
	} {
		if n.own {
			linux.Namespaces = append(linux.Namespaces, specs.LinuxNamespace{Type: n.kind})
		}
	}
	if hc.UTSMode.IsPrivate() {
		b.spec.Hostname, b.spec.Domainname = b.Config.Hostname, b.Config.Domainname
	} else if b.Config.Domainname != "" {
		return invalid("conflicting options: domainname and the UTS mode")
	}
	parent := hc.CgroupParent
	if parent == "" {
		parent = b.CgroupParent
	}
	linux.CgroupsPath = path.Join("/", parent, b.ID)
	return nil
}

func (b *builder) paths() error {
	if b.HostConfig.Privileged {
		return nil
	}
	b.spec.Linux.MaskedPaths = slices.Clone(b.HostConfig.MaskedPaths)
	if b.HostConfig.MaskedPaths == nil {
		b.spec.Linux.MaskedPaths = MaskedPaths(b.Host)
	}
	b.spec.Linux.ReadonlyPaths = slices.Clone(b.HostConfig.ReadonlyPaths)
	if b.HostConfig.ReadonlyPaths == nil {
		b.spec.Linux.ReadonlyPaths = ReadonlyPaths()
	}
	return nil
}

// seccomp chooses the profile and keeps of it what concerns this container.
func (b *builder) seccomp() (err error) {
	text := b.security.seccomp
	if text == unconfined || b.HostConfig.Privileged && text == "" {
		return nil
	}
	if !b.Host.Seccomp {
		if text != "" && text != builtin {
			return invalid("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
		}
		b.warn("seccomp is not enabled in your kernel, running container without default profile")
		return nil
	}
	if text == "" {
		text = b.Host.SeccompProfile
	}
	facts := seccomp.Facts{Arch: b.Host.Arch, Kernel: b.Host.Kernel, Capabilities: b.spec.Process.Capabilities.Bounding}
	switch text {
	case unconfined:
		return nil
	case "", builtin:
		b.spec.Linux.Seccomp, err = seccomp.Default(facts)
	default:
		b.spec.Linux.Seccomp, err = seccomp.Load([]byte(text), facts)
	}
	if err != nil {
		return invalid("%v", err)
	}
	return nil
}

func (b *builder) apparmor() (err error) {
	b.spec.Process.ApparmorProfile, err = AppArmorProfile(b.Host, b.HostConfig)
	return err
}

// AppArmorProfile chooses the profile that a container runs under: the one that
// it asks for, none if it is privileged, or else the daemon's. It is empty where
// AppArmor has no say; Validate tells those who ask for a profile there.
func AppArmorProfile(h Host, hc *container.HostConfig) (string, error) {
	options, err := parseSecurity(hc.SecurityOpt)
	switch {
	case err != nil || !h.AppArmor:
		return "", err
	case options.apparmor != "":
		return options.apparmor, nil
	case hc.Privileged:
		return unconfined, nil
	}
	return h.AppArmorProfile, nil
}

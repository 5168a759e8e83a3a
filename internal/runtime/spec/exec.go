package spec

import (
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// ExecProcess returns one more process for the container that base is the
// document of. What the request leaves open is as in the container's first
// process. A privileged one has every capability that the container's user
// namespace allows, and keeps the container's seccomp filter and AppArmor
// profile.
func ExecProcess(host Host, base *specs.Spec, req container.ExecCreateRequest) (*specs.Process, error) {
	if len(req.Cmd) == 0 {
		return nil, invalid("No exec command specified")
	}
	p := *base.Process
	p.Args = slices.Clone(req.Cmd)
	p.Terminal = req.Tty
	p.ConsoleSize = nil
	if req.Tty && req.ConsoleSize != nil {
		p.ConsoleSize = &specs.Box{Height: req.ConsoleSize[0], Width: req.ConsoleSize[1]}
	}
	p.Env = mergeEnv(execEnv(base.Process, req.Tty), req.Env)
	if req.WorkingDir != "" {
		p.Cwd = req.WorkingDir
	}
	if req.User != "" {
		p.User = specs.User{Username: req.User, Umask: p.User.Umask}
	}
	if req.Privileged {
		userNS := slices.ContainsFunc(base.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
		p.Capabilities = capabilitySets(host.available(userNS).Names())
	}
	return &p, nil
}

// execEnv returns the container's environment with the TERM that goes with this
// process's terminal instead of the first process's.
func execEnv(first *specs.Process, tty bool) []string {
	env := slices.Clone(first.Env)
	own := min(3, len(env)) // PATH, HOSTNAME and TERM come first, see environment
	switch given := slices.Index(env[:own], "TERM=xterm"); {
	case first.Terminal && !tty && given >= 0:
		return slices.Delete(env, given, given+1)
	case !first.Terminal && tty && !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }):
		return slices.Insert(env, min(2, len(env)), "TERM=xterm")
	}
	return env
}

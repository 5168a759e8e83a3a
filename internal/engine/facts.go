package engine

import (
	"errors"
	"runtime/debug"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/witness"
)

// Facts are what Docker's info has no place for.
type Facts struct {
	// NoUserNamespaces tells why containers have no user namespaces of their own; nil: they have.
	NoUserNamespaces error
	IDsPerContainer  int
	Seccomp          string // builtin, custom or unconfined; empty: the kernel has none
	AppArmorProfile  string // of containers that name none; empty: none
	NoAppArmor       error  // why there is none although AppArmor is on
	CgroupNamespaces bool
	CgroupMode       string // as "cgroup v2" or "cgroup v1 hybrid"
	CgroupParent     string
	Pids             cgroup.PidsBounds // of all containers together, and of those without a limit of their own
	NoPids           error             // why there are none

	Journal       event.Stats
	JournalBounds event.Options
	Log           crilog.Options // of containers that do not say

	DataRoot, ExecRoot string
	NoNewPrivileges    bool // of containers that do not say

	Signals   witness.Counts // that were watched
	NoSignals error          // why they are not; nil: they are

	Cores   bool  // those of processes that crash in containers are kept
	NoCores error // why they are not, though somebody has asked for it; nil: nobody has, or they are
}

// Facts tells how containers are kept apart on this host, and how much is kept of what happens.
func (e *Engine) Facts() Facts {
	host := e.deps.Host
	logs, err := logOptions(withLogDefaults(container.LogConfig{}, e.config.LogConfig))
	if err != nil {
		e.log.Error("default log options", "err", err) // CheckLogConfig has passed them
	}
	f := Facts{
		NoUserNamespaces: e.noMapping, IDsPerContainer: idRangeSize, Seccomp: e.seccompProfile(), AppArmorProfile: host.AppArmorProfile, NoAppArmor: e.config.NoAppArmor,
		CgroupNamespaces: host.CgroupNamespaces, CgroupMode: host.Cgroup.Mode.String(), CgroupParent: e.config.CgroupParent,
		Pids: e.config.Pids, NoPids: e.config.NoPids,
		Journal: e.deps.Events.Stats(), JournalBounds: e.deps.Events.Bounds(), Log: logs.WithDefaults(),
		DataRoot: e.config.DataRoot, ExecRoot: e.config.ExecRoot, NoNewPrivileges: host.NoNewPrivileges,
	}
	f.Cores, f.NoCores = e.coreStatus()
	if e.deps.Witness == nil {
		f.NoSignals = errors.New("nobody watches")
	} else {
		f.Signals, f.NoSignals = e.deps.Witness.Counts()
	}
	return f
}

// seccompProfile names the profile of containers that name none.
func (e *Engine) seccompProfile() string {
	switch {
	case !e.deps.Host.Seccomp:
		return ""
	case e.deps.Host.SeccompProfile == "":
		return "builtin"
	case e.deps.Host.SeccompProfile == "unconfined":
		return "unconfined"
	}
	return "custom"
}

// library is the version of a module that the program was built with; empty if that is not known.
func library(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}

const containerdModule = "github.com/containerd/containerd/v2"

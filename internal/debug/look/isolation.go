package look

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/debug/mounted"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/procfile"
)

// IsolationSource is what [Isolation] needs.
type IsolationSource interface {
	Source
	mounted.Source
	Facts() engine.Facts
}

// Isolation tells how the kernel keeps a container apart from the host; nil if it
// does not run. It reads what the kernel has of the first process, not its memory.
func Isolation(ctx context.Context, src IsolationSource, ref string) (*api.IsolationLive, error) {
	s, err := src.Subject(ref)
	if err != nil || s.Pid == 0 {
		return nil, err
	}
	out := &api.IsolationLive{
		Name: s.Name, Status: string(s.Status), HostPID: s.Pid, Privileged: s.HostConfig.Privileged, ReadonlyRoot: s.HostConfig.ReadonlyRootfs,
		MaskedPaths: s.HostConfig.MaskedPaths, ReadonlyPaths: s.HostConfig.ReadonlyPaths,
	}
	proc := "/proc/" + strconv.Itoa(s.Pid)
	note := func(what string, err error) {
		if err != nil {
			out.Unknown = append(out.Unknown, what+": "+err.Error())
		}
	}
	out.Namespaces, err = namespaces(src, s)
	note("namespaces", err)
	out.UIDMap, err = idMap(proc + "/uid_map")
	note("the map of user ids", err)
	out.GIDMap, err = idMap(proc + "/gid_map")
	note("the map of group ids", err)
	note("capabilities and seccomp", fromStatus(out, proc))
	out.Seccomp.Profile = profile(s, src.Facts().Seccomp)
	if text, err := os.ReadFile(proc + "/attr/apparmor/current"); err == nil {
		out.AppArmor = strings.TrimSpace(strings.TrimRight(string(text), "\x00"))
	}
	if text, err := os.ReadFile(proc + "/oom_score_adj"); err == nil {
		out.OOMScoreAdj, err = strconv.Atoi(strings.TrimSpace(string(text)))
		note("the OOM score", err)
	}
	out.Limits, err = limits(s.Pid)
	note("limits", err)
	if own := s.HostConfig.PidsLimit; own == nil || *own <= 0 {
		fromEngine(out.Limits)
	}
	out.Rlimits, err = rlimits(proc)
	note("limits of the process", err)
	m, err := mounted.Look(ctx, src, mounted.Options{Container: s.ID, All: true})
	note("mounts", err)
	if m != nil {
		out.Mounts = m.Mounts
	}
	return out, ctx.Err()
}

// profile names the seccomp profile that was asked for.
func profile(s engine.Subject, usual string) string {
	name := usual
	if s.HostConfig.Privileged {
		name = "unconfined"
	}
	for _, o := range s.HostConfig.SecurityOpt {
		if value, ok := strings.CutPrefix(strings.Replace(o, ":", "=", 1), "seccomp="); ok {
			switch value {
			case "unconfined", "builtin":
				name = value
			default:
				name = "custom"
			}
		}
	}
	return name
}

// idMap reads a map of ids, see user_namespaces(7).
func idMap(path string) ([]api.IDMapping, error) {
	text, err := procfile.Read(path, procfile.Longest)
	if err != nil {
		return nil, err
	}
	list := []api.IDMapping{}
	for line := range bytes.Lines(text) {
		var m api.IDMapping
		if _, err := fmt.Sscan(string(line), &m.Inside, &m.Host, &m.Size); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

var seccompModes = map[string]string{"0": "disabled", "1": "strict", "2": "filter"}

// fromStatus reads capabilities, seccomp and no_new_privs, see proc_pid_status(5).
func fromStatus(out *api.IsolationLive, proc string) error {
	text, err := procfile.Read(proc+"/status", procfile.Longest)
	if err != nil {
		return err
	}
	sets := map[string]*[]string{
		"CapEff": &out.Capabilities.Effective, "CapPrm": &out.Capabilities.Permitted, "CapInh": &out.Capabilities.Inheritable,
		"CapAmb": &out.Capabilities.Ambient, "CapBnd": &out.Capabilities.Bounding,
	}
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimSpace(value)
		if set := sets[key]; set != nil {
			bits, err := strconv.ParseUint(value, 16, 64)
			if err != nil {
				return err
			}
			*set = caps.Set(bits).Names()
		}
		switch key {
		case "NoNewPrivs":
			out.NoNewPrivs = value == "1"
		case "Seccomp":
			out.Seccomp.Mode = seccompModes[value]
		case "Seccomp_filters":
			if out.Seccomp.Filters, err = strconv.Atoi(value); err != nil {
				return err
			}
		}
	}
	return nil
}

func limits(pid int) ([]api.Limit, error) {
	list, err := cgroup.Ceilings(pid)
	out := make([]api.Limit, 0, len(list))
	for _, c := range list {
		l := api.Limit{Name: c.Name, Value: c.Value, From: c.From, Use: c.Use, Own: strings.HasSuffix(c.From, "/"+string(cgroup.App))}
		for _, x := range c.Levels {
			l.Levels = append(l.Levels, api.LimitLevel{Group: x.Group, Value: x.Value})
		}
		out = append(out, l)
	}
	return out, err
}

// fromEngine tells that a container has the limit of processes that the engine gives to those without one.
func fromEngine(limits []api.Limit) {
	for i := range limits {
		if l := &limits[i]; l.Name == "pids" && l.Own {
			l.Own, l.From = false, "the engine"
		}
	}
}

// rlimitLine is a line of /proc/PID/limits: a name of words, two values, a unit.
var rlimitLine = regexp.MustCompile(`^(\S+(?: \S+)*) {2,}(\S+) +(\S+) *(\S*) *$`)

func rlimits(proc string) ([]api.Rlimit, error) {
	text, err := procfile.Read(proc+"/limits", procfile.Longest)
	if err != nil {
		return nil, err
	}
	list := []api.Rlimit{}
	for line := range strings.Lines(string(text)) {
		f := rlimitLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if f == nil || f[1] == "Limit" {
			continue
		}
		list = append(list, api.Rlimit{Name: strings.TrimPrefix(f[1], "Max "), Soft: f[2], Hard: f[3], Unit: f[4]})
	}
	return list, nil
}

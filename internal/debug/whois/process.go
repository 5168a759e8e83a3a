package whois

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/patient"
	"github.com/portholehq/porthole/internal/linux/procfile"
	"github.com/portholehq/porthole/internal/network/keeper"
)

// process tells whose a process of the host is.
func (s *search) process(ctx context.Context, asked string) error {
	pid, err := strconv.Atoi(asked)
	if err == nil {
		if o, ok := s.processOwner(ctx, pid); ok {
			s.add(o)
			return nil
		}
	}
	return s.found("for the port of that number: porthole whois :"+asked, "no process has the pid %s", asked)
}

// processOwner tells whose a process is; false if there is no such process.
func (s *search) processOwner(ctx context.Context, pid int) (api.Owner, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	text, err := os.ReadFile(dir + "/cgroup")
	if err != nil {
		return api.Owner{}, false
	}
	args := argsOf(ctx, pid)
	o := s.placed(string(text), pid, args)
	o.Pid, o.Command = pid, commandOf(dir, args)
	if o.Command != "" {
		o.Detail += ": " + quoted(o.Command)
	}
	return o, true
}

// placed tells whose a process is by its control groups, which it cannot leave
// by itself. Of shims and of what is ours besides, the process id and the command
// line decide.
func (s *search) placed(groups string, pid int, args []string) api.Owner {
	id, sub := "", ""
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && id == "" {
			id, sub = inGroup(f[2], s.src.Places().CgroupParent)
		}
	}
	switch {
	case pid == os.Getpid():
		return api.Owner{Kind: kindDaemon, Detail: "the daemon"}
	case id == "" && len(args) > 1 && args[0] == keeper.Name: // and its socket
		if filepath.Dir(args[1]) == s.src.Places().ExecRoot {
			return api.Owner{Kind: kindDaemon, Detail: "the keeper, which holds ports and answers for names"}
		}
		return host("keeper of another daemon")
	case id == "":
		return host("process of the host%s", placeOf(groups))
	case sub == string(cgroup.Shim):
		return s.owner(id, "its shim")
	case sub == string(cgroup.Debug):
		return s.owner(id, "process of ours that looks into it")
	}
	r := s.of(id)
	if r == nil || r.Pid == 0 {
		return s.owner(id, "a process of it")
	}
	inside := pidIn(pid, r.Pid)
	o := s.owner(id, role(r, pid, inside))
	o.PidInside = inside
	return o
}

// argsOf is the command line of a process. It lies in the memory of the process,
// which that may keep from being read while it is stuck: then there is none.
func argsOf(ctx context.Context, pid int) []string {
	text, err := patient.Within(ctx, fmt.Sprintf("command line %d", pid), patience, func() ([]byte, error) {
		return procfile.Read(fmt.Sprintf("/proc/%d/cmdline", pid), procfile.Longest)
	})
	if err != nil {
		return nil
	}
	return strings.Split(string(text), "\x00")
}

// role tells what a process is in its container.
func role(r *engine.Resident, pid, inside int) string {
	if pid == r.Pid {
		return fmt.Sprintf("its first process, %d inside", inside)
	}
	for at := pid; at > 1 && at != r.Pid; at = parentOf(at) {
		i := slices.IndexFunc(r.Execs, func(x engine.ExecSession) bool { return x.Pid == at })
		if i < 0 {
			continue
		}
		if at == pid {
			return fmt.Sprintf("process %d inside, of exec %.12s", inside, r.Execs[i].ID)
		}
		return fmt.Sprintf("process %d inside, below exec %.12s", inside, r.Execs[i].ID)
	}
	return fmt.Sprintf("process %d inside", inside)
}

var wholeID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// inGroup finds a container's id, and which of its groups, in a path of a control
// group of ours.
func inGroup(group, parent string) (id, sub string) {
	rest, ours := strings.CutPrefix(path.Clean(group), path.Clean(parent)+"/")
	if !ours {
		return "", ""
	}
	id, rest, _ = strings.Cut(rest, "/")
	if !wholeID.MatchString(id) {
		return "", ""
	}
	sub, _, _ = strings.Cut(rest, "/")
	return id, sub
}

// placeOf tells of a process of others where it belongs to, if its control group
// says so: a unit of systemd, a container of another engine.
func placeOf(groups string) string {
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) < 3 {
			continue
		}
		for part := range strings.SplitSeq(f[2], "/") {
			id := strings.TrimSuffix(part, ".scope")
			if i := strings.LastIndexByte(id, '-'); i >= 0 && !wholeID.MatchString(id) {
				id = id[i+1:]
			}
			switch {
			case wholeID.MatchString(id):
				return fmt.Sprintf(", of container %.12s of another engine (%s)", id, f[2])
			case strings.HasSuffix(part, ".service"):
				return ", of unit " + part
			}
		}
	}
	return ""
}

// pidIn is a process's id in the namespace of another one's; 0 if it has none
// there.
func pidIn(pid, other int) int {
	ids := pidsOf(pid)
	if level := len(pidsOf(other)) - 1; level >= 0 && level < len(ids) {
		return ids[level]
	}
	return 0
}

// pidsOf are a process's ids, from our namespace to its own.
func pidsOf(pid int) (list []int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			for f := range strings.FieldsSeq(ids) {
				n, _ := strconv.Atoi(f)
				list = append(list, n)
			}
		}
	}
	return list
}

// parentOf is the parent of a process; 0 if there is none.
func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// pid (comm) state ppid …: comm may hold anything.
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

// longestCommand is as much of a command line as a line of output has room for.
const longestCommand = 200

// commandOf is the command line of a process, or its name in brackets.
func commandOf(dir string, args []string) string {
	if s := strings.TrimSpace(strings.Join(args, " ")); s != "" {
		return s[:min(len(s), longestCommand)]
	}
	name, _ := os.ReadFile(dir + "/comm")
	if s := strings.TrimSpace(string(name)); s != "" {
		return "[" + s + "]"
	}
	return ""
}

package ps

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Info is a process in figures, for those who show it otherwise than ps does.
type Info struct {
	PID    int // the host's
	Parent int // the host's
	// Inside is the pid in the process's own pid namespace.
	Inside  int
	State   string // one letter, see proc_pid_stat(5)
	Threads int
	// User is the effective one by name, or else its number; UID that number in
	// the container, HostUID on the host.
	User    string
	UID     uint32
	HostUID uint32
	CPU     time.Duration // that it has spent
	RSS     int64         // bytes
	Started time.Time
	// Name is the short one. Command is the command line, or the name in brackets;
	// neither has control characters.
	Name, Command string
}

// Read tells of processes in figures, by pid. Those that have ended meanwhile are
// left out. It reads command lines, which waits for a process whose memory is
// being changed.
func Read(s Source, pids []int) ([]Info, error) {
	if s.Proc == "" {
		s.Proc = "/proc"
	}
	if s.Boot.IsZero() {
		var err error
		if s.Boot, err = bootTime(s.Proc); err != nil {
			return nil, err
		}
	}
	list, err := (&Format{}).read(s.Proc, pids)
	if err != nil {
		return nil, err
	}
	out := make([]Info, 0, len(list))
	for _, p := range list {
		inside, _ := strconv.Atoi(p.nspid()) // the kernel's own number
		out = append(out, Info{
			PID: p.pid, Parent: p.ppid, Inside: inside, State: string(p.state), Threads: int(p.threads),
			User: s.user(p.euid), UID: s.inside(p.euid), HostUID: p.euid,
			CPU: time.Duration(p.utime+p.stime) * time.Second / ticksPerSecond, RSS: p.rss * pageSize,
			Started: p.started(&s), Name: p.name(), Command: strings.TrimSpace(p.command()),
		})
	}
	slices.SortFunc(out, func(a, b Info) int { return cmp.Compare(a.PID, b.PID) })
	return out, nil
}

// Tree puts children behind their parents. A stem stands in front of each to show
// its place: lines to the ones before and behind it.
func Tree(list []Info) (ordered []Info, stems []string) {
	pid, parent := func(p Info) int { return p.PID }, func(p Info) int { return p.Parent }
	descend(list, pid, parent, func(p Info, lasts []bool) {
		stem := ""
		if n := len(lasts) - 1; n >= 0 {
			stem = lines(lasts[:n], "│  ", "   ") + lines(lasts[n:], "├─ ", "└─ ")
		}
		ordered, stems = append(ordered, p), append(stems, stem)
	})
	return ordered, stems
}

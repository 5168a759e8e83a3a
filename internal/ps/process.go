package ps

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/portholehq/porthole/internal/linux/procfile"
)

const pageSize = 4096 // of /proc's counts on every machine that Go runs on with Linux, but for rare configurations

// Source is where processes are read and what has to be known to show them.
type Source struct {
	Proc     string // empty: /proc
	Now      time.Time
	Boot     time.Time // when the host was booted; zero: read from Proc
	MemTotal int64     // bytes
	// Inside translates a host's id to the one in the container; nil: they are the same.
	Inside func(id uint32) uint32
	// User and Group name an id, as translated by Inside; nil or an empty answer: its number.
	User, Group func(id uint32) string
}

const ticksPerSecond = 100 // USER_HZ, which is 100 on all architectures that Go knows

func (s *Source) ticks() float64 { return ticksPerSecond }

func (s *Source) inside(id uint32) uint32 {
	if s.Inside == nil {
		return id
	}
	return s.Inside(id)
}

func (s *Source) user(id uint32) string  { return named(s.User, s.inside(id)) }
func (s *Source) group(id uint32) string { return named(s.Group, s.inside(id)) }

func named(name func(uint32) string, id uint32) string {
	if name != nil {
		if n := name(id); n != "" {
			return n
		}
	}
	return strconv.FormatUint(uint64(id), 10)
}

// bootTime reads btime of /proc/stat.
func bootTime(proc string) (time.Time, error) {
	b, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return time.Time{}, err
	}
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 2 && string(f[0]) == "btime" {
			n, err := strconv.ParseInt(string(f[1]), 10, 64)
			return time.Unix(n, 0), err
		}
	}
	return time.Time{}, errors.New("no btime in " + filepath.Join(proc, "stat"))
}

// process is what /proc tells of a process or thread.
type process struct {
	dir      string
	pid, tid int
	comm     string
	argv     string
	state    byte

	ppid, pgrp, session, tpgid int
	tty                        int32
	flags                      uint64
	minflt, majflt             int64
	utime, stime               int64
	priority, nice, threads    int64
	start                      int64
	vsize, rss                 int64
	processor, rtPriority      int64
	policyNumber               int64

	ruid, euid, rgid, egid uint32
	locked                 bool
	nspids                 string
	most                   int // bytes of its environment that are shown
	depth                  int
	stem                   string // of the tree in front of it
}

// statusMost is more than a status file has, in which a process of 65,536 groups lists them.
const statusMost = 1 << 20

// errGone tells that a process ended before it could be read.
var errGone = errors.New("process is gone")

// readProcess reads a process, and most bytes of its command line.
func readProcess(dir string, pid, most int) (*process, error) {
	p := &process{dir: dir, pid: pid, tid: pid, most: most}
	for _, part := range []struct {
		file  string
		most  int
		parse func([]byte) error
	}{{"stat", procfile.Longest, p.parseStat}, {"status", statusMost, p.parseStatus}, {"cmdline", most, p.parseCommand}} {
		b, err := procfile.Read(filepath.Join(dir, part.file), part.most)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return nil, errGone
		}
		if err == nil {
			err = part.parse(b)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s of process %d: %w", part.file, pid, err)
		}
	}
	return p, nil
}

// parseStat reads /proc/PID/stat, see proc_pid_stat(5). The name may hold anything, parentheses too.
func (p *process) parseStat(b []byte) error {
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || shut < open {
		return errors.New("no name in parentheses")
	}
	p.comm = string(b[open+1 : shut])
	f := strings.Fields(string(b[shut+1:]))
	if len(f) < 39 {
		return fmt.Errorf("%d fields behind the name", len(f))
	}
	var failed error
	get := func(field int) int64 { // numbered as in the manual page
		n, err := strconv.ParseInt(f[field-3], 10, 64)
		if err != nil && failed == nil {
			failed = fmt.Errorf("field %d: %w", field, err)
		}
		return n
	}
	p.state = f[0][0]
	p.ppid, p.pgrp, p.session, p.tty, p.tpgid = int(get(4)), int(get(5)), int(get(6)), int32(get(7)), int(get(8))
	p.flags, p.minflt, p.majflt = uint64(get(9)), get(10), get(12)
	p.utime, p.stime, p.priority, p.nice, p.threads = get(14), get(15), get(18), get(19), get(20)
	p.start, p.rss, p.processor, p.rtPriority, p.policyNumber = get(22), get(24), get(39), get(40), get(41)
	vsize, err := strconv.ParseUint(f[23-3], 10, 64)
	if err != nil && failed == nil {
		failed = err
	}
	p.vsize = int64(vsize)
	return failed
}

func (p *process) parseStatus(b []byte) error {
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		switch key {
		case "Uid", "Gid":
			if len(f) < 2 {
				return errors.New(key + " has no numbers")
			}
			real, err := strconv.ParseUint(f[0], 10, 32)
			if err != nil {
				return err
			}
			effective, err := strconv.ParseUint(f[1], 10, 32)
			if err != nil {
				return err
			}
			if key == "Uid" {
				p.ruid, p.euid = uint32(real), uint32(effective)
			} else {
				p.rgid, p.egid = uint32(real), uint32(effective)
			}
		case "VmLck":
			p.locked = len(f) > 0 && f[0] != "0"
		case "NSpid":
			p.nspids = strings.Join(f, " ")
		}
	}
	return nil
}

func (p *process) parseCommand(b []byte) error {
	p.argv = strings.TrimRight(strings.ReplaceAll(string(b), "\x00", " "), " ")
	return nil
}

// nspid is the pid in the innermost pid namespace.
func (p *process) nspid() string {
	f := strings.Fields(p.nspids)
	if len(f) == 0 {
		return strconv.Itoa(p.pid)
	}
	return f[len(f)-1]
}

// name is the short name; zombies are marked.
func (p *process) name() string {
	if p.state == 'Z' {
		return printable(p.comm) + " <defunct>"
	}
	return printable(p.comm)
}

// command is the command line, or the name in brackets where there is none.
func (p *process) command() string {
	switch {
	case p.state == 'Z':
		return "[" + printable(p.comm) + "] <defunct>"
	case p.argv == "":
		return "[" + printable(p.comm) + "]"
	}
	return printable(p.argv)
}

// environ is what the process was started with; empty if that may not be read.
func (p *process) environ() string {
	b, err := procfile.Read(filepath.Join(p.dir, "environ"), p.most)
	if err != nil || len(b) == 0 {
		return ""
	}
	return " " + printable(strings.TrimRight(strings.ReplaceAll(string(b), "\x00", " "), " "))
}

// stat is the state with its marks, see ps(1).
func (p *process) stat() string {
	s := string(p.state)
	switch {
	case p.nice < 0:
		s += "<"
	case p.nice > 0:
		s += "N"
	}
	if p.locked {
		s += "L"
	}
	if p.session == p.pid {
		s += "s"
	}
	if p.threads > 1 {
		s += "l"
	}
	if p.pgrp == p.tpgid {
		s += "+"
	}
	return s
}

func (p *process) class() string {
	classes := []string{"TS", "FF", "RR", "B", "ISO", "IDL", "DLN"}
	if p.policyNumber < 0 || int(p.policyNumber) >= len(classes) {
		return "?"
	}
	return classes[p.policyNumber]
}

func (p *process) rtprio() string {
	if p.rtPriority == 0 {
		return "-"
	}
	return strconv.FormatInt(p.rtPriority, 10)
}

func (p *process) wchan(*Source) string {
	b, err := os.ReadFile(filepath.Join(p.dir, "wchan"))
	if err != nil || len(b) == 0 || string(b) == "0" {
		return "-"
	}
	return string(b)
}

func (p *process) cgroup(*Source) string {
	b, err := os.ReadFile(filepath.Join(p.dir, "cgroup"))
	if err != nil || len(b) == 0 {
		return "-"
	}
	return printable(strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", ","))
}

func (p *process) started(s *Source) time.Time {
	return s.Boot.Add(time.Duration(p.start) * time.Second / ticksPerSecond).In(s.Now.Location())
}

func (p *process) age(s *Source) time.Duration { return max(s.Now.Sub(p.started(s)), 0) }

// cpuPercent is processor time over life time, as procps has it.
func (p *process) cpuPercent(s *Source) float64 {
	seconds := p.age(s).Seconds()
	if seconds < 1 {
		seconds = 1
	}
	return cpuSeconds(p, s) * 100 / seconds
}

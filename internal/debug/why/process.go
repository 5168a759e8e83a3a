package why

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/portholehq/porthole/internal/linux/waits"
	"github.com/portholehq/porthole/internal/ps"
)

// ticksPerSecond is the kernel's USER_HZ, which is the same everywhere.
const ticksPerSecond = 100

// process is what /proc tells of a process without the process's own doing: its
// memory is not read, which could wait for it.
type process struct {
	pid, parent int
	inside      int // its pid in the container; 0: not known
	comm        string
	state       byte
	lasts       bool // it was in this state in both looks
	stuck       int  // number of a thread that is in state D; 0: none
	threads     int
	ticks       uint64
	wchan       string
	caught      uint64 // signals with handlers
	ignored     uint64
	fds         int // open descriptors; -1: not known
	fdLimit     int // soft limit of those; 0: not known
}

// readProcesses looks at processes, and at their children that are zombies. One
// that has ended is left out.
func readProcesses(pids []int) []process {
	var out []process
	for _, pid := range ps.WithZombies("/proc", pids) {
		if p, ok := readProcess(pid); ok {
			out = append(out, p)
		}
	}
	return out
}

func readProcess(pid int) (p process, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return p, false
	}
	// pid (comm) state ppid …: comm may hold anything.
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return p, false
	}
	f := strings.Fields(string(stat[end+1:]))
	const utime, stime, threads = 11, 12, 17
	if len(f) <= threads {
		return p, false
	}
	p = process{pid: pid, comm: string(stat[open+1 : end]), state: f[0][0], fds: -1}
	p.parent = number(f[1])
	p.threads = number(f[threads])
	p.ticks = uint64(number(f[utime]) + number(f[stime]))
	if text, err := os.ReadFile(dir + "/wchan"); err == nil && string(text) != "0" {
		p.wchan = string(text)
	}
	p.status(dir)
	p.descriptors(dir)
	if p.stuck = waits.Uninterruptible(pid); p.stuck != 0 && p.state == 'Z' {
		p.state = 'D' // its first thread has ended, but the process has not
	}
	return p, true
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

func (p *process) status(dir string) {
	text, err := os.ReadFile(dir + "/status")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "SigCgt":
			p.caught = mask(value)
		case "SigIgn":
			p.ignored = mask(value)
		case "NSpid":
			if f := strings.Fields(value); len(f) > 0 {
				p.inside = number(f[len(f)-1])
			}
		}
	}
}

func mask(s string) uint64 {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0
	}
	return n
}

// handles reports whether a signal has a handler, or is expected to be waited for.
func (p *process) handles(s syscall.Signal) bool { return p.caught&(1<<(s-1)) != 0 }

func (p *process) descriptors(dir string) {
	// The size of the directory is the number since Linux 6.2; before it is 0.
	if fi, err := os.Stat(dir + "/fd"); err == nil && fi.Size() > 0 {
		p.fds = int(fi.Size())
	} else if list, err := os.ReadDir(dir + "/fd"); err == nil {
		p.fds = len(list)
	}
	text, err := os.ReadFile(dir + "/limits")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				p.fdLimit = number(f[0]) // "unlimited" gives 0
			}
		}
	}
}

// String names a process for people.
func (p *process) String() string {
	if p.inside > 0 {
		return fmt.Sprintf("%s (pid %d inside, %d on the host)", p.comm, p.inside, p.pid)
	}
	return fmt.Sprintf("%s (pid %d on the host)", p.comm, p.pid)
}

// sleeps tell what a process waits for, by the kernel function that it sleeps in
// (the beginning of its name).
var sleeps = []struct{ prefix, text string }{
	{"ep_poll", "for one of its descriptors to become ready (epoll)"},
	{"do_epoll_wait", "for one of its descriptors to become ready (epoll)"},
	{"poll_schedule_timeout", "for one of its descriptors to become ready (poll)"},
	{"do_sys_poll", "for one of its descriptors to become ready (poll)"},
	{"do_poll", "for one of its descriptors to become ready (poll)"},
	{"do_select", "for one of its descriptors to become ready (select)"},
	{"inet_csk_accept", "for a connection (accept)"},
	{"unix_accept", "for a connection (accept)"},
	{"do_wait", "for a child to end (wait)"},
	{"kernel_wait4", "for a child to end (wait)"},
	{"hrtimer_nanosleep", "for a time to pass (sleep)"},
	{"do_nanosleep", "for a time to pass (sleep)"},
	{"common_nsleep", "for a time to pass (sleep)"},
	{"futex", "for another thread (futex)"},
	{"anon_pipe_read", "for input from a pipe"},
	{"pipe_read", "for input from a pipe"},
	{"anon_pipe_write", "for somebody to read what it writes into a pipe"},
	{"pipe_write", "for somebody to read what it writes into a pipe"},
	{"pipe_wait", "for the other end of a pipe"},
	{"wait_for_partner", "for somebody to open the other end of a named pipe"},
	{"n_tty_read", "for input from its terminal"},
	{"tcp_recvmsg", "for data from the network"},
	{"inet_recvmsg", "for data from the network"},
	{"__skb_wait_for_more_packets", "for data from a socket"},
	{"unix_stream_read", "for data from a unix socket"},
	{"wait_woken", "for input from its terminal or a socket"},
	{"sk_wait_data", "for data from the network"},
	{"inet_stream_connect", "for a connection to be made"},
	{"__inet_stream_connect", "for a connection to be made"},
	{"inet_wait_for_connect", "for a connection to be made"},
	{"sigsuspend", "for a signal"},
	{"do_sigtimedwait", "for a signal"},
	{"__do_sys_pause", "for a signal"},
	{"flock_lock", "for a file lock"},
	{"fcntl_setlk", "for a file lock"},
	{"locks_lock", "for a file lock"},
	{"request_wait_answer", "for a FUSE filesystem to answer"},
	{"folio_wait", "for the disk"},
	{"io_schedule", "for the disk"},
	{"rpc_wait", "for an NFS server to answer"},
	{"nfs", "for an NFS server to answer"},
}

// futexes are locks and other waits for a thread of the same process.
const futexes = "futex"

// waitsFor tells what it waits for; empty: that is not known. Where its first
// thread waits for another one, as in most Go programs, it is what that waits for.
func (p *process) waitsFor() string {
	if strings.HasPrefix(p.wchan, futexes) && p.threads > 1 {
		for _, w := range p.threadWaits() {
			if text := sleepText(w); text != "" && !strings.HasPrefix(w, futexes) {
				return text
			}
		}
	}
	return sleepText(p.wchan)
}

// maxThreads are looked at.
const maxThreads = 64

// threadWaits are the wait channels of its threads.
func (p *process) threadWaits() []string {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/task", p.pid))
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxThreads)
	if err != nil {
		return nil
	}
	var out []string
	for _, n := range names {
		if text, err := os.ReadFile(filepath.Join(dir.Name(), n, "wchan")); err == nil {
			out = append(out, string(text))
		}
	}
	return out
}

func sleepText(wchan string) string {
	for _, s := range sleeps {
		if strings.HasPrefix(wchan, s.prefix) {
			return s.text
		}
	}
	return ""
}

// frozen reports whether it sleeps in one of the kernel's freezers, those of
// control groups v1 and v2. The trap of v2 may be part of get_signal, in which
// else nothing sleeps but what was stopped, with state T (kernel/signal.c).
func (p *process) frozen() bool {
	switch p.wchan {
	case "__refrigerator", "do_freezer_trap":
		return true
	case "get_signal":
		return p.state == 'S'
	}
	return false
}

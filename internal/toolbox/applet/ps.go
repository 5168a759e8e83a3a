package applet

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/procfile"
	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// process is what /proc/PID tells, see proc_pid_stat(5).
type process struct {
	pid, ppid  int
	uid        int
	state      string
	tty        int
	ticks      uint64 // of processor time
	start      uint64 // ticks after boot
	rss, vsize uint64
	shared     uint64 // of rss, in bytes
	priority   int
	nice       int
	comm       string
	command    string // with its arguments
}

// psCommand shows all processes, which in a container are few: ps, ps -ef and
// ps aux with their columns, and -o with a list.
func psCommand(std IO, args []string) error {
	var columns []string
	for i := 0; i < len(args); i++ {
		a := strings.TrimLeft(args[i], "-")
		switch {
		case a == "o" && i+1 < len(args):
			i++
			columns = append(columns, strings.FieldsFunc(args[i], func(r rune) bool { return r == ',' || r == ' ' })...)
		case strings.Contains(a, "u"):
			columns = []string{"user", "pid", "vsz", "rss", "stat", "start", "time", "args"}
		case strings.Contains(a, "f"):
			columns = []string{"user", "pid", "ppid", "stime", "tty", "time", "args"}
		}
	}
	if len(columns) == 0 {
		columns = []string{"pid", "user", "time", "args"}
	}
	list, err := processes()
	if err != nil {
		return err
	}
	boot := bootTime()
	rows := [][]string{nil}
	for _, c := range columns {
		name, title, renamed := strings.Cut(c, "=")
		if !renamed {
			title = psTitle(name)
		}
		rows[0] = append(rows[0], title)
	}
	for _, p := range list {
		var row []string
		for _, c := range columns {
			name, _, _ := strings.Cut(c, "=")
			v, ok := p.column(name, boot)
			if !ok {
				return usageError("unknown column: " + name)
			}
			row = append(row, v)
		}
		rows = append(rows, row)
	}
	printTable(std, rows)
	return nil
}

func psTitle(name string) string {
	if name == "args" || name == "cmd" {
		return "COMMAND"
	}
	return strings.ToUpper(name)
}

// printTable prints rows in columns. What processes call themselves does nothing
// to a terminal.
func printTable(std IO, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, v := range r {
			r[i] = screen.Visible(v)
			widths[i] = max(widths[i], screen.Width(r[i]))
		}
	}
	for _, r := range rows {
		var b strings.Builder
		for i, v := range r {
			if i == len(r)-1 {
				b.WriteString(v)
			} else {
				b.WriteString(v + strings.Repeat(" ", widths[i]-screen.Width(v)+1))
			}
		}
		fmt.Fprintln(std.Out, b.String())
	}
}

const ticksPerSecond = 100 // USER_HZ, the same on all that Go runs on

func (p process) column(name string, boot time.Time) (string, bool) {
	started := boot.Add(time.Duration(p.start) * time.Second / ticksPerSecond)
	switch name {
	case "pid":
		return strconv.Itoa(p.pid), true
	case "ppid":
		return strconv.Itoa(p.ppid), true
	case "user", "uname", "euser":
		return idName("/etc/passwd", p.uid), true
	case "uid", "euid":
		return strconv.Itoa(p.uid), true
	case "stat", "state", "s":
		return p.state, true
	case "rss":
		return strconv.FormatUint(p.rss/1024, 10), true
	case "vsz":
		return strconv.FormatUint(p.vsize/1024, 10), true
	case "tty", "tt", "tname":
		return ttyName(p.tty), true
	case "start", "stime", "lstart":
		if time.Since(started) > 24*time.Hour {
			return started.Format("Jan02"), true
		}
		return started.Format("15:04"), true
	case "etime":
		return time.Since(started).Truncate(time.Second).String(), true
	case "time", "cputime":
		s := p.ticks / ticksPerSecond
		return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60), true
	case "args", "cmd", "command":
		return p.command, true
	case "comm":
		return p.comm, true
	}
	return "", false
}

func ttyName(dev int) string {
	if dev == 0 {
		return "?"
	}
	major, minor := unix.Major(uint64(dev)), unix.Minor(uint64(dev))
	if major >= 136 && major <= 143 {
		return fmt.Sprintf("pts/%d", (major-136)<<20|minor)
	}
	return fmt.Sprintf("%d,%d", major, minor)
}

func bootTime() time.Time {
	data, err := os.ReadFile("/proc/stat")
	if err == nil {
		if _, rest, ok := bytes.Cut(data, []byte("btime ")); ok {
			text, _, _ := strings.Cut(string(rest), "\n")
			if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				return time.Unix(n, 0)
			}
		}
	}
	return time.Time{}
}

func processes() ([]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("/proc is not mounted")
	}
	var list []process
	for _, dir := range dirs {
		if p, ok := readProcess(dir); ok {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b process) int { return a.pid - b.pid })
	return list, nil
}

func readProcess(dir string) (process, bool) {
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, false // it has gone
	}
	// The name is in parentheses and may hold any byte.
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return process{}, false
	}
	f := strings.Fields(string(data[end+1:]))
	if len(f) < 22 {
		return process{}, false
	}
	n := func(i int) uint64 {
		v, _ := strconv.ParseUint(f[i], 10, 64)
		return v
	}
	p := process{
		ppid: int(n(1)), state: f[0], tty: int(n(4)), ticks: n(11) + n(12), start: n(19),
		vsize: n(20), rss: n(21) * uint64(os.Getpagesize()),
	}
	p.pid, _ = strconv.Atoi(filepath.Base(dir))
	var st syscall.Stat_t
	if syscall.Stat(dir, &st) == nil {
		p.uid = int(st.Uid)
	}
	cmdline, _ := procfile.Read(filepath.Join(dir, "cmdline"), procfile.Longest)
	p.command = strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
	if p.comm = string(data[open+1 : end]); p.command == "" {
		p.command = "[" + p.comm + "]"
	}
	p.priority, _ = strconv.Atoi(f[15]) // they may be negative
	p.nice, _ = strconv.Atoi(f[16])
	p.shared = sharedMemory(dir)
	return p, true
}

package ps

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// column is one format specifier.
type column struct {
	title string
	text  func(p *process, s *Source) string
	// number is what the column is sorted by; nil: its text.
	number func(p *process, s *Source) float64
}

func integer(title string, get func(p *process) int64) column {
	return column{title, func(p *process, _ *Source) string { return strconv.FormatInt(get(p), 10) }, func(p *process, _ *Source) float64 { return float64(get(p)) }}
}

func text(title string, get func(p *process, s *Source) string) column {
	return column{title: title, text: get}
}

func number(title, format string, get func(p *process, s *Source) float64) column {
	return column{title, func(p *process, s *Source) string { return fmt.Sprintf(format, get(p, s)) }, get}
}

func timed(title string, show func(p *process, s *Source) string, get func(p *process, s *Source) float64) column {
	return column{title, show, get}
}

// columns are the specifiers that -o and --sort know, with procps's titles. Those that begin with h show the host's
// view of what the others show as the container has it.
var columns = map[string]column{}

func define(c column, names ...string) bool {
	for _, n := range names {
		columns[n] = c
	}
	return true
}

func user(uid func(p *process) uint32) func(p *process, s *Source) string {
	return func(p *process, s *Source) string { return s.user(uid(p)) }
}

func group(gid func(p *process) uint32) func(p *process, s *Source) string {
	return func(p *process, s *Source) string { return s.group(gid(p)) }
}

func cpuSeconds(p *process, s *Source) float64 { return float64(p.utime+p.stime) / s.ticks() }

var _ = define(integer("PID", func(p *process) int64 { return int64(p.pid) }), "pid") &&
	define(integer("TGID", func(p *process) int64 { return int64(p.pid) }), "tgid") &&
	define(integer("PPID", func(p *process) int64 { return int64(p.ppid) }), "ppid") &&
	define(integer("PGID", func(p *process) int64 { return int64(p.pgrp) }), "pgid") &&
	define(integer("PGRP", func(p *process) int64 { return int64(p.pgrp) }), "pgrp") &&
	define(integer("SID", func(p *process) int64 { return int64(p.session) }), "sid") &&
	define(integer("SESS", func(p *process) int64 { return int64(p.session) }), "sess", "session") &&
	define(integer("TPGID", func(p *process) int64 { return int64(p.tpgid) }), "tpgid") &&
	define(integer("LWP", func(p *process) int64 { return int64(p.tid) }), "lwp") &&
	define(integer("TID", func(p *process) int64 { return int64(p.tid) }), "tid") &&
	define(integer("SPID", func(p *process) int64 { return int64(p.tid) }), "spid") &&
	define(integer("NLWP", func(p *process) int64 { return p.threads }), "nlwp") &&
	define(integer("THCNT", func(p *process) int64 { return p.threads }), "thcount") &&
	define(integer("NI", func(p *process) int64 { return p.nice }), "ni", "nice") &&
	define(integer("PRI", func(p *process) int64 { return 39 - p.priority }), "pri") &&
	define(integer("PRI", func(p *process) int64 { return 60 + p.priority }), "opri") &&
	define(integer("PSR", func(p *process) int64 { return p.processor }), "psr") &&
	define(integer("F", func(p *process) int64 { return int64(p.flags>>6) & 7 }), "f", "flag", "flags") &&
	define(integer("MINFLT", func(p *process) int64 { return p.minflt }), "minflt") &&
	define(integer("MINFL", func(p *process) int64 { return p.minflt }), "min_flt") &&
	define(integer("MAJFLT", func(p *process) int64 { return p.majflt }), "majflt") &&
	define(integer("MAJFL", func(p *process) int64 { return p.majflt }), "maj_flt") &&
	define(integer("PAGEIN", func(p *process) int64 { return p.majflt }), "pagein") &&
	define(integer("VSZ", func(p *process) int64 { return p.vsize / 1024 }), "vsz", "vsize") &&
	define(integer("SZ", func(p *process) int64 { return p.vsize / pageSize }), "sz") &&
	define(integer("RSS", func(p *process) int64 { return p.rss * pageSize / 1024 }), "rss", "rssize") &&
	define(integer("RSZ", func(p *process) int64 { return p.rss * pageSize / 1024 }), "rsz") &&
	define(integer("EUID", func(p *process) int64 { return int64(p.euid) }), "euid") &&
	define(column{"UID", func(p *process, s *Source) string { return strconv.FormatUint(uint64(s.inside(p.euid)), 10) }, func(p *process, _ *Source) float64 { return float64(p.euid) }}, "uid") &&
	define(column{"RUID", func(p *process, s *Source) string { return strconv.FormatUint(uint64(s.inside(p.ruid)), 10) }, nil}, "ruid") &&
	define(column{"EGID", func(p *process, s *Source) string { return strconv.FormatUint(uint64(s.inside(p.egid)), 10) }, nil}, "egid") &&
	define(column{"GID", func(p *process, s *Source) string { return strconv.FormatUint(uint64(s.inside(p.egid)), 10) }, nil}, "gid") &&
	define(column{"RGID", func(p *process, s *Source) string { return strconv.FormatUint(uint64(s.inside(p.rgid)), 10) }, nil}, "rgid") &&
	define(integer("HUID", func(p *process) int64 { return int64(p.euid) }), "huid") &&
	define(integer("HGID", func(p *process) int64 { return int64(p.egid) }), "hgid") &&
	define(text("NSPID", func(p *process, _ *Source) string { return p.nspid() }), "nspid") &&
	define(text("USER", user(func(p *process) uint32 { return p.euid })), "user", "uname") &&
	define(text("UID", user(func(p *process) uint32 { return p.euid })), "uidname") &&
	define(text("EUSER", user(func(p *process) uint32 { return p.euid })), "euser") &&
	define(text("RUSER", user(func(p *process) uint32 { return p.ruid })), "ruser") &&
	define(text("GROUP", group(func(p *process) uint32 { return p.egid })), "group") &&
	define(text("EGROUP", group(func(p *process) uint32 { return p.egid })), "egroup") &&
	define(text("RGROUP", group(func(p *process) uint32 { return p.rgid })), "rgroup") &&
	define(text("TTY", func(p *process, _ *Source) string { return ttyName(p.tty) }), "tname", "longtname", "tty4", "tty8") &&
	define(text("TT", func(p *process, _ *Source) string { return ttyName(p.tty) }), "tt", "tty") &&
	define(text("S", func(p *process, _ *Source) string { return string(p.state) }), "s", "state") &&
	define(text("STAT", func(p *process, _ *Source) string { return p.stat() }), "stat") &&
	define(text("ADDR", func(*process, *Source) string { return "-" }), "addr") &&
	define(text("WCHAN", func(p *process, s *Source) string { return p.wchan(s) }), "wchan") &&
	define(text("CGROUP", func(p *process, s *Source) string { return p.cgroup(s) }), "cgroup") &&
	define(text("CLS", func(p *process, _ *Source) string { return p.class() }), "cls", "class") &&
	define(text("POL", func(p *process, _ *Source) string { return p.class() }), "policy", "pol") &&
	define(text("RTPRIO", func(p *process, _ *Source) string { return p.rtprio() }), "rtprio") &&
	define(text("COMMAND", func(p *process, _ *Source) string { return p.name() }), "comm", "ucomm") &&
	define(text("CMD", func(p *process, _ *Source) string { return p.name() }), "ucmd") &&
	define(text("COMMAND", func(p *process, _ *Source) string { return p.command() }), "args", "command") &&
	define(text("CMD", func(p *process, _ *Source) string { return p.command() }), "cmd") &&
	define(number("%CPU", "%.1f", func(p *process, s *Source) float64 { return p.cpuPercent(s) }), "pcpu", "%cpu") &&
	define(number("C", "%.0f", func(p *process, s *Source) float64 { return math.Min(math.Trunc(p.cpuPercent(s)), 99) }), "c") &&
	define(number("%MEM", "%.1f", func(p *process, s *Source) float64 {
		return math.Trunc(float64(p.rss*pageSize)*1000/float64(max(s.MemTotal, 1))) / 10
	}), "pmem", "%mem") &&
	define(timed("TIME", func(p *process, s *Source) string { return clock(int64(cpuSeconds(p, s))) }, cpuSeconds), "time", "cputime") &&
	define(timed("TIME", func(p *process, s *Source) string { return strconv.FormatInt(int64(cpuSeconds(p, s)), 10) }, cpuSeconds), "times", "cputimes") &&
	define(timed("TIME", func(p *process, s *Source) string {
		t := int64(cpuSeconds(p, s))
		return fmt.Sprintf("%d:%02d", t/60, t%60)
	}, cpuSeconds), "bsdtime") &&
	define(timed("ELAPSED", func(p *process, s *Source) string { return elapsed(int64(p.age(s).Seconds())) }, func(p *process, s *Source) float64 { return p.age(s).Seconds() }), "etime") &&
	define(timed("ELAPSED", func(p *process, s *Source) string { return strconv.FormatInt(int64(p.age(s).Seconds()), 10) }, func(p *process, s *Source) float64 { return p.age(s).Seconds() }), "etimes") &&
	define(timed("STIME", started("15:04", "Jan02", "2006"), startTicks), "stime") &&
	define(timed("START", started("15:04", "Jan02", "2006"), startTicks), "start_time") &&
	define(timed("START", started("15:04", "Jan02", "Jan02"), startTicks), "bsdstart") &&
	define(timed("STARTED", started("15:04:05", "Jan 02", "Jan 02"), startTicks), "start") &&
	define(timed("STARTED", func(p *process, s *Source) string { return p.started(s).Format("Mon Jan _2 15:04:05 2006") }, startTicks), "lstart")

func startTicks(p *process, _ *Source) float64 { return float64(p.start) }

// started shows a start by its time in the last 24 hours, by its day in this year, else by what is given for older.
func started(today, thisYear, older string) func(p *process, s *Source) string {
	return func(p *process, s *Source) string {
		at := p.started(s)
		switch {
		case s.Now.Sub(at) < 24*time.Hour:
			return at.Format(today)
		case at.Year() == s.Now.Year():
			return at.Format(thisYear)
		}
		return at.Format(older)
	}
}

// clock is [DD-]HH:MM:SS.
func clock(t int64) string {
	days := ""
	if t >= 86400 {
		days = strconv.FormatInt(t/86400, 10) + "-"
	}
	return fmt.Sprintf("%s%02d:%02d:%02d", days, t/3600%24, t/60%60, t%60)
}

// elapsed is [[DD-]HH:]MM:SS.
func elapsed(t int64) string {
	if t < 3600 {
		return fmt.Sprintf("%02d:%02d", t/60, t%60)
	}
	return clock(t)
}

// ttyName decodes the device number of /proc/PID/stat.
func ttyName(dev int32) string {
	major, minor := (dev>>8)&0xfff, (dev&0xff)|((dev>>12)&0xfff00)
	switch {
	case dev == 0:
		return "?"
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)<<8|minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	case major == 5 && minor == 1:
		return "console"
	}
	return "?"
}

// printable replaces what would disturb a terminal: control characters, those of C1 (U+0080 to U+009F) too.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
}

package ps

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The specifiers below are rarely asked for, and what they show is read when it is.

// field is a line of one of the files of a process that hold "Name: value".
func (p *process) field(file, name string) string {
	b, err := os.ReadFile(filepath.Join(p.dir, file))
	if err != nil {
		return "-"
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && key == name {
			return strings.TrimSpace(value)
		}
	}
	return "-"
}

func status(title, name string) column {
	return text(title, func(p *process, _ *Source) string { return p.field("status", name) })
}

// counted is a number of a file, which sorts as such.
func counted(title, file, name string) column {
	get := func(p *process) string { n, _, _ := strings.Cut(p.field(file, name), " "); return n }
	return column{title, func(p *process, _ *Source) string { return get(p) }, func(p *process, _ *Source) float64 {
		n, err := strconv.ParseFloat(get(p), 64)
		if err != nil {
			return -1
		}
		return n
	}}
}

// id is the nth of the four ids in a line of status: real, effective, saved and of the file system.
func (p *process) id(line string, n int) (uint32, bool) {
	f := strings.Fields(p.field("status", line))
	if len(f) <= n {
		return 0, false
	}
	id, err := strconv.ParseUint(f[n], 10, 32)
	return uint32(id), err == nil
}

func ids(title, line string, n int, show func(s *Source, id uint32) string) column {
	return text(title, func(p *process, s *Source) string {
		id, ok := p.id(line, n)
		if !ok {
			return "-"
		}
		return show(s, id)
	})
}

func insideID(s *Source, id uint32) string { return strconv.FormatUint(uint64(s.inside(id)), 10) }

// namespace is the inode number of one, as procps shows it.
func namespace(title, name string) column {
	return text(title, func(p *process, _ *Source) string {
		target, err := os.Readlink(filepath.Join(p.dir, "ns", name))
		if err != nil {
			return "-"
		}
		_, number, _ := strings.Cut(target, ":[")
		return strings.TrimSuffix(number, "]")
	})
}

// content is a file of one line.
func content(title, name string) column {
	return text(title, func(p *process, _ *Source) string {
		b, err := os.ReadFile(filepath.Join(p.dir, name))
		if err != nil || len(b) == 0 {
			return "-"
		}
		return printable(strings.TrimRight(string(b), "\n\x00"))
	})
}

// unknown is what systemd could tell, or the hardware: not here.
func unknown(title string) column { return text(title, func(*process, *Source) string { return "-" }) }

func (p *process) groups(show func(uint32) string) string {
	var names []string
	for word := range strings.FieldsSeq(p.field("status", "Groups")) {
		if id, err := strconv.ParseUint(word, 10, 32); err == nil {
			names = append(names, show(uint32(id)))
		}
	}
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ",")
}

var _ = define(ids("SUID", "Uid", 2, insideID), "suid", "svuid") &&
	define(ids("FUID", "Uid", 3, insideID), "fuid", "fsuid") &&
	define(ids("SGID", "Gid", 2, insideID), "sgid", "svgid") &&
	define(ids("FGID", "Gid", 3, insideID), "fgid", "fsgid") &&
	define(ids("SUSER", "Uid", 2, (*Source).user), "suser", "svuser") &&
	define(ids("FUSER", "Uid", 3, (*Source).user), "fuser", "fsuser") &&
	define(ids("SGROUP", "Gid", 2, (*Source).group), "sgroup", "svgroup") &&
	define(ids("FGROUP", "Gid", 3, (*Source).group), "fgroup", "fsgroup") &&
	define(text("SUPGID", func(p *process, s *Source) string { return p.groups(func(id uint32) string { return insideID(s, id) }) }), "supgid") &&
	define(text("SUPGRP", func(p *process, s *Source) string { return p.groups(s.group) }), "supgrp") &&
	define(status("PENDING", "SigPnd"), "pending", "sig") &&
	define(status("BLOCKED", "SigBlk"), "blocked", "sigmask", "sig_block") &&
	define(status("IGNORED", "SigIgn"), "ignored", "sigignore", "sig_ignore") &&
	define(status("CAUGHT", "SigCgt"), "caught", "sigcatch", "sig_catch") &&
	define(namespace("CGROUPNS", "cgroup"), "cgroupns") &&
	define(namespace("IPCNS", "ipc"), "ipcns") &&
	define(namespace("MNTNS", "mnt"), "mntns") &&
	define(namespace("NETNS", "net"), "netns") &&
	define(namespace("PIDNS", "pid"), "pidns") &&
	define(namespace("TIMENS", "time"), "timens") &&
	define(namespace("USERNS", "user"), "userns") &&
	define(namespace("UTSNS", "uts"), "utsns") &&
	define(content("OOM", "oom_score"), "oom") &&
	define(content("OOMADJ", "oom_score_adj"), "oomadj") &&
	define(content("LABEL", "attr/current"), "label") &&
	define(content("CONTEXT", "attr/current"), "context") &&
	define(text("EXE", func(p *process, _ *Source) string {
		target, err := os.Readlink(filepath.Join(p.dir, "exe"))
		if err != nil {
			return "-"
		}
		return printable(target)
	}), "exe") &&
	define(text("COMMAND", func(p *process, _ *Source) string { return p.name()[:min(8, len(p.name()))] }), "fname") &&
	define(text("CGNAME", func(p *process, s *Source) string { return p.cgroup(s) }), "cgname") &&
	define(integer("SCH", func(p *process) int64 { return p.policyNumber }), "sched") &&
	define(integer("PRI", func(p *process) int64 { return p.priority }), "priority") &&
	define(integer("PRI", func(p *process) int64 { return 60 + p.priority }), "intpri") &&
	define(counted("RBYTES", "io", "read_bytes"), "rbytes") &&
	define(counted("WBYTES", "io", "write_bytes"), "wbytes") &&
	define(counted("WCBYTES", "io", "cancelled_write_bytes"), "wcbytes") &&
	define(counted("RCHARS", "io", "rchar"), "rchars") &&
	define(counted("WCHARS", "io", "wchar"), "wchars") &&
	define(counted("ROPS", "io", "syscr"), "rops") &&
	define(counted("WOPS", "io", "syscw"), "wops") &&
	define(counted("PSS", "smaps_rollup", "Pss"), "pss") &&
	define(counted("USS", "smaps_rollup", "Private_Dirty"), "uss") &&
	define(unknown("LXC"), "lxc") && define(unknown("MACHINE"), "machine") && define(unknown("OWNER"), "ouid") &&
	define(unknown("SEAT"), "seat") && define(unknown("SESSION"), "lsession") && define(unknown("SLICE"), "slice") &&
	define(unknown("UNIT"), "unit") && define(unknown("UUNIT"), "uunit")

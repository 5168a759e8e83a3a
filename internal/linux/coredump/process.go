package coredump

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/procfile"
)

// Process is a process of which the kernel is dumping the core. It and its threads
// stand still.
type Process struct {
	PID    int    // as the caller sees it
	Inside int    // in its own pid namespace
	Name   string // of the program, of at most 15 bytes, which the process chooses
	UID    uint32 // its real uid, as the caller sees it
	Limit  uint64 // RLIMIT_CORE: bytes of a core that it may leave; [unix.RLIM_INFINITY]: any
	// Cgroups is its /proc/PID/cgroup.
	Cgroups string
	// rootOnly tells that nobody but root may see the core, as of a set-user-ID program
	// with fs.suid_dumpable 2. The kernel then writes none into working directories.
	rootOnly bool

	fsuid, fsgid uint32
	groups       []uint32
	effective    uint64 // capabilities, in its own user namespace
}

// limit is for readers.
func (p *Process) limit() int64 { return int64(min(p.Limit, math.MaxInt64)) }

// processOf tells who crashed on whose behalf the kernel has connected.
func processOf(conn *net.UnixConn) (*Process, error) {
	pidfd, err := peer(conn)
	if err != nil {
		return nil, fmt.Errorf("SO_PEERPIDFD: %w", err)
	}
	defer unix.Close(pidfd)
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_PID | unix.PIDFD_INFO_COREDUMP}
	if err := unix.IoctlPidfdInfo(pidfd, &info); err != nil {
		return nil, fmt.Errorf("PIDFD_GET_INFO: %w", err)
	}
	if info.Mask&unix.PIDFD_INFO_COREDUMP == 0 || info.Coredump_mask&unix.PIDFD_COREDUMPED == 0 {
		return nil, fmt.Errorf("process %d is not being dumped", info.Tgid)
	}
	p := &Process{PID: int(info.Tgid), rootOnly: info.Coredump_mask&unix.PIDFD_COREDUMP_ROOT != 0}
	if p.PID == 0 {
		return nil, errors.New("the process is in no pid namespace below the daemon's")
	}
	if err := p.read(); err != nil {
		return nil, err
	}
	return p, nil
}

func peer(conn *net.UnixConn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	if ctl := raw.Control(func(s uintptr) { fd, err = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_PEERPIDFD) }); ctl != nil {
		return -1, ctl
	}
	return fd, err
}

// read fills in what /proc has. The process cannot end meanwhile: the kernel waits
// for an answer.
func (p *Process) read() error {
	const most = 1 << 20
	// prlimit(2) would need a capability over the process.
	text, err := procfile.Read(p.file("limits"), most)
	if err != nil {
		return err
	}
	if p.Limit, err = parseLimits(string(text)); err != nil {
		return fmt.Errorf("%s: %w", p.file("limits"), err)
	}
	if text, err = procfile.Read(p.file("cgroup"), most); err != nil {
		return err
	}
	p.Cgroups = string(text)
	if text, err = procfile.Read(p.file("status"), most); err != nil {
		return err
	}
	return p.parseStatus(string(text))
}

func (p *Process) file(name string) string { return "/proc/" + strconv.Itoa(p.PID) + "/" + name }

// parseLimits takes the soft limit of cores from /proc/PID/limits.
func parseLimits(text string) (uint64, error) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "Max core file size")
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			break
		}
		if fields[0] == "unlimited" {
			return unix.RLIM_INFINITY, nil
		}
		return strconv.ParseUint(fields[0], 10, 64)
	}
	return 0, errors.New("it tells no limit of cores")
}

// parseStatus takes what it needs from /proc/PID/status; see proc_pid_status(5).
func (p *Process) parseStatus(text string) error {
	var uids, gids, inside []uint32
	var err error
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, "\t")
		switch key {
		case "Name":
			p.Name = value
		case "Uid":
			uids, err = numbers(value)
		case "Gid":
			gids, err = numbers(value)
		case "Groups":
			p.groups, err = numbers(value)
		case "NSpid":
			inside, err = numbers(value)
		case "CapEff":
			p.effective, err = strconv.ParseUint(value, 16, 64)
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", p.file("status"), key, err)
		}
	}
	const fs = 3 // real, effective, saved, file system
	if len(uids) <= fs || len(gids) <= fs || len(inside) == 0 {
		return fmt.Errorf("%s tells no ids", p.file("status"))
	}
	p.UID, p.fsuid, p.fsgid, p.Inside = uids[0], uids[fs], gids[fs], int(inside[len(inside)-1])
	return nil
}

func numbers(text string) (list []uint32, err error) {
	for f := range strings.FieldsSeq(text) {
		n, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return nil, err
		}
		list = append(list, uint32(n))
	}
	return list, nil
}

// sameUsers tells whether the process is in our own user namespace, so that its
// capabilities mean what ours do.
func (p *Process) sameUsers() bool {
	theirs, err1 := os.Stat(p.file("ns/user"))
	ours, err2 := os.Stat("/proc/self/ns/user")
	return err1 == nil && err2 == nil && os.SameFile(theirs, ours)
}

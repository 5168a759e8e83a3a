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
// stand still, unless somebody kills it; then its number may become another's.
type Process struct {
	pidfd  int
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
	sameUsers    bool   // that namespace is our own, so that they mean what ours do
	fileLimit    uint64 // RLIMIT_FSIZE, bytes of a file
}

// fileBound is how many bytes of its core it may leave in a file.
func (p *Process) fileBound() int64 { return int64(min(p.Limit, p.fileLimit, math.MaxInt64)) }

func (p *Process) close() { _ = unix.Close(p.pidfd) }

// alive fails if the number of the process can be another's by now.
func (p *Process) alive() error {
	if err := unix.PidfdSendSignal(p.pidfd, 0, nil, 0); err != nil {
		return fmt.Errorf("process %d was killed while its core was dumped: %w", p.PID, err)
	}
	return nil
}

// processOf tells who crashed on whose behalf the kernel has connected. The caller closes it.
func processOf(conn *net.UnixConn) (*Process, error) {
	pidfd, err := peer(conn)
	if err != nil {
		return nil, fmt.Errorf("SO_PEERPIDFD: %w", err)
	}
	p := &Process{pidfd: pidfd}
	if err := p.identify(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// identify reads what the kernel and /proc tell of it.
func (p *Process) identify() error {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_PID | unix.PIDFD_INFO_COREDUMP}
	if err := unix.IoctlPidfdInfo(p.pidfd, &info); err != nil {
		return fmt.Errorf("PIDFD_GET_INFO: %w", err)
	}
	if info.Mask&unix.PIDFD_INFO_COREDUMP == 0 || info.Coredump_mask&unix.PIDFD_COREDUMPED == 0 {
		return fmt.Errorf("process %d is not being dumped", info.Tgid)
	}
	p.PID, p.rootOnly = int(info.Tgid), info.Coredump_mask&unix.PIDFD_COREDUMP_ROOT != 0
	if p.PID == 0 {
		return errors.New("the process is in no pid namespace below the daemon's")
	}
	if err := p.read(); err != nil {
		return err
	}
	return p.alive() // so it was its own files that were read
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

// read fills in what /proc has.
func (p *Process) read() error {
	const most = 1 << 20
	// prlimit(2) would need a capability over the process.
	text, err := procfile.Read(p.file("limits"), most)
	if err != nil {
		return err
	}
	if p.Limit, err = parseLimit(string(text), "Max core file size"); err == nil {
		p.fileLimit, err = parseLimit(string(text), "Max file size")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.file("limits"), err)
	}
	if text, err = procfile.Read(p.file("cgroup"), most); err != nil {
		return err
	}
	p.Cgroups = string(text)
	if text, err = procfile.Read(p.file("status"), most); err != nil {
		return err
	}
	theirs, err := os.Stat(p.file("ns/user"))
	if err != nil {
		return err
	}
	ours, err := os.Stat("/proc/self/ns/user")
	if err != nil {
		return err
	}
	p.sameUsers = os.SameFile(theirs, ours)
	return p.parseStatus(string(text))
}

func (p *Process) file(name string) string { return "/proc/" + strconv.Itoa(p.PID) + "/" + name }

// parseLimit takes a soft limit from /proc/PID/limits.
func parseLimit(text, name string) (uint64, error) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
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
		limit, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			return 0, err // and not the largest number there is
		}
		return limit, nil
	}
	return 0, fmt.Errorf("it tells no %q", name)
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

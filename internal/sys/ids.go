package sys

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Setgroups sets the supplementary groups of the calling thread.
func Setgroups(gids []uint32) error {
	var p unsafe.Pointer
	if len(gids) > 0 {
		p = unsafe.Pointer(&gids[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(gids)), uintptr(p), 0); errno != 0 {
		return errno
	}
	return nil
}

// Setgid sets real, effective and saved group id of the calling thread.
func Setgid(gid uint32) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); errno != 0 {
		return errno
	}
	return nil
}

// Setuid sets real, effective and saved user id of the calling thread.
func Setuid(uid uint32) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
		return errno
	}
	return nil
}

// SetFSIDs sets the ids by which the calling thread is judged in filesystems.
// The kernel clears the filesystem capabilities from the effective set when the
// uid leaves 0, see capabilities(7), and reports no errors: the result is read back.
func SetFSIDs(uid, gid uint32) error {
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSGID, uintptr(gid), 0, 0)
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
	const query = ^uintptr(0) // an invalid id changes nothing and returns the current one
	gotGID, _, _ := unix.RawSyscall(unix.SYS_SETFSGID, query, 0, 0)
	gotUID, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, query, 0, 0)
	if uint32(gotUID) != uid || uint32(gotGID) != gid {
		return fmt.Errorf("setfsuid %d, setfsgid %d: the kernel kept %d and %d", uid, gid, uint32(gotUID), uint32(gotGID))
	}
	return nil
}

// CapSets are a thread's capability sets, bit n being capability n.
type CapSets struct {
	Effective, Permitted, Inheritable uint64
}

// Capget reads the sets of the calling thread.
func Capget() (CapSets, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return CapSets{}, err
	}
	return CapSets{
		Effective:   uint64(data[1].Effective)<<32 | uint64(data[0].Effective),
		Permitted:   uint64(data[1].Permitted)<<32 | uint64(data[0].Permitted),
		Inheritable: uint64(data[1].Inheritable)<<32 | uint64(data[0].Inheritable),
	}, nil
}

// Capset sets the sets of the calling thread.
func Capset(s CapSets) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(s.Effective), Permitted: uint32(s.Permitted), Inheritable: uint32(s.Inheritable)},
		{Effective: uint32(s.Effective >> 32), Permitted: uint32(s.Permitted >> 32), Inheritable: uint32(s.Inheritable >> 32)},
	}
	return unix.Capset(&hdr, &data[0])
}

// RaiseEffective makes all permitted capabilities effective.
func RaiseEffective() error {
	s, err := Capget()
	if err != nil {
		return err
	}
	s.Effective = s.Permitted
	return Capset(s)
}

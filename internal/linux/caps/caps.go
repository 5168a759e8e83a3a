// Package caps names the capabilities of Linux and computes the sets that a
// container gets.
//
// Most callers need [Default], the list a container has when nothing is asked
// for, and [Tweak], which applies the additions and removals of a request to
// it. [Last] and [Bounding] ask the kernel what exists and what this process
// could hand on; every other function is pure and takes those answers as
// arguments, so that a plan can be computed on one machine for another.
//
// Setting capabilities on a process is left to the code that starts it.
package caps

import (
	"fmt"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Cap is the number of a capability, as in include/uapi/linux/capability.h.
type Cap int

// all is the word that stands for every capability in additions and removals.
const all = "ALL"

// names are indexed by number. Later kernels may know more; those have no name
// here and cannot be asked for by one.
var names = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// Newest is the last capability that has a name here.
const Newest = Cap(len(names) - 1)

// String returns the name with its CAP_ prefix, or CAP_<number> for one that
// has no name here.
func (c Cap) String() string {
	if c >= 0 && int(c) < len(names) {
		return names[c]
	}
	return "CAP_" + strconv.Itoa(int(c))
}

// Parse returns the capability of that name. The name may be in any case and
// may lack the CAP_ prefix. An unknown name is an invalid argument.
func Parse(name string) (Cap, error) {
	upper := strings.ToUpper(name)
	if !strings.HasPrefix(upper, "CAP_") {
		upper = "CAP_" + upper
	}
	if i := slices.Index(names[:], upper); i >= 0 {
		return Cap(i), nil
	}
	return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("unknown capability: %q", upper))
}

// Set is a set of capabilities in the kernel's own form: bit n stands for
// capability n.
type Set uint64

// SetOf returns the set of the named capabilities.
func SetOf(list []string) (Set, error) {
	var s Set
	for _, name := range list {
		c, err := Parse(name)
		if err != nil {
			return 0, err
		}
		s |= 1 << c
	}
	return s, nil
}

// UpTo returns the set of all capabilities from 0 to last.
func UpTo(last Cap) Set { return Set(1)<<(last+1) - 1 }

// Has tells whether c is in the set.
func (s Set) Has(c Cap) bool { return s&(1<<c) != 0 }

// Names returns the names of the set's members in the order of their numbers.
// Members without a name are left out.
func (s Set) Names() []string {
	list := make([]string, 0, bits.OnesCount64(uint64(s)))
	for i, name := range names {
		if s.Has(Cap(i)) {
			list = append(list, name)
		}
	}
	return list
}

// Last returns the highest capability that the running kernel knows.
func Last() (Cap, error) {
	const file = "/proc/sys/kernel/cap_last_cap"
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read last capability: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("parse %s: %w", file, err)
	}
	return Cap(n), nil
}

// Bounding returns the bounding set of this process: what a child in the same
// user namespace can have at most. A child in a new user namespace starts with
// every capability that the kernel knows, whatever this says.
func Bounding() (Set, error) {
	const file = "/proc/self/status"
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read bounding set: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("parse CapBnd of %s: %w", file, err)
			}
			return Set(n), nil
		}
	}
	return 0, fmt.Errorf("read bounding set: %s has no CapBnd line", file)
}

// Default returns the capabilities of a container for which nothing else was
// asked, in Docker's order. The caller owns the slice.
func Default() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
		"CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
		"CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// Normalize brings names as people write them into the form CAP_X; the word
// ALL is kept. A name that nobody knows, or that is not in available, is an
// invalid argument.
func Normalize(list []string, available Set) ([]string, error) {
	var out []string
	for _, name := range list {
		if strings.ToUpper(name) == all {
			out = append(out, all)
			continue
		}
		c, err := Parse(name)
		if err != nil {
			return nil, err
		}
		if !available.Has(c) {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
				"capability not supported by your kernel or not available in the current environment: %q", c))
		}
		out = append(out, c.String())
	}
	return out, nil
}

// Tweak applies additions and removals to the basic set. ALL among the
// additions means everything available except the removals; otherwise ALL
// among the removals means nothing but the additions. A capability that is
// both removed and added by name is kept.
func Tweak(basics, adds, drops []string, available Set) ([]string, error) {
	if len(adds) == 0 && len(drops) == 0 {
		return basics, nil
	}
	drop, err := Normalize(drops, available)
	if err != nil {
		return nil, err
	}
	add, err := Normalize(adds, available)
	if err != nil {
		return nil, err
	}
	switch {
	case slices.Contains(add, all):
		return without(available.Names(), drop), nil
	case slices.Contains(drop, all):
		return union(nil, add), nil
	default:
		return union(without(basics, drop), add), nil
	}
}

// without returns the members of list that are not in drop.
func without(list, drop []string) []string {
	var kept []string
	for _, name := range list {
		if !slices.Contains(drop, name) {
			kept = append(kept, name)
		}
	}
	return kept
}

// union appends to list what it does not have yet.
func union(list, more []string) []string {
	for _, name := range more {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

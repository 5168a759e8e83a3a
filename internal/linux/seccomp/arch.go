package seccomp

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

//go:generate go run generate.go

// call is a system call with its number in each column of the table.
type call struct {
	name    string
	numbers [columns]int32
}

// The columns of the table: the ABIs that filters are compiled for.
const (
	amd64 = iota
	x32
	i386
	arm64
	arm
	columns
)

// abi is one way to make system calls.
type abi struct {
	column int
	audit  uint32 // AUDIT_ARCH_*, what the kernel reports
	wide   bool   // arguments are compared in all of their 64 bits
}

// x32Bit marks the system calls of the x32 ABI, which reports itself as x86_64.
const x32Bit = 1 << 30

var abis = map[specs.Arch]abi{
	specs.ArchX86_64:  {column: amd64, audit: unix.AUDIT_ARCH_X86_64, wide: true},
	specs.ArchX32:     {column: x32, audit: unix.AUDIT_ARCH_X86_64},
	specs.ArchX86:     {column: i386, audit: unix.AUDIT_ARCH_I386},
	specs.ArchAARCH64: {column: arm64, audit: unix.AUDIT_ARCH_AARCH64, wide: true},
	specs.ArchARM:     {column: arm, audit: unix.AUDIT_ARCH_ARM},
}

// Number returns the number of a system call on an architecture named as in the
// OCI specification. A call that the architecture does not have, or an
// architecture that is not in the table, has none.
func Number(arch specs.Arch, name string) (uint32, bool) {
	a, ok := abis[arch]
	if !ok {
		return 0, false
	}
	return a.number(name)
}

// NumberOn is Number for an architecture that is named as GOARCH.
func NumberOn(goarch, name string) (uint32, bool) { return Number(ociArch[goarch], name) }

// Name is the reverse of NumberOn. The x32 ABI is part of amd64 here: its numbers
// have a bit of their own.
func Name(goarch string, number uint32) (string, bool) {
	arch, ok := abis[ociArch[goarch]]
	if !ok {
		return "", false
	}
	if arch.column == amd64 && number&x32Bit != 0 {
		arch.column, number = x32, number&^x32Bit
	}
	name, ok := byNumber()[arch.column][number]
	return name, ok
}

// byNumber has the names by column and number.
var byNumber = sync.OnceValue(func() (names [columns]map[uint32]string) {
	for column := range names {
		names[column] = make(map[uint32]string, len(numbers))
		for _, c := range numbers {
			if n := c.numbers[column]; n >= 0 {
				names[column][uint32(n)] = c.name
			}
		}
	}
	return names
})

// number returns the number of a call on this ABI.
func (a abi) number(name string) (uint32, bool) { return a.at(place(name)) }

// place returns where a name is in the table, or -1.
func place(name string) int {
	i, ok := slices.BinarySearchFunc(numbers[:], name, func(c call, name string) int { return cmp.Compare(c.name, name) })
	if !ok {
		return -1
	}
	return i
}

// at returns the number of the call at a place in the table.
func (a abi) at(place int) (uint32, bool) {
	if place < 0 || numbers[place].numbers[a.column] < 0 {
		return 0, false
	}
	n := uint32(numbers[place].numbers[a.column])
	if a.column == x32 {
		n |= x32Bit
	}
	return n, true
}

// selectABIs returns the ABIs of a profile: the native one, which is always
// among them, first.
func selectABIs(profile *specs.LinuxSeccomp, goarch string) ([]abi, error) {
	native, ok := abis[ociArch[goarch]]
	if !ok {
		return nil, fmt.Errorf("compile seccomp profile: architecture %q is not supported", goarch)
	}
	list := []abi{native}
	for _, arch := range profile.Architectures {
		a, ok := abis[arch]
		if !ok {
			if !slices.Contains(knownArchs, arch) {
				return nil, fmt.Errorf("compile seccomp profile: unknown architecture %q", arch)
			}
			continue // a processor of another family never reports itself here
		}
		if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list, nil
}

// knownArchs are the architectures of the OCI specification that are not in the
// table.
var knownArchs = []specs.Arch{
	specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32,
	specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64,
	specs.ArchRISCV64, specs.ArchLOONGARCH64, specs.ArchM68K, specs.ArchSH, specs.ArchSHEB,
}

// multiplexed are the calls that 32-bit x86 programs also make through
// socketcall(2) and ipc(2), which say by their first argument what they mean.
// A rule for one of them has to count there as well: a profile that forbids
// socket would be easy to get around otherwise.
var multiplexed = map[string]struct {
	through string
	number  uint64
}{
	"socket": {"socketcall", 1}, "bind": {"socketcall", 2}, "connect": {"socketcall", 3}, "listen": {"socketcall", 4},
	"accept": {"socketcall", 5}, "getsockname": {"socketcall", 6}, "getpeername": {"socketcall", 7},
	"socketpair": {"socketcall", 8}, "send": {"socketcall", 9}, "recv": {"socketcall", 10}, "sendto": {"socketcall", 11},
	"recvfrom": {"socketcall", 12}, "shutdown": {"socketcall", 13}, "setsockopt": {"socketcall", 14},
	"getsockopt": {"socketcall", 15}, "sendmsg": {"socketcall", 16}, "recvmsg": {"socketcall", 17},
	"accept4": {"socketcall", 18}, "recvmmsg": {"socketcall", 19}, "sendmmsg": {"socketcall", 20},
	"semop": {"ipc", 1}, "semget": {"ipc", 2}, "semctl": {"ipc", 3}, "semtimedop": {"ipc", 4},
	"msgsnd": {"ipc", 11}, "msgrcv": {"ipc", 12}, "msgget": {"ipc", 13}, "msgctl": {"ipc", 14},
	"shmat": {"ipc", 21}, "shmdt": {"ipc", 22}, "shmget": {"ipc", 23}, "shmctl": {"ipc", 24},
}

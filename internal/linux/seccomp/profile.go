// Package seccomp chooses and compiles system call filters.
//
// [Default] and [Load] turn Docker's profiles, whose rules depend on the
// machine and on a container's capabilities, into the form of the OCI
// specification; [Compile] turns that into a program for the kernel. All of it
// is pure Go and pure: the same arguments give the same program.
//
//	profile, err := seccomp.Default(seccomp.Facts{Arch: "amd64", Kernel: kernel, Capabilities: caps})
//	program, err := seccomp.Compile(profile, "amd64")
//
// Loading the program into a process is left to the code that starts it.
package seccomp

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// KernelVersion is the first two numbers of a kernel's version.
type KernelVersion = moby.KernelVersion

// Facts are what the rules of a profile may depend on.
type Facts struct {
	Arch         string // as GOARCH
	Kernel       KernelVersion
	Capabilities []string // the container's bounding set
}

// Default returns Docker's default profile.
func Default(f Facts) (*specs.LinuxSeccomp, error) { return resolve(moby.DefaultProfile(), f) }

// Load returns a profile written in JSON, either in Docker's form (archMap,
// includes, excludes) or in that of the OCI specification. A profile without
// a default action and rules is nil: no filter.
func Load(text []byte, f Facts) (*specs.LinuxSeccomp, error) {
	var profile moby.Seccomp
	if err := json.Unmarshal(text, &profile); err != nil {
		return nil, fmt.Errorf("Decoding seccomp profile failed: %w", err)
	}
	return resolve(&profile, f)
}

// resolve keeps the rules that apply to the facts. The library that defines the
// form has this too, but asks the running kernel and architecture.
func resolve(profile *moby.Seccomp, f Facts) (*specs.LinuxSeccomp, error) {
	if profile.DefaultAction == "" && len(profile.Syscalls) == 0 {
		return nil, nil
	}
	if len(profile.Architectures) != 0 && len(profile.ArchMap) != 0 {
		return nil, errors.New("both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'")
	}
	out := profile.LinuxSeccomp
	out.Syscalls = nil
	for _, a := range profile.ArchMap {
		if a.Arch == ociArch[f.Arch] {
			out.Architectures = append([]specs.Arch{a.Arch}, a.SubArches...)
			break
		}
	}
	for _, rule := range profile.Syscalls {
		call := rule.LinuxSyscall
		if rule.Name != "" { //nolint:staticcheck // old profiles are still about
			if len(call.Names) != 0 {
				return nil, errors.New("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")
			}
			call.Names = []string{rule.Name} //nolint:staticcheck // as above
		}
		if applies(rule, f) {
			out.Syscalls = append(out.Syscalls, call)
		}
	}
	return &out, nil
}

// applies tells whether a rule's conditions hold: everything that it includes
// (one of the architectures, all of the capabilities), and nothing that it
// excludes.
func applies(rule *moby.Syscall, f Facts) bool {
	arch := profileArch[f.Arch]
	if x := rule.Excludes; x != nil {
		anyCap := slices.ContainsFunc(x.Caps, func(c string) bool { return slices.Contains(f.Capabilities, c) })
		if slices.Contains(x.Arches, arch) || anyCap || x.MinKernel != nil && atLeast(f.Kernel, *x.MinKernel) {
			return false
		}
	}
	if in := rule.Includes; in != nil {
		missing := slices.ContainsFunc(in.Caps, func(c string) bool { return !slices.Contains(f.Capabilities, c) })
		if len(in.Arches) > 0 && !slices.Contains(in.Arches, arch) || missing {
			return false
		}
		return in.MinKernel == nil || atLeast(f.Kernel, *in.MinKernel)
	}
	return true
}

func atLeast(have, want KernelVersion) bool {
	return have.Kernel > want.Kernel || have.Kernel == want.Kernel && have.Major >= want.Major
}

// ociArch and profileArch translate GOARCH into the names of the OCI
// specification and of the conditions in profiles.
var (
	ociArch = map[string]specs.Arch{
		"amd64": specs.ArchX86_64, "386": specs.ArchX86, "arm64": specs.ArchAARCH64, "arm": specs.ArchARM,
		"riscv64": specs.ArchRISCV64, "ppc64le": specs.ArchPPC64LE, "s390x": specs.ArchS390X, "loong64": specs.ArchLOONGARCH64,
	}
	profileArch = map[string]string{
		"amd64": "amd64", "386": "x86", "arm64": "arm64", "arm": "arm",
		"riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x", "loong64": "loongarch64",
	}
)

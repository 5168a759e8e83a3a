package seccomp_test

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/seccomp"
)

func ExampleCompile() {
	profile := &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno}},
	}
	program, err := seccomp.Compile(profile, "amd64")
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(len(program), "instructions; mkdir is number")
	number, _ := seccomp.Number(specs.ArchX86_64, "mkdir")
	fmt.Println(number)
	// Output:
	// 15 instructions; mkdir is number
	// 83
}

package cgroup_test

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/cgroup/enter"
)

// A program is born in a group with a limit of 64 MiB.
func Example() {
	limit := int64(64 << 20)
	group := cgroup.New("/example/1234")
	if _, err := group.Create(&cgroup.Resources{Memory: &specs.LinuxMemory{Limit: &limit}}); err != nil {
		fmt.Println(err)
		return
	}
	defer group.Destroy(context.Background())
	entrance, err := group.Entrance(cgroup.App)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer entrance.Close()
	cmd := exec.Command("true")
	if entrance.Dir != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(entrance.Dir.Fd())}
	}
	if err := enter.Run(entrance.Tasks, cmd.Run); err != nil {
		fmt.Println(err)
	}
	stats, err := group.Stats()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("processor time in nanoseconds:", stats.CPU.Usage)
}

package containers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/container"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/internal/cli/command"
)

type updateOptions struct {
	resources                 container.Resources
	memory, memoryReservation opts.MemBytes
	memorySwap                opts.MemSwapBytes
	cpus                      opts.NanoCPUs
	pids                      int64
	restart                   string
}

// NewUpdate returns "update".
func NewUpdate(a *command.App) *cobra.Command {
	var o updateOptions
	cmd := &cobra.Command{
		Use:   "update [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Update configuration of one or more containers",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().NFlag() == 0 {
				return errors.New("you must provide one or more flags when using this command")
			}
			return o.run(cmd.Context(), a, args)
		},
		ValidArgsFunction:     a.CompleteContainers(-1, command.Any),
		DisableFlagsInUseLine: true,
	}
	o.addFlags(cmd.Flags())
	return command.Common(cmd, 0, "container update", "update")
}

func (o *updateOptions) addFlags(set *pflag.FlagSet) {
	r := &o.resources
	set.Uint16Var(&r.BlkioWeight, "blkio-weight", 0, "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)")
	set.Int64Var(&r.CPUPeriod, "cpu-period", 0, "Limit CPU CFS (Completely Fair Scheduler) period")
	set.Int64Var(&r.CPUQuota, "cpu-quota", 0, "Limit CPU CFS (Completely Fair Scheduler) quota")
	set.Int64Var(&r.CPURealtimePeriod, "cpu-rt-period", 0, "Limit the CPU real-time period in microseconds")
	set.Int64Var(&r.CPURealtimeRuntime, "cpu-rt-runtime", 0, "Limit the CPU real-time runtime in microseconds")
	set.StringVar(&r.CpusetCpus, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	set.StringVar(&r.CpusetMems, "cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)")
	set.Int64VarP(&r.CPUShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	set.VarP(&o.memory, "memory", "m", "Memory limit")
	set.Var(&o.memoryReservation, "memory-reservation", "Memory soft limit")
	set.Var(&o.memorySwap, "memory-swap", "Swap limit equal to memory plus swap: -1 to enable unlimited swap")
	set.StringVar(&o.restart, "restart", "", "Restart policy to apply when a container exits")
	set.Int64Var(&o.pids, "pids-limit", 0, "Tune container pids limit (set -1 for unlimited)")
	set.Var(&o.cpus, "cpus", "Number of CPUs")
	set.Var(new(opts.MemBytes), "kernel-memory", "Kernel memory limit (deprecated)")
	_ = set.MarkDeprecated("kernel-memory", "and no longer supported by the kernel")
}

func (o *updateOptions) run(ctx context.Context, a *command.App, names []string) error {
	var policy container.RestartPolicy
	if o.restart != "" {
		var err error
		if policy, err = opts.ParseRestartPolicy(o.restart); err != nil {
			return err
		}
	}
	r := o.resources
	r.Memory, r.MemoryReservation, r.MemorySwap = o.memory.Value(), o.memoryReservation.Value(), o.memorySwap.Value()
	r.NanoCPUs = o.cpus.Value()
	if o.pids != 0 {
		r.PidsLimit = &o.pids
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	var warnings []string
	err = a.InTurn(ctx, names, func(ctx context.Context, name string) error {
		res, err := c.ContainerUpdate(ctx, name, mobyclient.ContainerUpdateOptions{Resources: &r, RestartPolicy: &policy})
		warnings = append(warnings, res.Warnings...)
		return err
	})
	if len(warnings) > 0 {
		_, _ = fmt.Fprintln(a.Out, strings.Join(warnings, "\n"))
	}
	return err
}

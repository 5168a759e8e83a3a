package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/oci"
)

func (a *app) exec() *cobra.Command {
	var o oci.ExecOptions
	cmd := &cobra.Command{
		Use: "exec CONTAINER [COMMAND [ARG...]]", Short: "Run one more process in a container", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			rt, err := a.runtime()
			if err != nil {
				return err
			}
			o.Args = args[1:]
			return rt.Exec(args[0], o)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVarP(&o.ProcessFile, "process", "p", "", "file with the process as JSON, in place of a command")
	f.BoolVarP(&o.Detach, "detach", "d", false, "return when the process runs")
	f.StringVar(&o.PIDFile, "pid-file", "", "file that gets the process's pid")
	f.StringVar(&o.ConsoleSocket, "console-socket", "", "unix socket that gets the master of the terminal")
	f.IntVar(&o.PreserveFDs, "preserve-fds", 0, "how many descriptors, from 3 on, the process gets")
	f.BoolVarP(&o.Terminal, "tty", "t", false, "give it a terminal")
	f.StringVar(&o.Cwd, "cwd", "", "working directory, that of the container's process if none is given")
	f.StringArrayVarP(&o.Env, "env", "e", nil, "add NAME=VALUE to the environment")
	f.StringVarP(&o.User, "user", "u", "", "UID[:GID] to run it as")
	return cmd
}

func (a *app) update() *cobra.Command {
	var file string
	var memory, reservation, swap, quota, pids int64
	var period, shares uint64
	var cpus, mems string
	cmd := a.withID("update", "Change the limits of a container", nil)
	f := cmd.Flags()
	f.StringVarP(&file, "resources", "r", "", "file with linux.resources as JSON, - for standard input, in place of the others")
	f.Int64Var(&memory, "memory", 0, "memory limit in bytes")
	f.Int64Var(&reservation, "memory-reservation", 0, "memory reservation in bytes")
	f.Int64Var(&swap, "memory-swap", 0, "limit of memory and swap in bytes, -1: none")
	f.Int64Var(&quota, "cpu-quota", 0, "CPU time in a period, in microseconds")
	f.Uint64Var(&period, "cpu-period", 0, "period of the CPU quota in microseconds")
	f.Uint64Var(&shares, "cpu-share", 0, "CPU shares")
	f.StringVar(&cpus, "cpuset-cpus", "", "processors to use")
	f.StringVar(&mems, "cpuset-mems", "", "memory nodes to use")
	f.Int64Var(&pids, "pids-limit", 0, "most processes, -1: no limit")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		rt, err := a.runtime()
		if err != nil {
			return err
		}
		if file != "" {
			r, err := readResources(file)
			if err != nil {
				return err
			}
			return rt.Update(args[0], r)
		}
		r := &specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{Cpus: cpus, Mems: mems}}
		set := cmd.Flags().Changed
		if set("memory") {
			r.Memory.Limit = &memory
		}
		if set("memory-reservation") {
			r.Memory.Reservation = &reservation
		}
		if set("memory-swap") {
			r.Memory.Swap = &swap
		}
		if set("cpu-quota") {
			r.CPU.Quota = &quota
		}
		if set("cpu-period") {
			r.CPU.Period = &period
		}
		if set("cpu-share") {
			r.CPU.Shares = &shares
		}
		if set("pids-limit") {
			r.Pids = &specs.LinuxPids{Limit: &pids}
		}
		return rt.Update(args[0], r)
	}
	return cmd
}

func readResources(name string) (*specs.LinuxResources, error) {
	var in io.Reader = os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	r := &specs.LinuxResources{}
	d := json.NewDecoder(in)
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("resources: %w", err)
	}
	if d.More() {
		return nil, errors.New("resources: there is more than one document")
	}
	return r, nil
}

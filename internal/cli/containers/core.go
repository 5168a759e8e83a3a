package containers

import (
	"context"
	"strconv"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

// NewCore returns "core" with the verbs about cores that are kept.
func NewCore(a *command.App) *cobra.Command {
	return command.Group(a, "core", "See and get the cores of processes that have crashed", newCoreLs(a), newCoreGet(a), newCoreRm(a))
}

func newCoreLs(a *command.App) *cobra.Command {
	var list command.ListFlags
	noTrunc := false
	cmd := &cobra.Command{
		Use:   "ls [OPTIONS] [CONTAINER]",
		Short: "List the cores that are kept, also of containers that were removed",
		Long: `List the cores that are kept, also of containers that were removed. None are unless the daemon runs with --core-dumps
and the process may leave one, as with "run --ulimit core=-1"; "porthole info" tells whether the daemon can.`,
		Args: command.MaxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			cores, err := c.Cores(cmd.Context(), append(args, "")[0])
			if err != nil {
				return err
			}
			if done, err := list.JSON(a.Out, cores); done {
				return err
			}
			format := list.Or("")
			if format == formatter.TableFormatKey {
				format = `table {{.ID}}\t{{.Container}}\t{{.Run}}\t{{.Process}}\t{{.PID}}\t{{.Signal}}\t{{.Size}}\t{{.Disk}}\t{{.Crashed}}`
			}
			rows := make([]formatter.SubContext, len(cores))
			for n, core := range cores {
				rows[n] = &coreRow{Core: core, short: !noTrunc}
			}
			return command.WriteRows(a.Out, format, coreHeader(), rows)
		},
		ValidArgsFunction:     a.CompleteContainers(1, nil),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "Do not truncate the output")
	list.Add(cmd.Flags())
	return command.Also(cmd, "", "list")
}

// coreRow is a core as templates see it, with all of its fields besides.
type coreRow struct {
	formatter.HeaderContext
	api.Core
	short bool
}

func coreHeader() *coreRow {
	return &coreRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"ID": "CORE ID", "Container": "CONTAINER", "ContainerID": "CONTAINER ID", "Run": "RUN", "Process": "PROCESS", "PID": "PID", "Signal": "SIGNAL",
		"Size": "SIZE", "Disk": "ON DISK", "Crashed": "CRASHED", "Image": "IMAGE",
	}}}
}

// MarshalJSON is for the format "json".
func (r *coreRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *coreRow) ID() string        { return r.Core.ID }
func (r *coreRow) Container() string { return r.ContainerName }
func (r *coreRow) ContainerID() string {
	if r.short {
		return formatter.TruncateID(r.Core.ContainerID)
	}
	return r.Core.ContainerID
}
func (r *coreRow) Image() string   { return r.Core.Image }
func (r *coreRow) Run() string     { return strconv.Itoa(r.Core.Run) }
func (r *coreRow) Process() string { return visible(r.Core.Process) }
func (r *coreRow) PID() string     { return strconv.Itoa(r.PIDInside) } // in the container, where its name means something

// Signal is by which it crashed.
func (r *coreRow) Signal() string {
	if r.Core.Signal == "" {
		return "-"
	}
	return r.Core.Signal
}

// Size is that of the ELF file, with a mark if its end is missing.
func (r *coreRow) Size() string {
	text := units.BytesSize(float64(r.Bytes))
	if r.Truncated {
		text += "+"
	}
	return text
}

// Disk is what is kept of it.
func (r *coreRow) Disk() string { return units.BytesSize(float64(r.DiskBytes)) }

// Crashed is how long ago it was.
func (r *coreRow) Crashed() string { return units.HumanDuration(time.Since(r.Time)) + " ago" }

func newCoreGet(a *command.App) *cobra.Command {
	output := ""
	cmd := &cobra.Command{
		Use:   "get [OPTIONS] CORE|CONTAINER",
		Short: "Get a core, or the newest of a container, as an ELF file (streamed to STDOUT by default)",
		Long: `Get a core, or the newest of a container, as an ELF file for a debugger. All that the process had in its memory is in it,
secrets as well: the file is for its owner alone.

    porthole core get -o core web
    porthole cp web:/usr/bin/app .
    gdb app core`,
		Args: command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output == "-" {
				output = ""
			}
			return getCore(cmd.Context(), a, args[0], output)
		},
		ValidArgsFunction:     a.CompleteCores(1),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	return cmd
}

func getCore(ctx context.Context, a *command.App, ref, output string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	out, err := a.OpenArchive(output, "get core")
	if err != nil {
		return err
	}
	defer out.Discard()
	elf, err := c.CoreRead(ctx, ref)
	if err != nil {
		return err
	}
	defer elf.Close()
	return out.FillWithHoles(elf)
}

func newCoreRm(a *command.App) *cobra.Command {
	return command.Also(&cobra.Command{
		Use:   "rm CORE [CORE...]",
		Short: "Remove one or more cores",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			return a.InTurn(cmd.Context(), args, c.CoreRemove)
		},
		ValidArgsFunction:     a.CompleteCores(-1),
		DisableFlagsInUseLine: true,
	}, "", "remove")
}

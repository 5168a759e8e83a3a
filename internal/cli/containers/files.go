package containers

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

type filesOptions struct {
	command.ListFlags
	mapped, deleted bool
}

// NewFiles returns "files".
func NewFiles(a *command.App) *cobra.Command {
	o := filesOptions{}
	cmd := &cobra.Command{
		Use:   "files [OPTIONS] CONTAINER",
		Short: "List the files that the processes of a container have open",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVar(&o.mapped, "mapped", false, "List the files that are mapped into memory, such as libraries, in place of the open ones")
	set.BoolVar(&o.deleted, "deleted", false, "Only files that were deleted, or replaced, since they were opened")
	o.Add(set)
	return command.Common(cmd, 0, "container files", "files")
}

func (o *filesOptions) run(ctx context.Context, a *command.App, name string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	found, err := c.OpenFiles(ctx, name, o.mapped)
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, found); done {
		return err
	}
	format := o.Or("")
	table := format == formatter.TableFormatKey
	var rows []formatter.SubContext
	if o.mapped {
		if table {
			format = `table {{.Path}}\t{{.Deleted}}\t{{.Executable}}\t{{.Processes}}`
		}
		for _, f := range found.Mapped {
			if f.Deleted || !o.deleted {
				rows = append(rows, &mappedRow{MappedFile: f})
			}
		}
		err = command.WriteRows(a.Out, format, mappedHeader(), rows)
	} else {
		if table {
			format = `table {{.Process}}\t{{.FD}}\t{{.Type}}\t{{.Mode}}\t{{.Offset}}\t{{.Size}}\t{{.Path}}`
		}
		for _, f := range found.Files {
			if f.Deleted || !o.deleted {
				rows = append(rows, &fileRow{OpenFile: f})
			}
		}
		err = command.WriteRows(a.Out, format, fileHeader(), rows)
	}
	if err != nil || !table {
		return err
	}
	tellRest(a, found.Unknown)
	if found.DeletedBytes > 0 {
		_, _ = fmt.Fprintf(a.Out, "Deleted files that are still open take up %s.\n", units.BytesSize(float64(found.DeletedBytes)))
	}
	return nil
}

// fileRow is an open file as templates see it.
type fileRow struct {
	formatter.HeaderContext
	api.OpenFile
}

func fileHeader() *fileRow {
	return &fileRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"Process": "PROCESS", "PID": "PID", "HostPID": "HOST PID", "FD": "FD", "Type": "TYPE", "Mode": "MODE", "Offset": "OFFSET",
		"Size": "SIZE", "Path": "PATH", "Inode": "INODE", "Deleted": "DELETED",
	}}}
}

// MarshalJSON is for the format "json".
func (r *fileRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *fileRow) Process() string {
	return command.Visible(r.Name) + "(" + strconv.Itoa(r.OpenFile.PID) + ")"
}
func (r *fileRow) PID() string     { return strconv.Itoa(r.OpenFile.PID) }
func (r *fileRow) HostPID() string { return strconv.Itoa(r.OpenFile.HostPID) }
func (r *fileRow) Type() string    { return r.OpenFile.Type }
func (r *fileRow) Mode() string    { return dash(r.OpenFile.Mode) }
func (r *fileRow) Inode() string   { return strconv.FormatUint(r.OpenFile.Inode, 10) }
func (r *fileRow) Deleted() string { return strconv.FormatBool(r.OpenFile.Deleted) }

// FD is the descriptor, or what it is held by without one.
func (r *fileRow) FD() string {
	if r.OpenFile.FD < 0 {
		return r.OpenFile.Type
	}
	return strconv.Itoa(r.OpenFile.FD)
}

// Offset is where the next byte is read or written, of what has places.
func (r *fileRow) Offset() string {
	if r.OpenFile.FD < 0 || r.OpenFile.Type != "file" && r.OpenFile.Type != "block" && r.OpenFile.Type != "memfd" {
		return "-"
	}
	return strconv.FormatInt(r.OpenFile.Offset, 10)
}

func (r *fileRow) Size() string {
	switch r.OpenFile.Type {
	case "file", "memfd", "exe":
		return units.BytesSize(float64(r.OpenFile.Size))
	}
	return "-"
}

// Path is what it is, and the other ends of a pipe.
func (r *fileRow) Path() string {
	text := command.Visible(r.OpenFile.Path)
	if r.OpenFile.Deleted {
		text += " (deleted)"
	}
	if len(r.Peers) > 0 {
		text += " ↔ " + holders(r.Peers)
	}
	return text
}

// mappedRow is a mapped file as templates see it.
type mappedRow struct {
	formatter.HeaderContext
	api.MappedFile
}

func mappedHeader() *mappedRow {
	return &mappedRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"Path": "PATH", "Deleted": "DELETED", "Executable": "CODE", "Processes": "PIDS", "Inode": "INODE",
	}}}
}

// MarshalJSON is for the format "json".
func (r *mappedRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *mappedRow) Path() string       { return command.Visible(r.MappedFile.Path) }
func (r *mappedRow) Deleted() string    { return yes(r.MappedFile.Deleted) }
func (r *mappedRow) Executable() string { return yes(r.MappedFile.Executable) }
func (r *mappedRow) Inode() string      { return strconv.FormatUint(r.MappedFile.Inode, 10) }
func (r *mappedRow) Processes() string {
	var words []string
	for _, pid := range r.MappedFile.Processes {
		words = append(words, strconv.Itoa(pid))
	}
	return strings.Join(words, " ")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "-"
}

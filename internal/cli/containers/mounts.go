package containers

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

type mountsOptions struct {
	command.ListFlags
	all     bool
	noTrunc bool
}

// NewMounts returns "mounts".
func NewMounts(a *command.App) *cobra.Command {
	o := mountsOptions{}
	cmd := &cobra.Command{
		Use:   "mounts [OPTIONS] CONTAINER",
		Short: "List what is mounted in a container, and whether it still is what its source has",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, nil),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.all, "all", "a", false, "Also list what nobody asked for, as /proc and what was mounted in the container")
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate the output")
	o.Add(set)
	return command.Common(cmd, 0, "container mounts", "mounts")
}

func (o *mountsOptions) run(ctx context.Context, a *command.App, name string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	m, err := c.Mounts(ctx, name, o.all)
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, m); done {
		return err
	}
	format := o.Or("")
	people := format == formatter.TableFormatKey
	if people {
		format = `table {{.Destination}}\t{{.Type}}\t{{.Source}}\t{{.Access}}\t{{.Owner}}\t{{.Free}}\t{{.State}}`
	}
	rows := make([]formatter.SubContext, len(m.Mounts))
	for n, one := range m.Mounts {
		rows[n] = &mountRow{mount: one, short: !o.noTrunc}
	}
	if err := command.WriteRows(a.Out, format, mountHeader(), rows); err != nil || !people {
		return err
	}
	_, err = io.WriteString(a.Out, mountNotes(&m))
	return err
}

// mountNotes is what there is to say beside the table.
func mountNotes(m *api.Mounts) string {
	var b strings.Builder
	for _, one := range m.Mounts {
		if b.Len() == 0 && (one.Note != "" || len(one.UsedBy) > 0) {
			fmt.Fprintln(&b)
		}
		if one.Note != "" {
			fmt.Fprintf(&b, "%s: %s\n", visible(one.Destination), visible(one.Note))
		}
		if len(one.UsedBy) > 0 {
			fmt.Fprintf(&b, "%s: volume %s is also used by %s\n", visible(one.Destination), one.Name, strings.Join(one.UsedBy, ", "))
		}
		for _, next := range one.Next {
			fmt.Fprintf(&b, "  try: %s\n", visible(next))
		}
	}
	return b.String()
}

// mountRow is a mount as templates see it.
type mountRow struct {
	formatter.HeaderContext
	mount api.Mount
	short bool
}

func mountHeader() *mountRow {
	return &mountRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"Destination": "DESTINATION", "Type": "TYPE", "Name": "NAME", "Source": "SOURCE", "Access": "ACCESS", "Owner": "OWNER",
		"HostOwner": "HOST OWNER", "Mode": "MODE", "Free": "FREE", "Size": "SIZE", "Filesystem": "FILESYSTEM", "Options": "OPTIONS",
		"Propagation": "PROPAGATION", "UsedBy": "USED BY", "State": "STATE", "Note": "NOTE",
	}}}
}

// MarshalJSON is for the format "json".
func (r *mountRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *mountRow) Destination() string { return visible(r.mount.Destination) }
func (r *mountRow) Type() string        { return visible(r.mount.Kind) } // FUSE has containers name them
func (r *mountRow) Name() string        { return visible(r.mount.Name) }
func (r *mountRow) Filesystem() string  { return visible(r.mount.Filesystem) }
func (r *mountRow) Options() string     { return visible(strings.Join(r.mount.Options, ",")) }
func (r *mountRow) Propagation() string { return r.mount.Propagation }
func (r *mountRow) UsedBy() string      { return strings.Join(r.mount.UsedBy, ",") }
func (r *mountRow) State() string       { return r.mount.State }
func (r *mountRow) Note() string        { return visible(r.mount.Note) }

// sourceWidth is how many characters of a source are shown.
const sourceWidth = 40

// Source is the path on the host, or what people know it by.
func (r *mountRow) Source() string {
	m := &r.mount
	text := m.Source
	switch {
	case r.short && (m.Kind == "volume" || m.Kind == "image"):
		text = m.Name
	case text == "" && m.Subpath == "":
		return "-"
	}
	if m.Subpath != "" {
		text += ":" + m.Subpath
	}
	if r.short {
		text = tail(text, sourceWidth)
	}
	return visible(text)
}

// tail keeps the end of a text, which of a path tells more than its beginning.
func tail(text string, width int) string {
	r := []rune(text)
	if len(r) <= width {
		return text
	}
	return "…" + string(r[len(r)-width+1:])
}

// Access is what may be done: rw or ro.
func (r *mountRow) Access() string {
	if r.mount.ReadOnly {
		return "ro"
	}
	return "rw"
}

// Owner is the owner that the container sees, and the mode.
func (r *mountRow) Owner() string {
	if r.mount.Owner == nil {
		return "-"
	}
	return fmt.Sprintf("%d:%d %s", r.mount.Owner.UID, r.mount.Owner.GID, r.mount.Owner.Mode)
}

// HostOwner is the owner on the host.
func (r *mountRow) HostOwner() string {
	if r.mount.Owner == nil {
		return "-"
	}
	return strconv.FormatUint(uint64(r.mount.Owner.HostUID), 10) + ":" + strconv.FormatUint(uint64(r.mount.Owner.HostGID), 10)
}

// Mode is octal.
func (r *mountRow) Mode() string {
	if r.mount.Owner == nil {
		return "-"
	}
	return r.mount.Owner.Mode
}

// Free is the room that is left.
func (r *mountRow) Free() string {
	if r.mount.Space == nil {
		return "-"
	}
	return units.HumanSize(float64(r.mount.Space.Free))
}

// Size is the room of the filesystem.
func (r *mountRow) Size() string {
	if r.mount.Space == nil {
		return "-"
	}
	return units.HumanSize(float64(r.mount.Space.Size))
}

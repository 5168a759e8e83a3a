package images

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

type blameOptions struct {
	command.ListFlags
	noTrunc bool
}

// newBlame returns "image blame".
func newBlame(a *command.App) *cobra.Command {
	var o blameOptions
	cmd := &cobra.Command{
		Use:   "blame [OPTIONS] IMAGE PATH",
		Short: "Show which layers of an image wrote, changed or removed a path, and by which instruction",
		Args:  command.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0], args[1])
		},
		ValidArgsFunction:     a.CompleteImages(1),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	o.Add(set)
	return cmd
}

func (o *blameOptions) run(ctx context.Context, a *command.App, name, path string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	b, err := c.ImageBlame(ctx, name, path)
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, b); done {
		return err
	}
	format := o.Or("")
	if format == formatter.TableFormatKey {
		format = `table {{.Layer}}\t{{.Action}}\t{{.CreatedSince}}\t{{.Mode}}\t{{.Owner}}\t{{.Size}}\t{{.Line}}\t{{.CreatedBy}}`
		if "/"+strings.Trim(path, "/") != b.Path {
			fmt.Fprintf(a.Out, "%s is %s\n", command.Visible(path), command.Visible(b.Path))
		}
	}
	rows := make([]formatter.SubContext, len(b.Touches))
	for n, t := range b.Touches {
		rows[n] = &touchRow{touch: t, path: b.Path, short: !o.noTrunc}
	}
	return command.WriteRows(a.Out, format, touchHeader(), rows)
}

// touchRow is what one layer did to a path, as templates see it.
type touchRow struct {
	formatter.HeaderContext
	touch api.ImageTouch
	path  string
	short bool
}

func touchHeader() *touchRow {
	return &touchRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"Layer": "LAYER", "Action": "ACTION", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "Mode": "MODE", "Owner": "OWNER",
		"Size": "SIZE", "ModifiedAt": "MODIFIED AT", "Line": "LINE", "CreatedBy": "CREATED BY", "DiffID": "DIFF ID",
	}}}
}

// MarshalJSON is for the format "json".
func (r *touchRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *touchRow) Layer() string  { return strconv.Itoa(r.touch.Number) }
func (r *touchRow) DiffID() string { return r.touch.DiffID }

// Action is what the layer did, with what of it changed.
func (r *touchRow) Action() string {
	t := &r.touch
	switch {
	case t.Action == "removed" && len(t.What) == 1 && t.What[0] == r.path:
		return t.Action
	case t.Action == "removed":
		return "removed with " + command.Visible(strings.Join(t.What, ", "))
	case len(t.What) > 0:
		return t.Action + ": " + strings.Join(t.What, ", ")
	case t.Link != "":
		return t.Action + ": -> " + command.Visible(t.Link)
	}
	return t.Action
}

// CreatedSince is how long ago the layer was made.
func (r *touchRow) CreatedSince() string {
	if !r.touch.Created.After(plausible) {
		return "N/A"
	}
	return units.HumanDuration(time.Since(r.touch.Created)) + " ago"
}

// CreatedAt is when the layer was made.
func (r *touchRow) CreatedAt() string {
	if r.touch.Created.IsZero() {
		return "N/A"
	}
	return r.touch.Created.Format(time.RFC3339)
}

// ModifiedAt is the file's time.
func (r *touchRow) ModifiedAt() string {
	if r.touch.ModifiedAt.IsZero() {
		return "-"
	}
	return r.touch.ModifiedAt.Format(time.RFC3339Nano)
}

// Parts of st_mode, see inode(7). The command line runs on other systems, too.
const (
	typeBits = 0o170000
	regular  = 0o100000
)

// Mode is as ls shows it.
func (r *touchRow) Mode() string {
	m := r.touch.Mode
	if m == 0 {
		return "-"
	}
	mode := fs.FileMode(m & 0o777)
	for _, f := range []struct {
		bit  uint32
		mode fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if m&f.bit != 0 {
			mode |= f.mode
		}
	}
	switch m & typeBits {
	case 0o040000:
		mode |= fs.ModeDir
	case 0o120000:
		mode |= fs.ModeSymlink
	case 0o020000:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case 0o060000:
		mode |= fs.ModeDevice
	case 0o010000:
		mode |= fs.ModeNamedPipe
	case 0o140000:
		mode |= fs.ModeSocket
	}
	return mode.String()
}

// Owner is UID:GID in the container.
func (r *touchRow) Owner() string {
	if r.touch.Mode == 0 {
		return "-"
	}
	return fmt.Sprintf("%d:%d", r.touch.UID, r.touch.GID)
}

// Size is that of a regular file.
func (r *touchRow) Size() string {
	if r.touch.Mode&typeBits != regular {
		return "-"
	}
	return size(r.touch.Size)
}

// Line is where the instruction stands.
func (r *touchRow) Line() string { return line(&r.touch.ImageLayer) }

// CreatedBy is the instruction.
func (r *touchRow) CreatedBy() string { return createdBy(&r.touch.ImageLayer, r.short) }

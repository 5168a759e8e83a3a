package images

import (
	"context"
	"errors"
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

type layersOptions struct {
	command.ListFlags
	hidden  int
	noTrunc bool
}

// newLayers returns "image layers".
func newLayers(a *command.App) *cobra.Command {
	var o layersOptions
	cmd := &cobra.Command{
		Use:   "layers [OPTIONS] IMAGE",
		Short: "Show what each layer of an image has, and what of it nobody sees",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteImages(1),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.IntVarP(&o.hidden, "hidden", "n", 10, "How many of the largest files to list that later layers hide")
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	o.Add(set)
	return cmd
}

func (o *layersOptions) run(ctx context.Context, a *command.App, name string) error {
	if o.hidden < 0 {
		return errors.New("invalid argument: --hidden must not be negative")
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	l, err := c.ImageLayers(ctx, name, o.hidden)
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, l); done {
		return err
	}
	format := o.Or("")
	isTable := format == formatter.TableFormatKey
	if isTable {
		format = `table {{.Number}}\t{{.Size}}\t{{.Files}}\t{{.Hidden}}\t{{.Line}}\t{{.CreatedBy}}`
	}
	rows := make([]formatter.SubContext, len(l.Layers))
	for n := range l.Layers {
		// As in a history, the latest first.
		rows[n] = &layerRow{layer: l.Layers[len(rows)-1-n], short: !o.noTrunc}
	}
	if err := command.WriteRows(a.Out, format, layerHeader(), rows); err != nil || !isTable {
		return err
	}
	return printHidden(a.Out, l)
}

// printHidden tells what a smaller image would not have.
func printHidden(w io.Writer, l api.ImageLayers) error {
	var files int
	var bytes, all int64
	for _, layer := range l.Layers {
		files += layer.HiddenFiles
		bytes += layer.HiddenBytes
		all += layer.Bytes
	}
	if files == 0 {
		_, err := fmt.Fprintln(w, "\nNo file is hidden by a later layer.")
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s of %s, in %d files, are in a layer but hidden by a later one:\n", size(bytes), size(all), files)
	for _, h := range l.Hidden {
		what := "replaced"
		if h.Removed {
			what = "removed"
		}
		fmt.Fprintf(&b, "%10s  %s  layer %d, %s by %d\n", size(h.Bytes), command.Visible(h.Path), h.Layer, what, h.By)
	}
	if more := files - len(l.Hidden); more > 0 && len(l.Hidden) > 0 {
		fmt.Fprintf(&b, "%10s  %d more (--hidden %d lists them)\n", "", more, files)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// layerRow is a layer as templates see it.
type layerRow struct {
	formatter.HeaderContext
	layer api.ImageLayer
	short bool
}

func layerHeader() *layerRow {
	return &layerRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"Number": "LAYER", "Size": "SIZE", "Files": "FILES", "Hidden": "HIDDEN", "Line": "LINE", "CreatedBy": "CREATED BY",
		"DiffID": "DIFF ID",
	}}}
}

// MarshalJSON is for the format "json".
func (r *layerRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *layerRow) Number() string { return strconv.Itoa(r.layer.Number) }
func (r *layerRow) Size() string   { return size(r.layer.Bytes) }
func (r *layerRow) Files() string  { return strconv.Itoa(r.layer.Files) }
func (r *layerRow) DiffID() string { return r.layer.DiffID }

// Hidden is how much of it a later layer hides.
func (r *layerRow) Hidden() string {
	if r.layer.HiddenFiles == 0 {
		return "-"
	}
	return size(r.layer.HiddenBytes)
}

// Line is where the instruction stands.
func (r *layerRow) Line() string { return line(&r.layer) }

// CreatedBy is the instruction.
func (r *layerRow) CreatedBy() string { return createdBy(&r.layer, r.short) }

func line(l *api.ImageLayer) string {
	if l.Line == 0 {
		return "-"
	}
	return command.Visible(l.File) + ":" + strconv.Itoa(l.Line)
}

func createdBy(l *api.ImageLayer, short bool) string {
	by := command.Visible(l.CreatedBy)
	if short {
		return formatter.Ellipsis(by, 45)
	}
	return by
}

package system

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

type dfOptions struct {
	command.ListFlags
	verbose bool
}

func newDf(a *command.App) *cobra.Command {
	var o dfOptions
	cmd := &cobra.Command{
		Use:   "df [OPTIONS]",
		Short: "Show porthole disk usage",
		Args:  command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), a)
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "Show detailed information on space usage")
	o.Add(cmd.Flags())
	return cmd
}

func (o *dfOptions) run(ctx context.Context, a *command.App) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	res, err := c.DiskUsage(ctx, mobyclient.DiskUsageOptions{Verbose: o.verbose})
	if err != nil {
		return err
	}
	res.Images.Reclaimable = reclaimable(res.Images)
	root, err := o.dataRoot(ctx, c)
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, usage{res, root}); done {
		return err
	}
	var out bytes.Buffer
	df := formatter.DiskUsageContext{
		Context: formatter.Context{Output: &out, Format: formatter.NewDiskUsageFormat(o.Or(""), o.verbose)},
		Verbose: o.verbose, ImageDiskUsage: res.Images, BuildCacheDiskUsage: res.BuildCache,
		ContainerDiskUsage: res.Containers, VolumeDiskUsage: res.Volumes,
	}
	if err := df.Write(); err != nil {
		return err
	}
	if root != nil && o.verbose {
		o.addDataRoot(&out, root)
	}
	_, err = out.WriteTo(a.Out)
	return err
}

// reclaimable is all that images occupy but for what those in use have for themselves. The client library adds up what
// is unused instead, where layers that only unused images share are missing.
func reclaimable(u mobyclient.ImagesDiskUsage) int64 {
	rest := u.TotalSize
	for _, img := range u.Items {
		if img.Containers != 0 && img.Size != -1 && img.SharedSize != -1 {
			rest -= img.Size - img.SharedSize
		}
	}
	return max(rest, 0)
}

// usage is what --json prints.
type usage struct {
	mobyclient.DiskUsageResult
	DataRoot *api.DiskLedger `json:",omitempty"`
}

// dataRoot asks whose everything below the data root is, if that is to be shown; nil if the daemon is not ours.
func (o *dfOptions) dataRoot(ctx context.Context, c *client.Client) (*api.DiskLedger, error) {
	if !o.verbose {
		return nil, nil
	}
	root, err := c.DiskLedger(ctx)
	if errors.Is(err, client.ErrNotPorthole) {
		return nil, nil
	}
	return &root, err
}

// addDataRoot adds what is ours to Docker's output, in its form: a member to the JSON object, a table to tables. Other
// formats are the user's.
func (o *dfOptions) addDataRoot(out *bytes.Buffer, root *api.DiskLedger) {
	switch o.Or("") {
	case formatter.JSONFormatKey:
		object, isObject := bytes.CutSuffix(bytes.TrimSpace(out.Bytes()), []byte("}"))
		member, err := json.Marshal(root)
		if !isObject || err != nil {
			return
		}
		text := fmt.Sprintf("%s,\"DataRoot\":%s}\n", object, member)
		out.Reset()
		out.WriteString(text)
	case formatter.TableFormatKey:
		writeDataRoot(out, root)
	}
}

func writeDataRoot(out *bytes.Buffer, root *api.DiskLedger) {
	fmt.Fprintf(out, "\nData root usage: %s in %s\n\n", units.HumanSize(float64(root.TotalBytes)), root.Root)
	w := tabwriter.NewWriter(out, 10, 1, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "OWNER\tNAME\tPART\tSIZE\tSHARED BY")
	orphans := false
	for _, account := range root.Accounts {
		orphans = orphans || account.Owner == "orphan"
		name := account.Name
		switch {
		case name != "":
		case account.ID != "":
			name = formatter.TruncateID(account.ID)
		case account.Owner == "orphan":
			name = account.Path
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", account.Owner, name, account.Part,
			units.HumanSizeWithPrecision(float64(account.Bytes), 3), strings.Join(account.Users, ", "))
	}
	_ = w.Flush()
	if orphans {
		_, _ = fmt.Fprintln(out, "\nOrphans belong to nothing that is known. Remove them: porthole system prune --orphans")
	}
}

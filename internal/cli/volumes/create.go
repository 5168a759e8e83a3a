package volumes

import (
	"errors"
	"fmt"

	"github.com/docker/cli/opts"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

func newCreate(a *command.App) *cobra.Command {
	var o mobyclient.VolumeCreateOptions
	driverOpts, labels := opts.NewMapOpts(nil, nil), opts.NewListOpts(opts.ValidateLabel)
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] [VOLUME]",
		Short: "Create a volume",
		Args:  command.MaxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if o.Name != "" {
					return errors.New("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
				}
				o.Name = args[0]
			}
			o.DriverOpts, o.Labels = driverOpts.GetAll(), opts.ConvertKVStringsToMap(labels.GetSlice())
			c, err := a.Client()
			if err != nil {
				return err
			}
			res, err := c.VolumeCreate(cmd.Context(), o)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintln(a.Out, res.Volume.Name)
			return nil
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.StringVarP(&o.Driver, "driver", "d", "local", "Specify volume driver name")
	set.StringVar(&o.Name, "name", "", "Specify volume name")
	set.Lookup("name").Hidden = true
	set.VarP(driverOpts, "opt", "o", "Set driver specific options")
	set.Var(&labels, "label", "Set metadata for a volume")
	return cmd
}

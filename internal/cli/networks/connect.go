package networks

import (
	"errors"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/network"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/ipflag"
)

type connectOptions struct {
	ip, ip6             ipflag.Addr
	linkLocal           ipflag.Addrs
	links               opts.ListOpts
	aliases, driverOpts []string
	gwPriority          int
}

func newConnect(a *command.App) *cobra.Command {
	o := connectOptions{links: opts.NewListOpts(opts.ValidateLink)}
	cmd := &cobra.Command{
		Use:   "connect [OPTIONS] NETWORK CONTAINER",
		Short: "Connect a container to a network",
		Args:  command.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			endpoint, err := o.endpoint()
			if err != nil {
				return err
			}
			c, err := a.Client()
			if err != nil {
				return err
			}
			_, err = c.NetworkConnect(cmd.Context(), args[0], mobyclient.NetworkConnectOptions{Container: args[1], EndpointConfig: endpoint})
			return err
		},
		ValidArgsFunction:     completeEndpoint(a),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.Var(&o.ip, "ip", `IPv4 address (e.g., "172.30.100.104")`)
	set.Var(&o.ip6, "ip6", `IPv6 address (e.g., "2001:db8::33")`)
	set.Var(&o.links, "link", "Add link to another container")
	set.StringSliceVar(&o.aliases, "alias", nil, "Add network-scoped alias for the container")
	set.Var(&o.linkLocal, "link-local-ip", "Add a link-local address for the container")
	set.StringSliceVar(&o.driverOpts, "driver-opt", nil, "driver options for the network")
	set.IntVar(&o.gwPriority, "gw-priority", 0,
		"Highest gw-priority provides the default gateway. Accepts positive and negative values.")
	return cmd
}

func (o *connectOptions) endpoint() (*network.EndpointSettings, error) {
	ep := &network.EndpointSettings{
		IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: o.ip.Addr, IPv6Address: o.ip6.Addr, LinkLocalIPs: o.linkLocal},
		Links:      o.links.GetSlice(), Aliases: o.aliases, GwPriority: o.gwPriority,
		DriverOpts: map[string]string{},
	}
	for _, opt := range o.driverOpts {
		key, value, ok := strings.Cut(opt, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" {
			return nil, errors.New("invalid key/value pair format in driver options")
		}
		ep.DriverOpts[key] = strings.TrimSpace(value)
	}
	return ep, nil
}

// completeEndpoint completes a network and then a container.
func completeEndpoint(a *command.App) cobra.CompletionFunc {
	network, container := a.CompleteNetworks(1), a.CompleteContainers(2, command.Any)
	return func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return network(cmd, args, part)
		}
		return container(cmd, args, part)
	}
}

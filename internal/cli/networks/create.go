package networks

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/network"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type createOptions struct {
	mobyclient.NetworkCreateOptions
	driverOpts opts.MapOpts
	labels     opts.ListOpts
	ipv4, ipv6 bool
	ipam       ipamOptions
}

func newCreate(a *command.App) *cobra.Command {
	o := createOptions{
		driverOpts: *opts.NewMapOpts(nil, nil), labels: opts.NewListOpts(opts.ValidateLabel),
		ipam: ipamOptions{aux: *opts.NewMapOpts(nil, nil), options: *opts.NewMapOpts(nil, nil)},
	}
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] NETWORK",
		Short: "Create a network",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd, a, args[0])
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.StringVarP(&o.Driver, "driver", "d", "bridge", "Driver to manage the Network")
	set.VarP(&o.driverOpts, "opt", "o", "Set driver specific options")
	set.Var(&o.labels, "label", "Set metadata on a network")
	set.BoolVar(&o.Internal, "internal", false, "Restrict external access to the network")
	set.BoolVar(&o.ipv4, "ipv4", true, "Enable or disable IPv4 address assignment")
	set.BoolVar(&o.ipv6, "ipv6", false, "Enable or disable IPv6 address assignment")
	set.BoolVar(&o.Attachable, "attachable", false, "Enable manual container attachment")
	set.BoolVar(&o.Ingress, "ingress", false, "Create swarm routing-mesh network")
	set.StringVar(&o.Scope, "scope", "", "Control the network's scope")
	set.BoolVar(&o.ConfigOnly, "config-only", false, "Create a configuration only network")
	set.StringVar(&o.ConfigFrom, "config-from", "", "The network from which to copy the configuration")
	set.StringVar(&o.ipam.driver, "ipam-driver", "default", "IP Address Management Driver")
	set.StringSliceVar(&o.ipam.subnets, "subnet", nil, "Subnet in CIDR format that represents a network segment")
	set.StringSliceVar(&o.ipam.ranges, "ip-range", nil, "Allocate container ip from a sub-range")
	set.StringSliceVar(&o.ipam.gateways, "gateway", nil, "IPv4 or IPv6 Gateway for the master subnet")
	set.Var(&o.ipam.aux, "aux-address", "Auxiliary IPv4 or IPv6 addresses used by Network driver")
	set.Var(&o.ipam.options, "ipam-opt", "Set IPAM driver specific options")
	return cmd
}

func (o *createOptions) run(cmd *cobra.Command, a *command.App, name string) error {
	var err error
	if o.IPAM, err = o.ipam.config(); err != nil {
		return err
	}
	if cmd.Flags().Changed("ipv4") {
		o.EnableIPv4 = &o.ipv4
	}
	if cmd.Flags().Changed("ipv6") {
		o.EnableIPv6 = &o.ipv6
	}
	o.Options, o.Labels = o.driverOpts.GetAll(), opts.ConvertKVStringsToMap(o.labels.GetSlice())
	c, err := a.Client()
	if err != nil {
		return err
	}
	res, err := c.NetworkCreate(cmd.Context(), name, o.NetworkCreateOptions)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(a.Out, res.ID)
	return nil
}

// ipamOptions are the flags on addresses. Ranges, gateways and auxiliary
// addresses belong to the subnet that they lie in.
type ipamOptions struct {
	driver                    string
	subnets, ranges, gateways []string
	aux, options              opts.MapOpts
}

func (o *ipamOptions) config() (*network.IPAM, error) {
	if len(o.subnets) < len(o.ranges) || len(o.subnets) < len(o.gateways) {
		return nil, errors.New("every ip-range or gateway must have a corresponding subnet")
	}
	subnets, err := parseSubnets(o.subnets)
	if err != nil {
		return nil, err
	}
	for _, add := range []func([]network.IPAMConfig) error{o.addRanges, o.addGateways, o.addAux} {
		if err := add(subnets); err != nil {
			return nil, err
		}
	}
	return &network.IPAM{Driver: o.driver, Config: subnets, Options: o.options.GetAll()}, nil
}

func parseSubnets(list []string) ([]network.IPAMConfig, error) {
	subnets := make([]network.IPAMConfig, 0, len(list))
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("invalid subnet: %w", err)
		}
		for _, other := range subnets {
			if other.Subnet.Overlaps(p) {
				return nil, errors.New("multiple overlapping subnet configuration is not supported")
			}
		}
		subnets = append(subnets, network.IPAMConfig{Subnet: p, AuxAddress: map[string]netip.Addr{}})
	}
	return subnets, nil
}

// within returns the subnet that addr lies in, or nil.
func within(subnets []network.IPAMConfig, addr netip.Addr) *network.IPAMConfig {
	for n := range subnets {
		if subnets[n].Subnet.Contains(addr) {
			return &subnets[n]
		}
	}
	return nil
}

func (o *ipamOptions) addRanges(subnets []network.IPAMConfig) error {
	for _, s := range o.ranges {
		r, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("invalid ip-range: %w", err)
		}
		subnet := within(subnets, r.Addr())
		switch {
		case subnet == nil:
			return fmt.Errorf("no matching subnet for range %s", s)
		case subnet.IPRange.IsValid():
			return fmt.Errorf("cannot configure multiple ranges (%s, %s) on the same subnet (%s)", s, subnet.IPRange, subnet.Subnet)
		}
		subnet.IPRange = r
	}
	return nil
}

func (o *ipamOptions) addGateways(subnets []network.IPAMConfig) error {
	for _, s := range o.gateways {
		gateway, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("invalid gateway: %w", err)
		}
		subnet := within(subnets, gateway)
		switch {
		case subnet == nil:
			return fmt.Errorf("no matching subnet for gateway %s", s)
		case subnet.Gateway.IsValid():
			return fmt.Errorf("cannot configure multiple gateways (%s, %s) for the same subnet (%s)", s, subnet.Gateway, subnet.Subnet)
		}
		subnet.Gateway = gateway
	}
	return nil
}

func (o *ipamOptions) addAux(subnets []network.IPAMConfig) error {
	for name, s := range o.aux.GetAll() {
		if s == "" {
			continue
		}
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return err
		}
		subnet := within(subnets, addr)
		if subnet == nil {
			return fmt.Errorf("no matching subnet for aux-address %s", s)
		}
		subnet.AuxAddress[name] = addr
	}
	return nil
}

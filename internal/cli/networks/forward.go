package networks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

// NewForward returns "forward".
func NewForward(a *command.App) *cobra.Command {
	var closing bool
	cmd := &cobra.Command{
		Use:   "forward [OPTIONS] CONTAINER [[[IP:]HOST_PORT:]PORT[/PROTOCOL]]",
		Short: "Open or close a port of a running container",
		Long: `Open or close a port of a running container, also one of a server that listens on the container's
127.0.0.1 only. Without a port those that are open are listed. The port is open on the host's loopback
addresses unless another one is named, until it is closed or the container ends.`,
		Args: command.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if closing {
					return errors.New("--close needs the port of the host that is to be closed")
				}
				list, err := c.Forwards(cmd.Context(), args[0])
				printForwards(a, list)
				return err
			}
			if closing {
				return closeForward(cmd.Context(), c, args[0], args[1])
			}
			return openForward(cmd.Context(), a, c, args[0], args[1])
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVar(&closing, "close", false, "Close the port of the host that is named")
	return cmd
}

func openForward(ctx context.Context, a *command.App, c *client.Client, container, spec string) error {
	o, err := parseForward(spec)
	if err != nil {
		return err
	}
	before, err := c.Forwards(ctx, container)
	if err != nil {
		return err
	}
	list, err := c.Forward(ctx, container, o)
	if err != nil {
		return err
	}
	printForwards(a, list[min(len(before), len(list)):])
	return nil
}

func closeForward(ctx context.Context, c *client.Client, container, spec string) error {
	if i := strings.LastIndexByte(spec, ':'); i >= 0 {
		spec = spec[i+1:] // as it was listed
	}
	port, err := strconv.ParseUint(spec, 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("invalid port of the host: %q", spec)
	}
	return c.Unforward(ctx, container, uint16(port))
}

// parseForward reads [[IP:]HOST_PORT:]PORT[/PROTOCOL]. An IPv6 address stands in
// brackets.
func parseForward(spec string) (client.ForwardOptions, error) {
	var o client.ForwardOptions
	wrong := func(what string) (client.ForwardOptions, error) {
		return o, fmt.Errorf("invalid port %q: %s", spec, what)
	}
	host, port := "", spec
	if i := strings.LastIndexByte(spec, ':'); i >= 0 {
		host, port = spec[:i], spec[i+1:]
	}
	p, err := network.ParsePort(port)
	if err != nil || p.Num() == 0 {
		return wrong("the container's port is not a number from 1 to 65535 with a protocol behind")
	}
	o.Port = p.String()
	if host == "" {
		return o, nil
	}
	if strings.ContainsRune(host, ':') {
		ip, number, err := net.SplitHostPort(host)
		if err != nil {
			return wrong(err.Error())
		}
		if _, err := netip.ParseAddr(ip); err != nil {
			return wrong("the host's address is none")
		}
		o.HostIP, host = ip, number
	}
	n, err := strconv.ParseUint(host, 10, 16)
	if err != nil {
		return wrong("the host's port is not a number from 0 to 65535")
	}
	o.HostPort = uint16(n)
	return o, nil
}

func printForwards(a *command.App, list []api.Forward) {
	for _, f := range list {
		_, _ = fmt.Fprintf(a.Out, "%s -> %s\n", net.JoinHostPort(f.HostIP, strconv.Itoa(int(f.HostPort))), f.Port)
	}
}

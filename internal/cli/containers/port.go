package containers

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewPort returns "port".
func NewPort(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "port CONTAINER [PRIVATE_PORT[/PROTO]]",
		Short: "List port mappings or a specific mapping for the container",
		Args:  command.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			only := ""
			if len(args) > 1 {
				only = args[1]
			}
			return printPorts(cmd.Context(), a, args[0], only)
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	return command.Common(cmd, 0, "container port", "port")
}

func printPorts(ctx context.Context, a *command.App, name, only string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	info, err := c.ContainerInspect(ctx, name, mobyclient.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	ports := network.PortMap{}
	if s := info.Container.NetworkSettings; s != nil {
		ports = s.Ports
	}
	if only == "" {
		for _, line := range portLines(ports) {
			_, _ = fmt.Fprintln(a.Out, line)
		}
		return nil
	}
	port, err := network.ParsePort(only)
	if err != nil {
		return err
	}
	bindings := ports[port]
	if len(bindings) == 0 {
		return fmt.Errorf("no public port '%s' published for %s", only, name)
	}
	var lines []string
	for _, b := range bindings {
		lines = append(lines, published(b))
	}
	slices.Sort(lines)
	_, _ = fmt.Fprintln(a.Out, strings.Join(lines, "\n"))
	return nil
}

// portLines returns a line for each binding, by port number.
func portLines(ports network.PortMap) []string {
	keys := make([]network.Port, 0, len(ports))
	for p := range ports {
		keys = append(keys, p)
	}
	slices.SortFunc(keys, func(x, y network.Port) int {
		return cmp.Or(cmp.Compare(x.Num(), y.Num()), cmp.Compare(x.Proto(), y.Proto()))
	})
	var lines []string
	for _, p := range keys {
		var same []string
		for _, b := range ports[p] {
			same = append(same, fmt.Sprintf("%s -> %s", p, published(b)))
		}
		slices.Sort(same)
		lines = append(lines, same...)
	}
	return lines
}

func published(b network.PortBinding) string {
	ip := ""
	if b.HostIP.IsValid() {
		ip = b.HostIP.String()
	}
	return net.JoinHostPort(ip, b.HostPort)
}

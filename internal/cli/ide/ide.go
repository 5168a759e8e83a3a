// Package ide has the command that lets an editor attach to a debug server in a
// container.
package ide

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	mobymount "github.com/moby/moby/api/types/mount"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

type options struct {
	port uint16
	kind string
	json bool
}

// New returns "ide".
func New(a *command.App) *cobra.Command {
	o := options{}
	cmd := &cobra.Command{
		Use:   "ide [OPTIONS] CONTAINER",
		Short: "Let an editor attach to a debug server in a running container",
		Long: `Find the debug server that listens in a running container (Delve, Node's inspector, debugpy, JDWP,
gdbserver), open its port on the host's loopback address, also if it listens on the container's
127.0.0.1 only, and print the address, which folders of the container are which of the host, and a
configuration for Visual Studio Code's launch.json. The container is not restarted. The port stays
open until it is closed or the container ends.`,
		Args: command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.Uint16Var(&o.port, "port", 0, "Port of the server in the container, if there are several")
	set.StringVar(&o.kind, "kind", "", "Take it for this kind: "+strings.Join(kindNames(), ", "))
	set.BoolVar(&o.json, "json", false, "Print it as JSON")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kindNames(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func kindNames() (names []string) {
	for _, k := range kinds {
		names = append(names, k.name)
	}
	slices.Sort(names)
	return names
}

// attachment is what an editor needs.
type attachment struct {
	Kind    string         `json:"Kind"`
	Pid     int            `json:"Pid,omitempty"` // inside
	Command []string       `json:"Command,omitempty"`
	Port    uint16         `json:"Port"` // inside
	Address string         `json:"Address"`
	Folders []folder       `json:"Folders"`
	Launch  map[string]any `json:"Launch"`
}

func (o *options) run(ctx context.Context, a *command.App, name string) error {
	if _, ok := kindOf(o.kind); o.kind != "" && !ok {
		return fmt.Errorf("unknown kind %q: it is one of %s", o.kind, strings.Join(kindNames(), ", "))
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	info, err := c.ContainerInspect(ctx, name, mobyclient.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	listeners, err := listeners(ctx, c, name)
	if err != nil {
		return err
	}
	found := serverOf(listeners, o.port, o.kind)
	switch {
	case len(found) == 0:
		return o.nothing(name, listeners)
	case len(found) > 1 && o.port == 0 && !sameServer(found):
		var list []string
		for _, s := range found {
			list = append(list, fmt.Sprintf("%s on %d", s.kind, s.port))
		}
		return fmt.Errorf("several debug servers listen in it: %s; choose one with --port", strings.Join(list, ", "))
	}
	s := found[0]
	at, err := openPort(ctx, c, name, s.port)
	if err != nil {
		return err
	}
	shown := strings.TrimPrefix(info.Container.Name, "/")
	var folders []folder
	for _, m := range info.Container.Mounts {
		if m.Type == mobymount.TypeBind {
			folders = append(folders, folder{Container: m.Destination, Host: m.Source})
		}
	}
	if len(folders) == 0 && info.Container.Config != nil && info.Container.Config.WorkingDir != "" {
		folders = []folder{{Container: info.Container.Config.WorkingDir, Host: "${workspaceFolder}"}}
	}
	att := attachment{
		Kind: s.kind, Pid: s.pid, Command: s.args, Port: s.port, Address: hostPort(at.HostIP, at.HostPort), Folders: folders,
		Launch: launch(shown, s.kind, at.HostIP, at.HostPort, folders),
	}
	if o.json {
		enc := json.NewEncoder(a.Out)
		enc.SetIndent("", "    ")
		return enc.Encode(att)
	}
	return tell(a, shown, &att, at.HostPort)
}

// sameServer tells that all listen for one program: by IPv4 and IPv6, or the
// children that a server has forked.
func sameServer(list []server) bool {
	return !slices.ContainsFunc(list, func(s server) bool { return s.port != list[0].port })
}

// nothing tells why there is nothing to attach to.
func (o *options) nothing(name string, listeners []listener) error {
	if len(listeners) == 0 {
		return fmt.Errorf("nothing listens in %s; start the program with its debug server, such as node --inspect, dlv --headless, python -m debugpy, java -agentlib:jdwp or gdbserver", name)
	}
	var list []string
	for _, l := range listeners {
		who := "process"
		if len(l.args) > 0 {
			who = base(l.args)
		}
		list = append(list, fmt.Sprintf("%d (%s)", l.port, command.Visible(who)))
	}
	if o.port != 0 && !slices.ContainsFunc(listeners, func(l listener) bool { return l.port == o.port }) {
		return fmt.Errorf("nobody listens on port %d in %s, only on %s", o.port, name, strings.Join(list, ", "))
	}
	return fmt.Errorf("no debug server is known among what listens in %s: %s; name it with --port and --kind", name, strings.Join(list, ", "))
}

// listeners finds who listens for TCP, with their command lines.
func listeners(ctx context.Context, c *client.Client, name string) ([]listener, error) {
	sockets, err := c.Sockets(ctx, name, false)
	if err != nil {
		return nil, err
	}
	commands, err := commandLines(ctx, c, name)
	if err != nil {
		return nil, err
	}
	var list []listener
	for _, s := range sockets.Sockets {
		port := portOf(s.Local)
		if s.State != "LISTEN" || !strings.HasPrefix(s.Protocol, "tcp") || port == 0 {
			continue
		}
		l := listener{port: port}
		if len(s.Holders) > 0 {
			h := s.Holders[0]
			l.pid, l.hostPid, l.args = h.PID, h.HostPID, commands[h.HostPID]
		}
		list = append(list, l)
	}
	return list, nil
}

// commandLines are those of all processes, by their pids on the host.
func commandLines(ctx context.Context, c *client.Client, name string) (map[int][]string, error) {
	top, err := c.ContainerTop(ctx, name, mobyclient.ContainerTopOptions{Arguments: []string{"-o", "pid,args"}})
	if err != nil {
		return nil, err
	}
	all := map[int][]string{}
	for _, p := range top.Processes {
		const columns = 2
		if len(p) < columns {
			continue
		}
		if pid, err := strconv.Atoi(p[0]); err == nil {
			all[pid] = strings.Fields(p[1])
		}
	}
	return all, nil
}

// openPort opens the port on the host, unless it is; on the same number if that is
// free, which is the one that editors expect.
func openPort(ctx context.Context, c *client.Client, name string, port uint16) (api.Forward, error) {
	want := strconv.Itoa(int(port)) + "/tcp"
	list, err := c.Forwards(ctx, name)
	if err != nil {
		return api.Forward{}, err
	}
	is := func(f api.Forward) bool { return f.Port == want && f.HostIP == "127.0.0.1" }
	if i := slices.IndexFunc(list, is); i >= 0 {
		return list[i], nil
	}
	for _, host := range []uint16{port, 0} {
		if list, err = c.Forward(ctx, name, client.ForwardOptions{HostIP: "127.0.0.1", HostPort: host, Port: want}); err == nil {
			break
		}
	}
	if err != nil {
		return api.Forward{}, err
	}
	slices.Reverse(list) // the new one is the last
	if i := slices.IndexFunc(list, is); i >= 0 {
		return list[i], nil
	}
	return api.Forward{}, errors.New("the port was opened, and is not among those that are open")
}

func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// tell tells people.
func tell(a *command.App, name string, att *attachment, onHost uint16) error {
	text, err := json.MarshalIndent(att.Launch, "", "    ")
	if err != nil {
		return err
	}
	who := att.Kind
	if len(att.Command) > 0 {
		who += ", pid " + strconv.Itoa(att.Pid) + " inside: " + command.Visible(strings.Join(att.Command, " "))
	}
	_, _ = fmt.Fprintf(a.Out, "Server:   %s\nAddress:  %s, until: porthole forward --close %s %d\n", who, att.Address, name, onHost)
	for i, f := range att.Folders {
		head := "          "
		if i == 0 {
			head = "Folders:  "
		}
		_, _ = fmt.Fprintf(a.Out, "%s%s is %s\n", head, command.Visible(f.Container), command.Visible(f.Host))
	}
	_, err = fmt.Fprintf(a.Out, "For \"configurations\" in .vscode/launch.json:\n%s\n", text)
	return err
}

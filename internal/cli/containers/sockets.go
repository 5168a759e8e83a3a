package containers

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

type socketsOptions struct {
	command.ListFlags
	all bool
}

// NewSockets returns "sockets".
func NewSockets(a *command.App) *cobra.Command {
	o := socketsOptions{}
	cmd := &cobra.Command{
		Use:   "sockets [OPTIONS] CONTAINER",
		Short: "List the sockets of a container, with queues, states and who holds them",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "Show those of others in its network, too")
	o.Add(cmd.Flags())
	return command.Common(cmd, 0, "container sockets", "sockets")
}

func (o *socketsOptions) run(ctx context.Context, a *command.App, name string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	found, err := c.Sockets(ctx, name, o.all)
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, found); done {
		return err
	}
	format := o.Or("")
	table := format == formatter.TableFormatKey
	if table {
		format = `table {{.Protocol}}\t{{.State}}\t{{.RecvQ}}\t{{.SendQ}}\t{{.Local}}\t{{.Remote}}\t{{.Process}}`
	}
	rows := make([]formatter.SubContext, len(found.Sockets))
	for n, s := range found.Sockets {
		rows[n] = &socketRow{Socket: s}
	}
	if err := command.WriteRows(a.Out, format, socketHeader(), rows); err != nil || !table {
		return err
	}
	tellRest(a, found.Unknown)
	if found.Others > 0 {
		whose := "in its network"
		if found.Shared != "" {
			whose = "in the network, which is that of " + strings.TrimPrefix(found.Shared, "container:")
		}
		_, _ = fmt.Fprintf(a.Out, "%d more of others %s: porthole sockets --all %s\n", found.Others, whose, name)
	}
	return nil
}

// tellRest prints what could not be found out.
func tellRest(a *command.App, unknown []string) {
	for _, line := range unknown {
		_, _ = fmt.Fprintln(a.Out, "Not known:", command.Visible(line))
	}
}

// socketRow is a socket as templates see it.
type socketRow struct {
	formatter.HeaderContext
	api.Socket
}

func socketHeader() *socketRow {
	return &socketRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"Protocol": "PROTO", "State": "STATE", "RecvQ": "RECV-Q", "SendQ": "SEND-Q", "Local": "LOCAL", "Remote": "REMOTE",
		"Process": "PROCESS", "Inode": "INODE", "RTT": "RTT", "Retransmits": "RETRANS",
	}}}
}

// MarshalJSON is for the format "json".
func (r *socketRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *socketRow) Protocol() string    { return r.Socket.Protocol }
func (r *socketRow) State() string       { return r.Socket.State }
func (r *socketRow) RecvQ() string       { return strconv.FormatUint(uint64(r.RecvQueue), 10) }
func (r *socketRow) SendQ() string       { return strconv.FormatUint(uint64(r.SendQueue), 10) }
func (r *socketRow) Local() string       { return dash(command.Visible(r.Socket.Local)) }
func (r *socketRow) Inode() string       { return strconv.FormatUint(uint64(r.Socket.Inode), 10) }
func (r *socketRow) Retransmits() string { return strconv.FormatUint(uint64(r.Socket.Retransmits), 10) }

// RTT is the round trip time of a connection.
func (r *socketRow) RTT() string {
	if r.RTTMicroseconds == 0 {
		return "-"
	}
	return strconv.FormatFloat(float64(r.RTTMicroseconds)/1000, 'f', 2, 64) + "ms"
}

// Remote is the other end: its address, with the container's name if it is one, or
// the processes at the other end of a unix socket.
func (r *socketRow) Remote() string {
	switch {
	case r.Peer != "":
		return r.Socket.Remote + " (" + r.Peer + ")"
	case len(r.PeerHolders) > 0:
		return holders(r.PeerHolders)
	}
	return dash(r.Socket.Remote)
}

// Process is who holds it.
func (r *socketRow) Process() string { return dash(holders(r.Holders)) }

// fewHolders is what a line has room for.
const fewHolders = 3

// holders names processes by name, pid inside and descriptor.
func holders(list []api.Holder) string {
	var words []string
	for _, h := range list[:min(len(list), fewHolders)] {
		words = append(words, fmt.Sprintf("%s(%d) fd %d", command.Visible(h.Name), h.PID, h.FD))
	}
	if n := len(list) - len(words); n > 0 {
		words = append(words, fmt.Sprintf("%d more", n))
	}
	return strings.Join(words, ", ")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

package networks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/pcap"
)

type dumpOptions struct {
	client.PacketsOptions
	file     string
	absolute bool
}

// NewCapture returns "capture", which is "net dump" at the top level.
func NewCapture(a *command.App) *cobra.Command { return newDump(a, "capture") }

func newDump(a *command.App, name string) *cobra.Command {
	o := dumpOptions{}
	cmd := &cobra.Command{
		Use:   name + " [OPTIONS] CONTAINER|host [FILTER...]",
		Short: "Show or save the packets of a running container",
		Long: `Show the packets of a running container's interfaces, or save them to a file that Wireshark and tcpdump read
(pcapng). Nothing is needed in the container. FILTER is tcpdump's language; a host may be named by its container:

  porthole net dump web
  porthole net dump web tcp port 80 and host db
  porthole net dump -w web.pcap -c 1000 web 'not arp'
  porthole net dump -w - web | wireshark -k -i -`,
		Args: command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Filter = strings.Join(args[1:], " ")
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.StringVarP(&o.file, "write", "w", "", `Save the packets to a file; "-" for the standard output`)
	set.StringVarP(&o.Interface, "interface", "i", "", "Only those of an interface of the container (default all)")
	set.IntVarP(&o.Count, "count", "c", 0, "End after so many packets")
	set.IntVarP(&o.SnapLen, "snapshot-length", "s", 0, "Keep only so many bytes of each packet")
	set.DurationVar(&o.Duration, "for", 0, "End after so long, as in 30s")
	set.BoolVarP(&o.absolute, "absolute-tcp-sequence-numbers", "S", false, "Show TCP's numbers as they are, not from the beginning of a connection")
	return cmd
}

func (o *dumpOptions) run(ctx context.Context, a *command.App, name string) error {
	for flag, n := range map[string]int{"--count": o.Count, "--snapshot-length": o.SnapLen, "--for": int(o.Duration)} {
		if n < 0 {
			return fmt.Errorf("invalid argument: %s must not be negative", flag)
		}
	}
	if o.file == "-" && a.OutIsTerminal() {
		return errors.New("cowardly refusing to write packets to a terminal: name a file, or use a pipe")
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	// The daemon is asked to end, and told so by End: the rest is wanted.
	streaming, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	p, err := c.Packets(streaming, name, o.PacketsOptions)
	if err != nil {
		return err
	}
	defer p.Close()
	stop := context.AfterFunc(ctx, func() {
		p.End()
		time.AfterFunc(endPatience, cancel)
	})
	defer stop()
	if o.file == "" {
		_, _ = fmt.Fprintf(a.Err, "listening on %s of %s, Ctrl-C ends\n", orAll(o.Interface), name)
		return o.read(a, p, func(r *pcap.Reader, t *pcap.Text, packet *pcap.Packet) error {
			_, err := fmt.Fprintln(a.Out, t.Full(r.Interfaces()[packet.Interface], packet))
			return err
		})
	}
	return o.save(a, p)
}

// endPatience is how long the daemon may take to send the rest.
const endPatience = 5 * time.Second

func orAll(name string) string {
	if name == "" {
		return "all interfaces"
	}
	return name
}

// read calls fn with each packet, and tells at the end how many there were.
func (o *dumpOptions) read(a *command.App, in io.Reader, fn func(*pcap.Reader, *pcap.Text, *pcap.Packet) error) error {
	r, err := pcap.NewReader(in)
	if err != nil {
		return fmt.Errorf("read packets: %w", err)
	}
	t := &pcap.Text{Absolute: o.absolute}
	n := 0
	for {
		p, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			summary(a, n, r.Statistics())
			return nil
		case err != nil:
			return fmt.Errorf("read packets: %w (after %d)", err, n)
		}
		if p == nil {
			continue
		}
		n++
		if err := fn(r, t, p); err != nil {
			return err
		}
	}
}

func summary(a *command.App, n int, s pcap.Statistics) {
	what := "packets"
	if n == 1 {
		what = "packet"
	}
	_, _ = fmt.Fprintf(a.Err, "%d %s captured, %d dropped by the kernel\n", n, what, s.Dropped)
}

// save writes the stream to a file as it comes.
func (o *dumpOptions) save(a *command.App, in io.Reader) (err error) {
	out := a.Out
	if o.file != "-" {
		f, err := os.OpenFile(o.file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) // packets hold secrets
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	return o.read(a, io.TeeReader(in, out), func(*pcap.Reader, *pcap.Text, *pcap.Packet) error { return nil })
}

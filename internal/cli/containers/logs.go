package containers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/tty"
)

// NewLogs returns "logs".
func NewLogs(a *command.App) *cobra.Command {
	o := logsOptions{LogsOptions: client.LogsOptions{ContainerLogsOptions: mobyclient.ContainerLogsOptions{ShowStdout: true, ShowStderr: true}}}
	cmd := &cobra.Command{
		Use:   "logs [OPTIONS] CONTAINER",
		Short: "Fetch the logs of a container",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.print(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Any),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	o.followFlag(set)
	set.StringVar(&o.Since, "since", "",
		`Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	set.StringVar(&o.Until, "until", "",
		`Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	set.BoolVarP(&o.Timestamps, "timestamps", "t", false, "Show timestamps")
	set.BoolVar(&o.Details, "details", false, "Show extra details provided to logs")
	set.StringVarP(&o.Tail, "tail", "n", "all", "Number of lines to show from the end of the logs")
	set.StringVar(&o.stream, "stream", "", "Show the stream of this `name` only: stdout, stderr")
	set.StringVar(&o.Grep, "grep", "", "Show only lines that match a regular expression (RE2)")
	set.IntVar(&o.Run, "run", 0, "Show only what the run of this number has written")
	set.BoolVar(&o.json, "json", false, "Print each line as JSON, for machines")
	return command.Common(cmd, 0, "container logs", "logs")
}

type logsOptions struct {
	client.LogsOptions
	stream string
	json   bool
}

// followFlag is Docker's, with one more value than yes and no.
func (o *logsOptions) followFlag(set *pflag.FlagSet) {
	set.BoolFuncP("follow", "f", `Follow log output ("always": over restarts, too)`, func(value string) error {
		switch strings.ToLower(value) {
		case "always":
			o.Follow, o.Always = true, true
		case "true", "t", "1":
			o.Follow, o.Always = true, false
		case "false", "f", "0":
			o.Follow, o.Always = false, false
		default:
			return fmt.Errorf("%q is neither true nor false nor always", value)
		}
		return nil
	})
}

// ours tells whether something is wanted that Docker's endpoint does not have.
func (o *logsOptions) ours() bool {
	return o.Always || o.stream != "" || o.Grep != "" || o.Run != 0 || o.json
}

func (o *logsOptions) print(ctx context.Context, a *command.App, name string) error {
	switch o.stream {
	case "":
	case "stdout":
		o.ShowStderr = false
	case "stderr":
		o.ShowStdout = false
	default:
		return fmt.Errorf(`invalid value for --stream: %q is neither "stdout" nor "stderr"`, o.stream)
	}
	if o.Run < 0 {
		return fmt.Errorf("invalid value for --run: %d: runs are numbered from 1", o.Run)
	}
	if o.Follow || o.ours() {
		err := o.own(ctx, a, name)
		if !errors.Is(err, client.ErrNotPorthole) {
			return err
		}
		if o.ours() {
			return fmt.Errorf("--follow=always, --stream, --grep, --run and --json: %w", err)
		}
	}
	err := printLogs(ctx, a, name, o.ContainerLogsOptions)
	if errdefs.IsNotFound(err) {
		// Steps of builds are no containers, but have logs.
		if own := o.own(ctx, a, name); !errors.Is(own, client.ErrNotPorthole) {
			return own
		}
	}
	return err
}

func printLogs(ctx context.Context, a *command.App, name string, o mobyclient.ContainerLogsOptions) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	info, err := c.ContainerInspect(ctx, name, mobyclient.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	stream, err := c.ContainerLogs(ctx, info.Container.ID, o)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	if info.Container.Config.Tty {
		_, err = io.Copy(a.Out, stream)
		return err
	}
	return tty.Demux(a.Out, a.Err, stream)
}

const (
	// daemonPatience is how long a follower waits for a daemon that has gone away.
	daemonPatience = 5 * time.Minute
	// daemonKnock is how often it tries.
	daemonKnock = 200 * time.Millisecond
)

// own prints what Porthole's endpoint gives. While it follows, it survives the
// daemon: the container goes on meanwhile, and so does its log.
func (o *logsOptions) own(ctx context.Context, a *command.App, name string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	p := &logPrinter{o: o, out: bufio.NewWriterSize(a.Out, 64<<10), err: a.Err}
	o.Idle = p.flush
	for {
		err := p.follow(ctx, c, name)
		p.flush()
		if !o.Follow || !p.begun || ctx.Err() != nil || !client.IsGone(err) {
			return err
		}
		if p.away.IsZero() {
			p.away = time.Now()
			fmt.Fprintln(a.Err, "porthole: the daemon has gone away; the log goes on when it is back")
		}
		if time.Since(p.away) > daemonPatience {
			return err
		}
		select {
		case <-time.After(daemonKnock):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// logPrinter prints frames and keeps in mind how far it has come.
type logPrinter struct {
	o   *logsOptions
	out *bufio.Writer // stdout
	err io.Writer

	begun bool      // the daemon has told the place in the log
	away  time.Time // since when there is no daemon; zero: there is one
	open  [3]uint64 // bytes of each stream's unfinished line
}

func (p *logPrinter) flush() {
	_ = p.out.Flush() // a broken pipe shows at the next write
}

// follow prints until the log has ended or the daemon has gone away.
func (p *logPrinter) follow(ctx context.Context, c *client.Client, name string) error {
	o := p.o.LogsOptions
	if p.begun {
		// The rest of what was asked for: the lines behind the last one.
		o.Tail, o.Since = "all", ""
		o.OpenStdout, o.OpenStderr = p.open[1], p.open[2]
	}
	if p.o.json {
		return c.LogLines(ctx, name, o, func(raw []byte, line api.LogLine) error {
			p.reached(line.Number)
			if line.Stream == "" && !line.Gap() {
				return nil // tells the place only
			}
			_, err := p.out.Write(append(raw, '\n'))
			if p.o.Follow {
				p.flush()
			}
			return err
		})
	}
	return c.Logs(ctx, name, o, p.frame)
}

// reached notes that the daemon has told the place in the log.
func (p *logPrinter) reached(number uint64) {
	if !p.away.IsZero() {
		fmt.Fprintln(p.err, "porthole: the daemon is back")
		p.away = time.Time{}
	}
	p.begun, p.o.After = true, max(p.o.After, number)
}

func (p *logPrinter) frame(f client.LogFrame) error {
	p.reached(f.Number)
	if f.Notice != nil {
		if !f.Notice.Gap() {
			return nil
		}
		p.flush()
		_, err := fmt.Fprintf(p.err, "porthole: %s\n", f.Notice)
		return err
	}
	if bytes.HasSuffix(f.Text, []byte{'\n'}) {
		p.open[f.Stream] = 0
	} else {
		p.open[f.Stream] += uint64(len(p.content(f)))
	}
	if f.Stream == 1 {
		_, err := p.out.Write(f.Text)
		return err
	}
	p.flush() // in the order of the log
	_, err := p.err.Write(f.Text)
	return err
}

// content is the text of a frame without the time and the details.
func (p *logPrinter) content(f client.LogFrame) []byte {
	text := f.Text
	if f.Continued {
		return text
	}
	for _, prefix := range []bool{p.o.Timestamps, p.o.Details} {
		if prefix {
			_, text, _ = bytes.Cut(text, []byte{' '})
		}
	}
	return text
}

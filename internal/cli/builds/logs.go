package builds

import (
	"bufio"
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

type logsOptions struct {
	which
	step               int
	follow, timestamps bool
	tail, grep         string
	out                *bufio.Writer
	printed            int // frames of logs
}

func newLogs(a *command.App) *cobra.Command {
	o := logsOptions{}
	cmd := &cobra.Command{
		Use:   "logs [OPTIONS] [BUILD]",
		Short: "Show what the steps of a build have printed, whole",
		Args:  command.MaxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := o.of(args)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("step") && o.step < 1 {
				return fmt.Errorf("invalid value for --step: %d: steps are numbered from 1", o.step)
			}
			return o.run(cmd.Context(), a, ref)
		},
		ValidArgsFunction:     a.CompleteBuilds(1),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	o.add(cmd)
	set.IntVar(&o.step, "step", 0, "Only the step of this number")
	set.BoolVarP(&o.follow, "follow", "f", false, "Follow a build that runs: steps as they come, or the one of --step")
	set.BoolVarP(&o.timestamps, "timestamps", "t", false, "Show timestamps")
	set.StringVarP(&o.tail, "tail", "n", "all", "Number of lines to show from the end of each step")
	set.StringVar(&o.grep, "grep", "", "Show only lines that match a regular expression (RE2)")
	return cmd
}

func (o *logsOptions) run(ctx context.Context, a *command.App, ref string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	b, err := c.Build(ctx, ref)
	if err != nil {
		return err
	}
	o.out = bufio.NewWriterSize(a.Out, 64<<10)
	defer o.out.Flush()
	switch {
	case o.step > 0:
		if o.follow {
			if b, err = o.awaitStep(ctx, c, b); err != nil {
				return err
			}
		}
		s := b.Step(o.step)
		if s == nil {
			return fmt.Errorf("build %s has no step %d: it has %d", b.ID, o.step, b.Total)
		}
		if s.State == api.BuildRunning && o.follow {
			_, err = o.toEnd(ctx, a, c, &b, s)
			return err
		}
		return o.one(ctx, a, c, s)
	case o.follow:
		return o.followBuild(ctx, a, c, b)
	}
	for i := range b.Steps {
		s := &b.Steps[i]
		if s.Number == 0 {
			continue
		}
		if err := o.section(ctx, a, c, s); err != nil {
			return err
		}
	}
	return o.end(&b)
}

// end prints how a build that has failed did.
func (o *logsOptions) end(b *api.Build) (err error) {
	if b.Error != "" {
		_, err = fmt.Fprintf(o.out, "ERROR: %s\n", command.VisibleText(b.Error))
	}
	return err
}

// section prints a step with a head, as BuildKit's plain progress has it.
func (o *logsOptions) section(ctx context.Context, a *command.App, c *client.Client, s *api.BuildStep) error {
	_, _ = fmt.Fprintf(o.out, "#%d %s: %s\n", s.Number, command.Visible(title(s)), outcome(s))
	if s.Process != "" {
		if err := o.one(ctx, a, c, s); err != nil {
			return err
		}
	}
	return o.failure(s)
}

// outcome is what has become of a step, or that it runs.
func outcome(s *api.BuildStep) string {
	if s.State == api.BuildDone {
		return "done " + duration(s.Took())
	}
	return s.State
}

// failure prints why a step has failed, if it has, and a line between steps.
func (o *logsOptions) failure(s *api.BuildStep) error {
	if s.Error != "" && s.State != api.BuildCanceled {
		_, _ = fmt.Fprintf(o.out, "#%d ERROR: %s\n", s.Number, command.VisibleText(s.Error))
	}
	_, err := fmt.Fprintln(o.out)
	return err
}

// one prints what one step has printed.
func (o *logsOptions) one(ctx context.Context, a *command.App, c *client.Client, s *api.BuildStep) error {
	if s.Process == "" {
		o.flush()
		_, err := fmt.Fprintf(a.Err, "porthole: step %d has printed nothing: %s\n", s.Number, noOutput(s))
		return err
	}
	options := client.LogsOptions{
		ContainerLogsOptions: mobyclient.ContainerLogsOptions{
			ShowStdout: true, ShowStderr: true, Timestamps: o.timestamps, Tail: o.tail, Follow: o.follow,
		},
		Grep: o.grep, Idle: o.flush,
	}
	err := c.Logs(ctx, s.Process, options, func(f client.LogFrame) error {
		o.printed++
		if f.Notice != nil {
			if !f.Notice.Gap() {
				return nil
			}
			o.flush()
			_, err := fmt.Fprintf(a.Err, "porthole: %s\n", f.Notice)
			return err
		}
		_, err := o.out.Write(f.Text)
		return err
	})
	if errdefs.IsNotFound(err) && s.State == api.BuildRunning {
		return nil // it is about to begin
	}
	if errdefs.IsNotFound(err) {
		o.flush()
		_, err = fmt.Fprintf(a.Err, "porthole: the log of step %d is no longer kept\n", s.Number)
	}
	return err
}

func (o *logsOptions) flush() { _ = o.out.Flush() } // a broken pipe shows at the next write

// noOutput tells why there is none.
func noOutput(s *api.BuildStep) string {
	switch {
	case s.State == api.StepCached:
		return "its result was in the cache"
	case !s.Runs:
		return "it runs no process"
	case s.State == api.StepWaiting, s.State == api.BuildRunning:
		return "it has not begun yet"
	}
	return "it did not run"
}

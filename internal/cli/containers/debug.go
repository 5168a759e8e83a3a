package containers

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/opts"
	"github.com/docker/go-units"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

type debugOptions struct {
	api.DebugRequest
	interactive, tty bool
	env, envFile     opts.ListOpts

	list   bool
	output command.ListFlags
}

// NewDebug returns "debug".
func NewDebug(a *command.App) *cobra.Command {
	o := debugOptions{env: opts.NewListOpts(opts.ValidateEnv), envFile: opts.NewListOpts(nil)}
	cmd := &cobra.Command{
		Use:   "debug [OPTIONS] CONTAINER|IMAGE [-- COMMAND [ARG...]]",
		Short: "Open a shell with tools in a container or image, whatever it has itself",
		Args: func(cmd *cobra.Command, args []string) error {
			if o.list {
				return command.NoArgs(cmd, args)
			}
			return command.MinArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.list {
				return o.sessions(cmd.Context(), a)
			}
			o.Target, o.Command = args[0], args[1:]
			if len(o.Command) > 0 && o.Command[0] == "--" {
				o.Command = o.Command[1:]
			}
			return o.run(cmd.Context(), a, cmd.Flags())
		},
		ValidArgsFunction:     completeDebug(a),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.SetInterspersed(false)
	set.BoolVarP(&o.interactive, "interactive", "i", false, "Keep STDIN open; the default without COMMAND, or on a terminal")
	set.BoolVarP(&o.tty, "tty", "t", false, "Allocate a pseudo-TTY; the default on a terminal")
	set.StringVarP(&o.User, "user", "u", "", `Username or UID (format: "<name|uid>[:<group|gid>]")`)
	set.BoolVar(&o.Root, "root", false, "Be root in the container, whoever its processes are")
	set.BoolVar(&o.AsTarget, "as-target", false, "Have exactly the rights of the container's own processes, and be among them, as with --pid")
	set.BoolVar(&o.Privileged, "privileged", false, "Be root with all capabilities")
	set.VarP(&o.env, "env", "e", "Set environment variables")
	set.Var(&o.envFile, "env-file", "Read in a file of environment variables")
	set.StringVarP(&o.WorkingDir, "workdir", "w", "", "Working directory inside the container")
	set.BoolVar(&o.Live, "live", false, "Write to the container's own files; the default while it runs")
	set.BoolVar(&o.Discard, "discard", false, "Write to a copy that is discarded; the default otherwise")
	set.BoolVar(&o.JoinPID, "pid", false, "Be among the container's processes, which then see the session")
	set.StringVar(&o.Toolbox, "toolbox", "", "Put the programs of this image before the tools; it is mounted read-only at $PORTHOLE_TOOLBOX")
	set.BoolVar(&o.list, "list", false, "List the sessions that run")
	o.output.AddJSON(set)
	_ = cmd.RegisterFlagCompletionFunc("toolbox", a.CompleteImages(-1))
	return command.Common(cmd, 0, "container debug", "debug")
}

// completeDebug completes containers, then images.
func completeDebug(a *command.App) cobra.CompletionFunc {
	containers, images := a.CompleteContainers(1, command.Any), a.CompleteImages(1)
	return func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
		names, directive := containers(cmd, args, part)
		more, _ := images(cmd, args, part)
		return append(names, more...), directive
	}
}

func (o *debugOptions) run(ctx context.Context, a *command.App, flags *pflag.FlagSet) error {
	terminal := a.InIsTerminal() && a.OutIsTerminal()
	if !flags.Changed("tty") {
		o.tty = terminal
	}
	if !flags.Changed("interactive") {
		o.interactive = o.tty || len(o.Command) == 0
	}
	o.TTY, o.Stdin = o.tty, o.interactive
	if err := a.Check(o.Stdin, o.TTY); err != nil {
		return err
	}
	var err error
	if o.Env, err = opts.ReadKVEnvStrings(o.envFile.GetSlice(), o.env.GetSlice()); err != nil {
		return err
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	session, err := c.Debug(ctx, o.DebugRequest)
	if err != nil {
		return err
	}
	o.begin(a, &session)
	req := mobyclient.ExecCreateOptions{TTY: o.TTY, AttachStdin: o.Stdin, AttachStdout: true, AttachStderr: true}
	if req.TTY {
		req.ConsoleSize.Height, req.ConsoleSize.Width = a.Size()
	}
	if err := execStreams(ctx, a, c, session.ID, req, nil); err != nil {
		return err
	}
	return errors.Join(o.end(ctx, a, c, session.ID), execExit(ctx, a, c, session.ID))
}

// begin says where one is. Who runs a command and reads its output is told only
// what is not as expected.
func (o *debugOptions) begin(a *command.App, s *api.DebugSession) {
	if o.TTY {
		_, _ = fmt.Fprintf(a.Err, "%s as %s: %s\n", debugTarget(s), visible(s.User), debugWrites(s))
	}
	for _, note := range s.Notes {
		_, _ = fmt.Fprintln(a.Err, "note:", visible(note))
	}
}

func debugTarget(s *api.DebugSession) string {
	if s.State == "image" {
		return "image " + s.Name
	}
	return "container " + s.Name + " (" + s.State + ")"
}

func debugWrites(s *api.DebugSession) string {
	if s.Writes == "live" {
		return "its own files, what you change stays changed"
	}
	return "a copy of its files, what you change is discarded"
}

// end lists what was changed in vain.
func (o *debugOptions) end(ctx context.Context, a *command.App, c *client.Client, id string) error {
	s, err := c.DebugSession(ctx, id)
	if err != nil || s.Changed == 0 {
		return err
	}
	_, _ = fmt.Fprintf(a.Err, "Discarded changes (%d):\n", s.Changed)
	for _, line := range s.Changes[:min(len(s.Changes), shownChanges)] {
		_, _ = fmt.Fprintln(a.Err, "  "+visible(line))
	}
	if more := s.Changed - shownChanges; more > 0 {
		_, _ = fmt.Fprintf(a.Err, "  and %d more\n", more)
	}
	return nil
}

// shownChanges is how many changes are told at the end of a session.
const shownChanges = 20

func (o *debugOptions) sessions(ctx context.Context, a *command.App) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	list, err := c.DebugSessions(ctx)
	if err != nil {
		return err
	}
	if done, err := o.output.JSON(a.Out, list); done {
		return err
	}
	w := tabwriter.NewWriter(a.Out, 10, 1, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "SESSION ID\tTARGET\tSTATE\tWRITES\tPID\tUSER\tCOMMAND\tSTARTED\tCLIENT")
	for _, s := range list {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", formatter.TruncateID(s.ID), s.Name, s.State, s.Writes, s.PID, visible(s.User),
			execCommand(s.Command), units.HumanDuration(time.Since(s.StartedAt))+" ago", execClient(&api.Exec{Client: s.Client, Attached: true}))
	}
	return w.Flush()
}

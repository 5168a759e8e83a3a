package containers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/tty"
)

type startOptions struct {
	attach, interactive bool
	detachKeys          string
	once                onceOptions
	options             mobyclient.ContainerStartOptions
}

// NewStart returns "start".
func NewStart(a *command.App) *cobra.Command {
	var o startOptions
	cmd := &cobra.Command{
		Use:   "start [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Start one or more stopped containers",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args)
		},
		ValidArgsFunction:     a.CompleteContainers(-1, command.Stopped),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.attach, "attach", "a", false, "Attach STDOUT/STDERR and forward signals")
	set.BoolVarP(&o.interactive, "interactive", "i", false, "Attach container's STDIN")
	set.StringVar(&o.detachKeys, "detach-keys", "", "Override the key sequence for detaching a container")
	o.once.add(set)
	set.StringVar(&o.options.CheckpointID, "checkpoint", "", "Restore from this checkpoint")
	set.StringVar(&o.options.CheckpointDir, "checkpoint-dir", "", "Use a custom checkpoint storage directory")
	set.Lookup("checkpoint").Hidden, set.Lookup("checkpoint-dir").Hidden = true, true
	return command.Common(cmd, 0, "container start", "start")
}

func (o *startOptions) run(ctx context.Context, a *command.App, names []string) error {
	keys, err := detachKeys(a, o.detachKeys)
	if err != nil {
		return err
	}
	if err := o.once.check(names); err != nil {
		return err
	}
	attached := o.attach || o.interactive || o.once.once
	switch {
	case len(names) == 1 && attached:
		return o.runAttached(ctx, a, names[0], keys)
	case attached:
		return errors.New("you cannot start and attach multiple containers at once")
	case len(names) > 1 && o.options.CheckpointID != "":
		return errors.New("you cannot restore multiple containers at once")
	}
	return o.runDetached(ctx, a, names)
}

func (o *startOptions) runDetached(ctx context.Context, a *command.App, names []string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	var failed []string
	for _, name := range names {
		if _, err := c.ContainerStart(ctx, name, o.options); err != nil {
			a.Report(err)
			failed = append(failed, name)
			continue
		}
		_, _ = fmt.Fprintln(a.Out, name)
	}
	if len(failed) > 0 {
		return fmt.Errorf("failed to start containers: %s", strings.Join(failed, ", "))
	}
	return nil
}

func (o *startOptions) runAttached(ctx context.Context, a *command.App, name, keys string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	info, err := c.ContainerInspect(ctx, name, mobyclient.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	ctr := info.Container
	start := func(ctx context.Context) error {
		_, err := c.ContainerStart(ctx, ctr.ID, o.options)
		return err
	}
	if o.once.once {
		if start, err = o.once.prepare(ctx, a, c, &ctr, o.interactive); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !ctr.Config.Tty {
		defer forwardSignals(ctx, a, c, ctr.ID, nil)()
		// The signals go to the container, so they do not end the waiting.
		ctx, cancel = context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
	}
	at, err := attach(ctx, a, c, ctr.ID, ctr.Config.Tty, mobyclient.ContainerAttachOptions{
		Stream: true, Stdin: o.interactive && ctr.Config.OpenStdin, Stdout: true, Stderr: true, DetachKeys: keys,
	})
	if err != nil {
		return err
	}
	defer at.close()
	exited := waitForExit(ctx, a, c, ctr.ID, ctr.HostConfig.AutoRemove)
	if err := start(ctx); err != nil {
		cancel()
		at.finish(a)
		return err
	}
	if ctr.Config.Tty && a.OutIsTerminal() {
		followSize(ctx, a, c, ctr.ID)
	}
	if err := <-at.done; err != nil {
		if errors.Is(err, tty.ErrDetached) {
			return nil
		}
		return err
	}
	return command.Exit(<-exited)
}

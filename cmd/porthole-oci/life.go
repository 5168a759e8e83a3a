package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/oci"
)

func (a *app) create() *cobra.Command {
	var o oci.CreateOptions
	cmd := a.withID("create", "Make a container, whose process waits for start", func(rt *oci.Runtime, id string) error {
		return rt.Create(id, o)
	})
	f := cmd.Flags()
	f.StringVarP(&o.Bundle, "bundle", "b", ".", "directory of the bundle")
	f.StringVar(&o.PIDFile, "pid-file", "", "file that gets the process's pid")
	f.StringVar(&o.ConsoleSocket, "console-socket", "", "unix socket that gets the master of the terminal")
	f.IntVar(&o.PreserveFDs, "preserve-fds", 0, "how many descriptors, from 3 on, the process gets")
	f.BoolVar(&o.NoPivot, "no-pivot", false, "refused: a root is always pivoted into")
	f.BoolVar(&o.NoNewKeyring, "no-new-keyring", false, "refused: a container has a session keyring of its own")
	return cmd
}

func (a *app) start() *cobra.Command {
	return a.withID("start", "Have a created container run its program", (*oci.Runtime).Start)
}

func (a *app) state() *cobra.Command {
	return a.withID("state", "Print a container's state as JSON", func(rt *oci.Runtime, id string) error {
		s, err := rt.State(id)
		if err != nil {
			return err
		}
		return printJSON(os.Stdout, s)
	})
}

func (a *app) kill() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "kill CONTAINER [SIGNAL]", Short: "Send a signal to a container's process, TERM if none is given",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			rt, err := a.runtime()
			if err != nil {
				return err
			}
			sig, err := oci.ParseSignal(append(args, "TERM")[1])
			if err != nil {
				return err
			}
			return rt.Kill(args[0], sig, all)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "send it to all processes of the container")
	return cmd
}

func (a *app) remove() *cobra.Command {
	var force bool
	cmd := a.withID("delete", "Remove a container that has stopped", func(rt *oci.Runtime, id string) error {
		return rt.Delete(id, force)
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill it first, if it runs; none is no error")
	return cmd
}

func (a *app) pause() *cobra.Command {
	return a.withID("pause", "Stop all processes of a container", (*oci.Runtime).Pause)
}

func (a *app) resume() *cobra.Command {
	return a.withID("resume", "Let a paused container go on", (*oci.Runtime).Resume)
}

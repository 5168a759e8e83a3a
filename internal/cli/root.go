// Package cli is Porthole's command line: the table of its commands and the
// way from their errors to an exit code.
//
// The command line is a client like any other: it speaks the Docker Engine
// API through package client and knows nothing of the daemon's insides. It
// works with every daemon that speaks that API, and its commands, flags,
// columns, templates and exit codes are Docker's.
package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/containers"
	"github.com/portholehq/porthole/internal/cli/images"
	"github.com/portholehq/porthole/internal/cli/networks"
	"github.com/portholehq/porthole/internal/cli/system"
	"github.com/portholehq/porthole/internal/cli/volumes"
)

// verb makes the command of a verb.
type verb func(*command.App) *cobra.Command

// verbs returns the commands at the top level. Those that work on one kind of
// object stand in the group of that kind as well, see [groups].
func verbs(b system.Build) []verb {
	return []verb{
		containers.NewRun, containers.NewExec, containers.NewPs,
		images.NewPull, images.NewPush, images.NewImages,
		system.NewLogin, system.NewLogout, images.NewSearch, system.NewVersion(b), system.NewInfo(b),

		containers.NewAttach, containers.NewCommit, containers.NewCreate, containers.NewDiff,
		system.NewEvents, containers.NewExport, images.NewHistory, images.NewImport, system.NewInspect,
		containers.NewKill, images.NewLoad, containers.NewLogs, containers.NewPause, containers.NewPort,
		containers.NewRename, containers.NewRestart, containers.NewRm, images.NewRmi, images.NewSave,
		containers.NewStart, containers.NewStats, containers.NewStop, images.NewTag, containers.NewTop,
		containers.NewUnpause, containers.NewUpdate, containers.NewWait,

		newBuild,
	}
}

// groups returns the commands that hold others.
func groups(b system.Build) []verb {
	return []verb{containers.NewGroup, images.NewGroup, networks.NewGroup, volumes.NewGroup, system.NewGroup(b)}
}

// newRoot returns the command of the program itself.
func newRoot(a *command.App, b system.Build) *cobra.Command {
	root := &cobra.Command{
		Use:                   "porthole [OPTIONS] COMMAND [ARG...]",
		Short:                 "A container engine that is built to be looked into",
		SilenceUsage:          true,
		SilenceErrors:         true,
		TraverseChildren:      true,
		DisableFlagsInUseLine: true,
		Version:               b.Version + ", build " + b.Commit,
		Args:                  func(*cobra.Command, []string) error { return nil },
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return fmt.Errorf("porthole: unknown command: porthole %s\n\nRun 'porthole --help' for more information", args[0])
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.Global.Check(cmd.Root().Flags()); err != nil {
				return err
			}
			a.Log = a.Global.Logger(a.Err)
			return nil
		},
		CompletionOptions: cobra.CompletionOptions{DisableDescriptions: true, HiddenDefaultCmd: true},
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetVersionTemplate("Porthole version {{.Version}}\n")
	root.SetFlagErrorFunc(command.FlagError)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { _ = command.WriteHelp(cmd.OutOrStdout(), a, cmd) })
	root.SetUsageFunc(func(cmd *cobra.Command) error { return command.WriteHelp(cmd.OutOrStderr(), a, cmd) })
	root.SetHelpCommand(newHelp())

	a.Global.AddFlags(root.Flags())
	root.Flags().BoolP("version", "v", false, "Print version information and quit")
	root.PersistentFlags().BoolP("help", "h", false, "Print usage")
	_ = root.PersistentFlags().MarkShorthandDeprecated("help", "use --help")
	root.PersistentFlags().Lookup("help").Hidden = true

	for _, list := range [][]verb{verbs(b), groups(b)} {
		for _, v := range list {
			root.AddCommand(v(a))
		}
	}
	return root
}

// newHelp returns "help", which shows the help of another command.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Help about the command",
		// Help needs no valid global flags.
		PersistentPreRun: func(*cobra.Command, []string) {},
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := cmd.Root().Find(args)
			if err != nil || topic == nil || len(rest) > 0 {
				return fmt.Errorf("unknown help topic: %v", joinWords(rest, args))
			}
			return topic.Help()
		},
	}
}

// newBuild tells that there is no builder, rather than not to know the word.
func newBuild(*command.App) *cobra.Command {
	return &cobra.Command{
		Use:                "build [OPTIONS] PATH | URL | -",
		Short:              "Build an image from a Dockerfile",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return fmt.Errorf("build is not supported by this version of porthole: build elsewhere and use 'porthole load'")
		},
	}
}

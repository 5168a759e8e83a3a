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
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/containers"
	"github.com/portholehq/porthole/internal/cli/dap"
	"github.com/portholehq/porthole/internal/cli/ide"
	"github.com/portholehq/porthole/internal/cli/images"
	"github.com/portholehq/porthole/internal/cli/networks"
	"github.com/portholehq/porthole/internal/cli/system"
	"github.com/portholehq/porthole/internal/cli/tty"
	"github.com/portholehq/porthole/internal/cli/volumes"
)

// verb is a command at the top level.
type verb struct {
	name string
	new  func(*command.App) *cobra.Command
}

// verbs returns the commands at the top level: those that work on one kind of
// object stand in the group of that kind as well.
func verbs(b system.Build) []verb {
	return []verb{
		{"run", containers.NewRun},
		{"exec", containers.NewExec},
		{"ps", containers.NewPs},
		{"build", images.NewBuild},
		{"pull", images.NewPull},
		{"push", images.NewPush},
		{"images", images.NewImages},
		{"login", system.NewLogin},
		{"logout", system.NewLogout},
		{"search", images.NewSearch},
		{"version", system.NewVersion(b)},
		{"info", system.NewInfo(b)},

		{"attach", containers.NewAttach},
		{"capture", networks.NewCapture},
		{"commit", containers.NewCommit},
		{"compare", system.NewCompare},
		{"core", containers.NewCore},
		{"cp", containers.NewCp},
		{"create", containers.NewCreate},
		{"dap", dap.New},
		{"deaths", containers.NewDeaths},
		{"debug", containers.NewDebug},
		{"diff", containers.NewDiff},
		{"events", system.NewEvents},
		{"export", containers.NewExport},
		{"files", containers.NewFiles},
		{"health", containers.NewHealth},
		{"forward", networks.NewForward},
		{"history", images.NewHistory},
		{"ide", ide.New},
		{"import", images.NewImport},
		{"inspect", system.NewInspect},
		{"kill", containers.NewKill},
		{"load", images.NewLoad},
		{"logs", containers.NewLogs},
		{"mount", containers.NewMount},
		{"mounts", containers.NewMounts},
		{"pause", containers.NewPause},
		{"port", containers.NewPort},
		{"rename", containers.NewRename},
		{"restart", containers.NewRestart},
		{"rm", containers.NewRm},
		{"rmi", images.NewRmi},
		{"save", images.NewSave},
		{"sockets", containers.NewSockets},
		{"start", containers.NewStart},
		{"stats", containers.NewStats},
		{"stop", containers.NewStop},
		{"tag", images.NewTag},
		{"timeline", containers.NewTimeline},
		{"top", containers.NewTop},
		{"trace", containers.NewTrace},
		{"unpause", containers.NewUnpause},
		{"update", containers.NewUpdate},
		{"wait", containers.NewWait},
		{"watch", containers.NewWatch},
		{"whois", system.NewWhois},
		{"why", containers.NewWhy},

		{"container", containers.NewGroup},
		{"builder", images.NewBuilderGroup},
		{"image", images.NewGroup},
		{"network", networks.NewGroup},
		{"net", networks.NewNet},
		{"volume", volumes.NewGroup},
		{"system", system.NewGroup(b)},
	}
}

// addVerbs adds to root the verb that args name, or all of them when args
// name none: for help, completion and the unknown. To make a command costs
// little, to make all of them half of what a quick command takes.
func addVerbs(root *cobra.Command, a *command.App, b system.Build, args []string) {
	all := verbs(b)
	name := firstWord(root, args)
	for _, v := range all {
		if v.name == name {
			root.AddCommand(v.new(a))
			return
		}
	}
	for _, v := range all {
		root.AddCommand(v.new(a))
	}
}

// firstWord returns the first argument that is not a flag of root.
func firstWord(root *cobra.Command, args []string) string {
	if rest := behindFlags(root, args); len(rest) > 0 {
		return rest[0]
	}
	return ""
}

// behindFlags returns the arguments behind the flags of root; none if these are
// wrong.
func behindFlags(root *cobra.Command, args []string) []string {
	set := pflag.NewFlagSet(root.Name(), pflag.ContinueOnError)
	set.SetInterspersed(false)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	// Parsed for real later; here the values go nowhere.
	root.Flags().VisitAll(func(f *pflag.Flag) {
		ignored := *f
		ignored.Value = discard{f.Value.Type()}
		set.AddFlag(&ignored)
	})
	if err := set.Parse(args); err != nil {
		return nil
	}
	return set.Args()
}

// discard takes any value of a flag.
type discard struct{ kind string }

func (discard) String() string   { return "" }
func (discard) Set(string) error { return nil }
func (d discard) Type() string   { return d.kind }

// Tree returns the program's command with all others below it, for those that
// describe them. Defaults that the environment sets are as it is now.
func Tree() *cobra.Command {
	return newRoot(command.New(tty.New(strings.NewReader(""), io.Discard, io.Discard)), system.Build{}, nil)
}

// newRoot returns the command of the program itself, ready to run args.
func newRoot(a *command.App, b system.Build, args []string) *cobra.Command {
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

	addVerbs(root, a, b, args)
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

package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

type traceOptions struct {
	client.TraceOptions
	output string
}

// traceViews are the words that may stand in front of the container.
var traceViews = []string{"calls", "dns", "exec", "open", "signal", "tcp"}

// NewTrace returns "trace".
func NewTrace(a *command.App) *cobra.Command {
	o := traceOptions{}
	cmd := &cobra.Command{
		Use:   "trace [OPTIONS] [calls|dns|exec|open|signal|tcp] CONTAINER",
		Short: "Follow the system calls, programs, signals, connections or name queries of a running container, or tell of the last ones",
		Long: `Follow what all processes of a running container do, from outside: nothing in it is stopped or changed.

  porthole trace web                        all system calls, as strace prints them
  porthole trace -e openat,connect web      only these
  porthole trace --failed web               only those that fail, and those that seccomp refuses
  porthole trace --slow 10ms web            only those that take so long
  porthole trace --summary --for 10s web    how often each is called, and how long that takes
  porthole trace exec web                   programs that begin and end
  porthole trace open web                   files that are opened
  porthole trace signal web                 signals, and who sends them
  porthole trace tcp web                    connections
  porthole trace dns web                    names that are looked up, whom that asks, and what it gets
  porthole trace dns --failed web           only those without an answer, or with an error

Of a container that was started with --blackbox its last 4,096 system calls, programs, ends and signals are kept, and
can be shown after its end as well, also if it was removed:

  porthole trace --last 5s web              what it did in the 5 s before its end, or before now if it runs
  porthole trace --last 1h --failed web     what failed
  porthole trace --run 2 -n 50 web          the last 50 of its second run

The time in front of a line is when it began; [PID] is as in the container. Ctrl-C ends.`,
		Args: command.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				o.View = args[0]
			}
			o.Box = cmd.Flags().Changed("last") || cmd.Flags().Changed("run")
			return o.run(cmd.Context(), a, args[len(args)-1])
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
			names, how := a.CompleteContainers(1, command.Running)(cmd, nil, start)
			if len(args) == 0 {
				return append(slices.Clone(traceViews), names...), how
			}
			if len(args) == 1 && slices.Contains(traceViews, args[0]) {
				return names, how
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.StringSliceVarP(&o.Calls, "expr", "e", nil, "Only these system calls, as in openat,connect")
	set.BoolVar(&o.Failed, "failed", false, "Only system calls, or name queries, that fail")
	set.DurationVar(&o.Slow, "slow", 0, "Only system calls, or name queries, that take so long, as in 10ms")
	set.BoolVarP(&o.Summary, "summary", "c", false, "Count system calls, and print a table at the end")
	set.IntVarP(&o.Count, "count", "n", 0, "End after so many lines")
	set.DurationVar(&o.Duration, "for", 0, "End after so long, as in 30s")
	set.DurationVar(&o.Last, "last", 0, "Tell what its black box has kept of so long before its end or now; 0: all")
	set.IntVar(&o.Run, "run", 0, "Tell what its black box has kept of the run with this number; 0: the last one")
	set.StringVarP(&o.output, "output", "o", "text", `Format: "text", or "json" with one value for each line`)
	_ = cmd.RegisterFlagCompletionFunc("output", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"json", "text"}, cobra.ShellCompDirectiveNoFileComp
	})
	return command.Common(cmd, 0, "container trace", "trace")
}

func (o *traceOptions) run(ctx context.Context, a *command.App, name string) error {
	for flag, n := range map[string]int{"--count": o.Count, "--for": int(o.Duration), "--slow": int(o.Slow), "--last": int(o.Last), "--run": o.Run} {
		if n < 0 {
			return fmt.Errorf("invalid argument: %s must not be negative", flag)
		}
	}
	if o.output != "text" && o.output != "json" {
		return fmt.Errorf("invalid argument: --output must be text or json, not %q", o.output)
	}
	if o.Summary && o.Count > 0 {
		return errors.New("conflicting options: --summary prints no lines that --count could end")
	}
	if o.Box && o.Duration > 0 {
		return errors.New("conflicting options: --for is how long to follow it, and --last and --run tell of what was")
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	// The daemon is asked to end, and its rest is wanted.
	streaming, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(tracePatience, cancel) })()
	show := o.text(a, name)
	if o.output == "json" {
		out := json.NewEncoder(a.Out)
		show = func(e *api.TraceEvent) error { return out.Encode(e) }
	}
	return c.Trace(streaming, name, o.TraceOptions, ctx.Done(), show)
}

// tracePatience is how long the daemon may take to send the rest.
const tracePatience = 5 * time.Second

// text prints events for people; what is about the trace goes to the other output.
func (o *traceOptions) text(a *command.App, name string) func(*api.TraceEvent) error {
	var sums []api.TraceSum
	return func(e *api.TraceEvent) error {
		var err error
		switch e.Kind {
		case api.TraceBegin:
			if e.Box != nil {
				_, err = fmt.Fprintln(a.Err, boxText(name, e.Box))
				break
			}
			_, err = fmt.Fprintf(a.Err, "tracing %s%s, Ctrl-C ends\n", name, sourcesText(e.Sources))
		case api.TraceLost:
			if e.Why != "" {
				_, err = fmt.Fprintln(a.Err, command.Visible(e.Why))
				break
			}
			_, err = fmt.Fprintf(a.Err, "%d events were dropped: they came faster than they could be told\n", e.Lost)
		case api.TraceSummary:
			sums = e.Sums
		case api.TraceEnd:
			if o.Summary {
				err = traceTable(a.Out, sums)
			}
			if e.Lost > 0 && o.Box {
				_, _ = fmt.Fprintf(a.Err, "%d calls were lost: there was no memory for them\n", e.Lost)
			} else if e.Lost > 0 {
				_, _ = fmt.Fprintf(a.Err, "%d events were told, %d dropped\n", e.Sent, e.Lost)
			}
			if e.LeftOut > 0 {
				_, _ = fmt.Fprintf(a.Err, "%d queries were left out: it shares its network, and they are of others, or of processes that are not known\n", e.LeftOut)
			}
			if e.Why != "" {
				_, _ = fmt.Fprintf(a.Err, "the trace has ended: %s\n", e.Why)
			}
		default:
			_, err = fmt.Fprintln(a.Out, visible(traceLine(e)))
		}
		return err
	}
}

// traceLine is an event in one line.
func traceLine(e *api.TraceEvent) string {
	head := e.Time.Local().Format("15:04:05.000000")
	if e.PID > 0 {
		who := fmt.Sprint(e.PID)
		if e.TID != 0 && e.TID != e.PID {
			who += "/" + fmt.Sprint(e.TID)
		}
		head += fmt.Sprintf(" %s[%s]", e.Name, who)
	}
	switch e.Kind {
	case api.TraceCall:
		line := head + " " + e.Call + e.Args + " = " + e.Result
		if e.Unfinished {
			return line
		}
		if e.Denied {
			return line + " (refused by seccomp)"
		}
		return line + fmt.Sprintf(" <%.6f>", time.Duration(e.TookNanoseconds).Seconds())
	case api.TraceExec:
		return head + " runs " + e.File + commandNote(e) + fmt.Sprintf(" (child of %d)", e.Parent)
	case api.TraceExit:
		after := time.Duration(e.TookNanoseconds).Round(time.Millisecond)
		if e.Signal != "" {
			return head + fmt.Sprintf(" was ended by %s after %v", e.Signal, after)
		}
		return head + fmt.Sprintf(" ended with code %d after %v", *e.ExitCode, after)
	case api.TraceSignal:
		line := head + " got " + e.Signal + " from " + senderText(e.Sender)
		if e.Ignored {
			line += ", and ignores it"
		}
		return line
	case api.TraceTCP:
		return head + fmt.Sprintf(" %s > %s %s → %s", e.Local, e.Remote, e.OldState, e.NewState)
	case api.TraceDNS:
		return head + " " + queryText(e.DNS) + fmt.Sprintf(" <%.6f> (%s)", time.Duration(e.TookNanoseconds).Seconds(), e.DNS.Source)
	}
	return head + " " + e.Kind
}

// boxText tells which black box it is, and what it has not kept.
func boxText(name string, b *api.TraceBox) string {
	text := fmt.Sprintf("the black box of %s, run %d: %d events", name, b.Run, b.Kept)
	if more := b.Seen - min(b.Seen, uint64(b.Kept)); more > 0 {
		text += fmt.Sprintf(", and %d older ones have made way", more)
	}
	if b.Late {
		text += fmt.Sprintf("; what was before %s, under an earlier daemon, is missing", b.Since.Local().Format(time.TimeOnly))
	}
	if b.Ended.IsZero() {
		return text + "; it runs"
	}
	return text + "; it ended at " + b.Ended.Local().Format("15:04:05.000000")
}

// queryText is a question for a name, whom it went to, and what became of it.
func queryText(q *api.TraceQuery) string {
	text := q.Type + " " + q.Name
	if q.Server != "" {
		text += " by " + q.Protocol + " of " + q.Server
	}
	switch {
	case q.Error != "":
		return text + " = " + q.Error
	case q.Code != "NOERROR":
		text += " = " + q.Code
	case len(q.Answers) == 0:
		text += " = no records"
	default:
		text += " = " + strings.Join(q.Answers, ", ")
	}
	if q.Truncated {
		text += ", cut short"
	}
	return text
}

// sourcesText tells who speaks.
func sourcesText(sources []string) string {
	switch {
	case len(sources) == 0:
		return ""
	case slices.Contains(sources, api.SourceResolver):
		return " by its name server and packets of port 53"
	}
	return " by packets of port 53"
}

// commandNote is the command line as JSON, which shows where each word ends.
func commandNote(e *api.TraceEvent) string {
	text, err := json.Marshal(e.Command)
	if err != nil || len(e.Command) == 0 {
		return ""
	}
	if e.Cut {
		return " " + strings.TrimSuffix(string(text), "]") + ", ...]"
	}
	return " " + string(text)
}

func senderText(s *api.TraceSender) string {
	switch {
	case s == nil:
		return "somebody"
	case s.Kernel:
		return "the kernel"
	case s.PID > 0:
		return fmt.Sprintf("%s[%d]", s.Name, s.PID)
	case s.HostPID > 0:
		return fmt.Sprintf("%s (pid %d of the host)", s.Name, s.HostPID)
	}
	return s.Name + " of the host"
}

// traceTable is the summary as strace -c has it, with the errors by name.
func traceTable(out io.Writer, sums []api.TraceSum) error {
	var all int64
	for _, s := range sums {
		all += s.Nanoseconds
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%7s %12s %10s %10s %9s %-20s %s\n", "% TIME", "SECONDS", "USECS/CALL", "MAX USECS", "CALLS", "SYSCALL", "ERRORS")
	for _, s := range sums {
		percent := 0.0
		if all > 0 {
			percent = 100 * float64(s.Nanoseconds) / float64(all)
		}
		var errs []string
		for name, n := range s.Errors {
			errs = append(errs, fmt.Sprintf("%d %s", n, name))
		}
		slices.Sort(errs)
		line := fmt.Sprintf("%7.2f %12.6f %10d %10d %9d %-20s %s", percent, time.Duration(s.Nanoseconds).Seconds(),
			s.Nanoseconds/int64(max(s.Calls, 1))/1000, s.LongestNanoseconds/1000, s.Calls, s.Call, strings.Join(errs, ", "))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

package why

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/record/death"
)

func signalOf(n int) syscall.Signal { return syscall.Signal(n) }

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(s))
}

func notFoundRun(name string, run int) error {
	return problem.WithHint(problem.Errorf(errdefs.ErrNotFound, "No such run of container %s: %d", name, run), "see which there are with: porthole why --history "+name)
}

func neverRan(e *evidence) []api.Verdict {
	return verdict("never-started", api.Certain, "it was created and nobody has started it", nil, "porthole start "+e.name)
}

// notStarted is a start that failed.
func notStarted(e *evidence) []api.Verdict {
	se := e.death.StartError
	if se == nil {
		return nil
	}
	evidence := []string{"the start said: " + se.Message}
	if se.Step != "" {
		evidence = append(evidence, "step of the start that failed: "+se.Step)
	}
	if f := se.Finding; f != nil {
		return finding(f, evidence)
	}
	if se.Step == "apparmor" {
		return verdict("start-failed", api.Certain, "it could not be started: "+se.Message, evidence, "apparmor_parser -r FILE   # loads the profile", "aa-status   # shows which are loaded")
	}
	e.unknown = append(e.unknown, "the files of the container tell nothing of the reason")
	return verdict("start-failed", api.Certain, "it could not be started: "+se.Message, evidence, "porthole container inspect "+e.name)
}

// finding is what somebody has found in the files.
func finding(f *death.Finding, evidence []string) []api.Verdict {
	if f.Path != "" {
		where := f.Path
		if f.Line > 0 {
			where = fmt.Sprintf("%s, line %d", where, f.Line)
		}
		evidence = append(evidence, "file: "+where)
	}
	return verdict(f.Kind, api.Certain, f.Text, evidence, f.Fix)
}

// refusedCommand is a command that its shell did not find or may not execute,
// where the files were looked at.
func refusedCommand(e *evidence) []api.Verdict {
	if e.death.Finding == nil {
		return nil
	}
	var said []string
	if n := len(e.lines); n > 0 {
		said = append(said, fmt.Sprintf("its last line: %q", e.lines[n-1].Text))
	}
	return finding(e.death.Finding, said)
}

// ending is how it ended, where nothing tells more.
func ending(e *evidence) []api.Verdict {
	d := e.death
	switch d.Cause {
	case death.Completed:
		return verdict("completed", api.Certain, "it ended by itself with code 0, which is no failure", askedNote(d), "porthole logs "+e.name)
	case death.Failed:
		if v := crashedBelowInit(e); v != nil {
			return v
		}
		evidence := append([]string{"no signal ended it, and nobody asked the engine to end it"}, askedNote(d)...)
		if len(e.lines) == 0 {
			e.unknown = append(e.unknown, "it has written nothing that could tell why it chose this code")
		}
		return verdict("exited", api.Certain, fmt.Sprintf("it ended by itself with code %d%s%s", d.Exit.Code, codeNote(d.Exit.Code), passedOnText(d)), evidence, e.logsCommand())
	case death.Crashed:
		return crashed(e)
	case death.OutOfMem:
		return outOfMemory(e)
	case death.TimedOut:
		return termIgnored(e)
	case death.Stopped:
		return stopped(e)
	case death.Killed:
		return killed(e)
	case death.ShimEnded:
		return shimEnded(e)
	case death.Lost:
		return lost(e)
	case death.NotStarted:
	}
	return nil
}

// codeNote tells what shells mean by a code.
func codeNote(code int) string {
	switch {
	case code == 126:
		return ": a shell says so of a command that it may not execute"
	case code == 127:
		return ": a shell says so of a command that it does not find"
	case code > 128 && code < 128+65:
		return fmt.Sprintf(": a shell says so of a child that %s ended; the container's first process itself was not ended by a signal", signalName(syscall.Signal(code-128)))
	}
	return ""
}

func (e *evidence) logsCommand() string {
	if e.step() {
		return "porthole logs " + e.name
	}
	if e.status == removed {
		return fmt.Sprintf("porthole deaths --json --run %d %s", e.run, e.name)
	}
	return fmt.Sprintf("porthole logs --run %d %s", e.run, e.name)
}

// crashedBelowInit is a program whose signal its init (--init) has made a code of.
func crashedBelowInit(e *evidence) []api.Verdict {
	const signalled = 128
	sig := syscall.Signal(e.death.Exit.Code - signalled)
	if e.sub == nil || e.sub.HostConfig.Init == nil || !*e.sub.HostConfig.Init || crashes[sig] == "" {
		return nil
	}
	return verdict("crashed", api.Likely, fmt.Sprintf("its program crashed by %s: %s", signalName(sig), crashes[sig]),
		[]string{fmt.Sprintf("its init (--init) ended with code %d, as it does when %s ended the program", e.death.Exit.Code, signalName(sig))}, e.logsCommand())
}

// crashes tell what the signals mean that the kernel sends for faults.
var crashes = map[syscall.Signal]string{
	syscall.SIGSEGV: "it accessed memory that it does not have",
	syscall.SIGABRT: "it gave up by itself (abort), as after a failed assertion",
	syscall.SIGBUS:  "it accessed memory that has no storage behind it, as of a file that was cut",
	syscall.SIGILL:  "it came to an instruction that this processor does not have",
	syscall.SIGFPE:  "it divided by zero, or the like",
	syscall.SIGTRAP: "it came to a breakpoint",
	syscall.SIGSYS:  "it made a system call that its seccomp filter kills for",
}

func crashed(e *evidence) []api.Verdict {
	d := e.death
	what := crashes[d.Exit.Signal]
	if d.Exit.Signal == syscall.SIGSEGV {
		what += ", or gave up by itself (abort), which ends a pid 1 in this way"
	}
	core, next := coreWords(e)
	text := "it crashed by " + signalName(d.Exit.Signal)
	if what != "" {
		text += ": " + what
	}
	return verdict("crashed", api.Certain, text, []string{core}, e.logsCommand(), next)
}

// shellWord is a word of a command line that can be typed as it is: the name of a file is the container's choice.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)

// coreWords tell what became of the core, and how to get it.
func coreWords(e *evidence) (text, next string) {
	d := e.death
	switch c := d.Core; {
	case c != nil && c.ID != "":
		text := fmt.Sprintf("its core was kept, %s", size(uint64(c.Bytes)))
		if c.Truncated {
			text += " of more"
		}
		return text, fmt.Sprintf("porthole core get -o core %s   # a debugger reads it, with the program beside it", c.ID)
	case !d.Exit.Core:
		return "the kernel wrote no core dump", "porthole run --ulimit core=-1 …   # the kernel writes none by default"
	case c == nil:
		return "the kernel dumped its core", "cat /proc/sys/kernel/core_pattern   # where the host puts cores"
	case c.Handler != "":
		next := "cat /proc/sys/kernel/core_pattern   # who has it"
		if strings.Contains(c.Handler, "systemd-coredump") {
			next = "coredumpctl list"
		}
		return fmt.Sprintf("the kernel gave its core to the host's handler, %s", c.Handler), next
	default:
		next := fmt.Sprintf("porthole cp %s .", shellWord(e.name+":"+c.Path))
		if e.sub == nil {
			next = fmt.Sprintf("porthole debug %s -- cat %s >core   # the container was removed", e.name, shellWord(c.Path))
		}
		return fmt.Sprintf("the kernel dumped its core: %s of its own files, %s", c.Path, size(uint64(c.Bytes))), next
	}
}

func size(n uint64) string { return units.BytesSize(float64(n)) }

func outOfMemory(e *evidence) []api.Verdict {
	d := e.death
	v := oomVerdict(e, d.OOMKills, d.OOMCount)
	v.Confidence = api.Certain
	if len(d.OOMKills) == 0 {
		v.Confidence = api.Likely
		e.unknown = append(e.unknown, "the kernel counted a kill for want of memory; its log, which names victim and limit, was not to be had")
	}
	return []api.Verdict{v}
}

func oomVerdict(e *evidence, kills []death.OOMKill, count uint64) api.Verdict {
	v := api.Verdict{Cause: "oom", Text: "the kernel killed it for want of memory"}
	limit := uint64(0)
	for _, k := range kills {
		who := "the victim"
		if k.First {
			who = "the container's first process"
		}
		v.Evidence = append(v.Evidence, fmt.Sprintf("%s: %s; the memory was wanted by %s", who, k.Text(), k.Invoker))
	}
	if n := len(kills); n > 0 {
		k := kills[n-1]
		limit = k.Limit
		v.Text = "out of memory: " + k.Text()
	}
	listed := false
	for _, k := range kills {
		switch text := k.LargestText(); {
		case text == "":
		case k.LargestAfter:
			v.Evidence = append(v.Evidence, "right after it the largest of its other processes were "+text)
		default:
			listed = true
			v.Evidence = append(v.Evidence, "the largest among which the kernel chose: "+text)
		}
	}
	if count > 0 {
		v.Evidence = append(v.Evidence, fmt.Sprintf("the kernel counted %d kills in the run", count))
	}
	if trend := memoryTrend(e.samples); trend != "" {
		v.Evidence = append(v.Evidence, trend)
	}
	const double = 2
	if limit > 0 {
		verb := "run"
		if e.step() {
			verb = "build"
		}
		v.Next = append(v.Next, fmt.Sprintf("raise the limit, as with: porthole "+verb+" -m %dm … (it was %s)", limit*double>>20, size(limit)))
	}
	if e.status != removed {
		v.Next = append(v.Next, "porthole stats --since 10m "+e.name)
	}
	if !listed {
		e.unknown = append(e.unknown, "how much its other processes held when the kernel chose is not recorded: the kernel lists them only where vm.oom_dump_tasks is 1, and not for many kills in a row")
	}
	return v
}

// memoryTrend tells how its memory grew over the last samples.
func memoryTrend(samples []*api.Sample) string {
	var first, last *api.Sample
	for _, s := range samples {
		if s.Memory == nil {
			continue
		}
		if first == nil {
			first = s
		}
		last = s
	}
	if last == nil {
		return ""
	}
	if first == last {
		return "its working set in the last sample: " + size(last.Memory.WorkingSet)
	}
	return fmt.Sprintf("its working set went from %s to %s in the last %s", size(first.Memory.WorkingSet), size(last.Memory.WorkingSet), last.Time.Sub(first.Time).Round(time.Second))
}

// termIgnored is a stop that was not heeded.
func termIgnored(e *evidence) []api.Verdict {
	d := e.death
	s := d.Stop
	name := signalName(s.Signal)
	text := fmt.Sprintf("%s did not end it, so it was killed after %g s", name, s.Timeout.Seconds())
	next := []string{"have its first process end on " + name + ", or choose the signal that ends it: --stop-signal"}
	evidence := []string{fmt.Sprintf("%s asked for %s", who(s.By), s.Action)}
	switch m := d.Signals; {
	case m == nil:
		e.unknown = append(e.unknown, "what its first process had done about "+name+" is not recorded")
	case m.Handles(s.Signal):
		text = fmt.Sprintf("its first process caught %s and did not end, so it was killed after %g s", name, s.Timeout.Seconds())
		evidence = append(evidence, "it had a handler for "+name+", which ran and did not end it, or waits for something")
	case m.Ignored&(1<<(s.Signal-1)) != 0:
		text = fmt.Sprintf("its first process ignores %s, so it was killed after %g s", name, s.Timeout.Seconds())
		evidence = append(evidence, name+" was set to be ignored")
	default:
		text = fmt.Sprintf("%s was ignored, KILL after %g s: pid 1 has no handler for it, and the kernel ends no pid 1 without one", name, s.Timeout.Seconds())
		evidence = append(evidence, "it had no handler for "+name)
		next = []string{"porthole run --init …: an init as pid 1 passes the signal on, and reaps zombies", "begin the entrypoint's last line with exec, so that the program itself is pid 1 and its own handler counts"}
	}
	return verdict("term-ignored", api.Certain, text, evidence, next...)
}

func stopped(e *evidence) []api.Verdict {
	s := e.death.Stop
	text := fmt.Sprintf("%s asked the engine to %s it", who(s.By), s.Action)
	var evidence []string
	if s.Signal != 0 {
		evidence = append(evidence, fmt.Sprintf("%s was sent %s", signalName(s.Signal), s.At.Local().Format(time.RFC3339)))
	}
	if took := e.death.Finished.Sub(s.At); !s.At.IsZero() && took >= 0 {
		evidence = append(evidence, "it ended "+took.Round(time.Millisecond).String()+" later")
	}
	return verdict("stopped", api.Certain, text, evidence, "porthole events --actor --since 1h --until 0m --filter container="+e.name)
}

func killed(e *evidence) []api.Verdict {
	d := e.death
	name := signalName(d.Exit.Signal)
	evidence := []string{"the engine was not asked to send it"}
	if d.Exit.Signal == syscall.SIGKILL {
		evidence = append(evidence, "the kernel counted no kill for want of memory in the run")
	}
	if s := d.Sender; s != nil {
		return sentBy(e, s, name, evidence)
	}
	if limit := e.cpuTime(); limit > 0 && d.Exit.Signal == syscall.SIGKILL {
		return verdict("out-of-cpu-time", api.Likely, fmt.Sprintf("the kernel kills what has used as much processor time as --ulimit cpu allows, here %d s", limit),
			evidence, "porthole run --ulimit cpu=SOFT:HARD …")
	}
	reason := "nothing recorded that; porthole info tells whether signals are watched here"
	if e.endedUnwatched() {
		reason = "no daemon ran then, so nobody watched"
	}
	e.unknown = append(e.unknown, "which process sent "+name+": "+reason)
	return verdict("killed-from-outside", api.Certain, fmt.Sprintf("%s ended it, which neither the engine nor the kernel's memory killer sent: a process of the host, or in the container, did", name), evidence,
		"look on the host for who kills: journalctl --since …, oomd, earlyoom, a service that stops its processes")
}

// cpuTime is the hard limit of processor time, in seconds; 0: there is none, or that is not known.
func (e *evidence) cpuTime() int64 {
	if e.sub == nil {
		return 0
	}
	for _, u := range e.sub.HostConfig.Ulimits {
		if u.Name == "cpu" {
			return max(u.Hard, 0)
		}
	}
	return 0
}

// sentBy names the process that has sent the signal.
func sentBy(e *evidence, s *death.Sender, name string, evidence []string) []api.Verdict {
	evidence = append(evidence, fmt.Sprintf("%s, %s before its end", s.Source, e.death.Finished.Sub(s.At).Abs().Round(time.Millisecond)))
	switch {
	case s.Itself:
		return verdict("killed-itself", api.Certain, "its first process sent "+name+" to itself", evidence, e.logsCommand())
	case s.Container != "" && s.Container == e.id:
		return verdict("killed-from-inside", api.Certain, fmt.Sprintf("%s, which is this one, sent it %s", s.Text(), name), evidence, e.logsCommand())
	case s.Container == death.UnknownContainer:
		return verdict("killed-from-outside", api.Certain, fmt.Sprintf("%s sent it %s", s.Text(), name), evidence)
	case s.Container != "":
		return verdict("killed-from-outside", api.Certain, fmt.Sprintf("%s sent it %s", s.Text(), name), evidence, "find out why that container may see this one's processes: porthole inspect --format '{{.HostConfig.PidMode}}' "+s.ContainerName)
	}
	return verdict("killed-from-outside", api.Certain, fmt.Sprintf("%s sent it %s", s.Text(), name), evidence,
		"find out on the host what starts this command")
}

// askedNote tells of a signal that asked a process to end, which then ended by itself.
func askedNote(d *death.Record) []string {
	s := d.Sender
	if s == nil || s.Signal == 0 || d.Exit.Signal != 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s before, it got %s: %s (%s)", d.Finished.Sub(s.At).Abs().Round(time.Millisecond), signalName(s.Signal), s.Text(), s.Source)}
}

// shimEnded is a container that the engine has ended because its shim was there no more: nobody would have written its log, and told of its end.
func shimEnded(e *evidence) []api.Verdict {
	s := e.death.Shim
	evidence := []string{
		fmt.Sprintf("the shim, process %d, was gone without a word; the engine then killed what was left of the container", s.PID),
		fmt.Sprintf("code %d is that of this kill: nobody was there to read another", e.death.Exit.Code),
	}
	next := "find out on the host what ends the processes porthole-shim: journalctl --since …, oomd, earlyoom, a service that stops its processes"
	if s.Signal == 0 {
		e.unknown = append(e.unknown, "what ended the shim: no signal to it was recorded; porthole info tells whether signals are watched here")
	}
	if s.Sender != nil {
		evidence = append(evidence, fmt.Sprintf("%s, %s before", s.Sender.Source, e.death.Finished.Sub(s.Sender.At).Abs().Round(time.Millisecond)))
		next = "find out on the host what starts this command"
	}
	return verdict("shim-ended", api.Certain, s.Text(), evidence, next, e.logsCommand())
}

func lost(e *evidence) []api.Verdict {
	e.unknown = append(e.unknown, "its exit code: nobody was there to read it")
	return verdict("not-observed", api.Certain, "nobody was there to see it end: daemon and shim were gone, as after a loss of power, a kill of both, or a restart of the machine",
		[]string{fmt.Sprintf("code %d, as Docker shows it, is a guess", e.death.Exit.Code)}, "uptime; journalctl --list-boots", e.logsCommand())
}

// crashLoop is a container that ends again and again soon after its start.
func crashLoop(e *evidence) []api.Verdict {
	if e.sub == nil || e.sub.HostConfig.RestartPolicy.IsNone() {
		return nil
	}
	const few, short = 3, 30 * time.Second
	var codes, lives []string
	n := 0
	for _, r := range slices.Backward(e.sub.Life.Runs) {
		if r.FinishedAt.IsZero() {
			continue
		}
		if r.ExitCode == 0 && e.sub.HostConfig.RestartPolicy.IsOnFailure() || r.FinishedAt.Sub(r.StartedAt) > short && !r.StartedAt.IsZero() {
			break
		}
		n++
		codes = append(codes, fmt.Sprint(r.ExitCode))
		lives = append(lives, r.FinishedAt.Sub(r.StartedAt).Round(time.Millisecond).String())
	}
	if n < few || e.lives() && time.Since(e.sub.Life.StartedAt) > short {
		return nil
	}
	slices.Reverse(codes)
	slices.Reverse(lives)
	text := fmt.Sprintf("it ends again and again soon after its start: the last %d runs", n)
	if len(slices.Compact(slices.Clone(codes))) == 1 {
		text += " all with code " + codes[0]
	} else {
		text += " with codes " + strings.Join(codes, ", ")
	}
	evidence := []string{"they lasted " + strings.Join(lives, ", "), fmt.Sprintf("restart policy %s, %d restarts", e.sub.HostConfig.RestartPolicy.Name, e.sub.Life.RestartCount)}
	if len(e.deaths) > 0 {
		evidence = append(evidence, "the last one: "+e.deaths[0].Text())
	}
	return verdict("crash-loop", api.Certain, text, evidence, "porthole why --history "+e.name, "porthole update --restart no "+e.name+"   # to look at it in peace")
}

// learned tells what a run has written to, if that was to be learned.
func (e *evidence) learned() []string {
	if e.death == nil || e.death.Learned == nil {
		return nil
	}
	l := e.death.Learned
	out := api.Learned{Count: l.Count, Paths: l.Paths, AtRoot: l.AtRoot, Unknown: l.Unknown}
	for _, d := range l.Dirs {
		out.Dirs = append(out.Dirs, api.LearnedDir(d))
	}
	return out.Text()
}

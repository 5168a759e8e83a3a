package why

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/linux/waits"
)

// nearly is the share of a limit from which it counts as reached.
const nearly = 0.95

func paused(e *evidence) []api.Verdict {
	if e.sub.Status != container.StatePaused {
		return nil
	}
	var evidence []string
	if r := e.lastEvent(events.ActionPause); r != nil {
		evidence = append(evidence, fmt.Sprintf("%s asked for it, %s ago", who(r.By), since(time.Unix(0, r.TimeNano))))
	} else {
		e.unknown = append(e.unknown, "who paused it: the event is not kept any more")
	}
	return verdict("paused", api.Certain, "it is paused: all its processes are frozen until somebody lets them go on", evidence, "porthole unpause "+e.name)
}

// lastEvent is the container's last event of a kind in this run; nil: none is kept.
func (e *evidence) lastEvent(action events.Action) (last *event.Record) {
	o := engine.EventsOptions{
		Since: e.sub.Life.StartedAt, Until: time.Now(),
		Filters: engine.Filters{"type": {string(events.ContainerEventType)}, "container": {e.id}, "event": {string(action)}},
	}
	err := e.src.Events(e.ctx, o, func(r event.Record) error {
		last = &r
		return nil
	})
	if err != nil {
		e.unknown = append(e.unknown, "its events cannot be read: "+err.Error())
	}
	return last
}

// frozen is a container that somebody else than the engine has frozen.
func frozen(e *evidence) []api.Verdict {
	p, ok := e.first()
	if !ok || e.sub.Status == container.StatePaused || !p.frozen() {
		return nil
	}
	return verdict("frozen", api.Certain, "its processes are frozen, and the engine was not asked to: somebody wrote into its control group", []string{"pid 1 sleeps in " + p.wchan},
		fmt.Sprintf("cat /proc/%d/cgroup   # whose cgroup.freeze or freezer.state it is", p.pid))
}

// oomSurvivor is a container whose first process outlived a kill for want of memory.
func oomSurvivor(e *evidence) []api.Verdict {
	if len(e.sub.OOMKills) == 0 {
		return nil
	}
	v := oomVerdict(e, e.sub.OOMKills, 0)
	v.Confidence = api.Certain
	v.Evidence = append(v.Evidence, "its first process was not hit and goes on")
	return []api.Verdict{v}
}

// maxStuck are looked at closely.
const maxStuck = 5

// stuck is a process that signals do not reach, SIGKILL neither as a rule.
func stuck(e *evidence) []api.Verdict {
	var list []process
	for _, p := range e.procs {
		if p.stuck != 0 && !p.frozen() {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return nil
	}
	p := list[0]
	w := waits.Look(e.ctx, p.pid, p.stuck)
	whose := p.String()
	if w.Thread != w.PID {
		whose += fmt.Sprintf(", thread %d,", w.Thread)
	}
	evidence := append([]string{fmt.Sprintf("state D in two looks, %s apart", settle)}, w.Evidence()...)
	for _, other := range list[1:min(len(list), maxStuck)] {
		o := waits.Look(e.ctx, other.pid, other.stuck)
		evidence = append(evidence, fmt.Sprintf("%s is stuck too: %s", &other, o.Text()))
	}
	if n := len(list) - maxStuck; n > 0 {
		evidence = append(evidence, fmt.Sprintf("%d further processes are stuck", n))
	}
	next := append(w.Remedies(), fmt.Sprintf("cat /proc/%d/task/%d/stack", w.PID, w.Thread))
	return verdict("stuck-in-kernel", api.Certain, fmt.Sprintf("%s cannot be interrupted: %s", whose, w.Text()), evidence, next...)
}

func descriptors(e *evidence) []api.Verdict {
	for _, p := range e.procs {
		if p.fdLimit > 0 && float64(p.fds) >= nearly*float64(p.fdLimit) {
			return verdict("out-of-fds", api.Certain, fmt.Sprintf("%s has %d of %d file descriptors open: it can open no more", &p, p.fds, p.fdLimit), nil,
				fmt.Sprintf("ls -l /proc/%d/fd   # what they are", p.pid), "porthole run --ulimit nofile=SOFT:HARD …")
		}
	}
	return nil
}

func processes(e *evidence) []api.Verdict {
	limit := e.pidsLimit()
	if limit == 0 || len(e.samples) == 0 {
		return nil
	}
	last := e.samples[len(e.samples)-1]
	if last.Pids == nil || float64(*last.Pids) < nearly*float64(limit) {
		return nil
	}
	evidence := []string{fmt.Sprintf("%d processes in the last sample, zombies and threads included", *last.Pids)}
	if n := len(e.zombies); n > 0 {
		evidence = append(evidence, fmt.Sprintf("%d of them are zombies", n))
	}
	return verdict("out-of-pids", api.Certain, fmt.Sprintf("it has reached its limit of %d processes: it can start no more", limit), evidence,
		"porthole top "+e.name, "porthole update --pids-limit N "+e.name)
}

// zombies are children that ended and were not waited for.
func zombies(e *evidence) []api.Verdict {
	if len(e.zombies) == 0 {
		return nil
	}
	byParent := map[int]int{}
	for _, z := range e.zombies {
		byParent[z.parent]++
	}
	parent, most := 0, 0
	for pid, n := range byParent {
		if n > most || n == most && pid < parent {
			parent, most = pid, n
		}
	}
	whose := fmt.Sprintf("process %d on the host", parent)
	next := []string{"have the parent wait for its children"}
	for _, p := range e.procs {
		if p.pid == parent {
			whose = p.String()
		}
	}
	if parent == e.sub.Pid {
		next = []string{"porthole run --init …: an init as pid 1 reaps them", "or have pid 1 wait for its children"}
	}
	text := fmt.Sprintf("%d zombies of %s, which does not wait for them", most, whose)
	if most == 1 {
		text = fmt.Sprintf("a zombie of %s, which does not wait for it", whose)
	}
	var names []string
	for _, z := range e.zombies {
		names = append(names, z.comm)
	}
	slices.Sort(names)
	evidence := []string{fmt.Sprintf("they were zombies in two looks, %s apart: %s", settle, strings.Join(slices.Compact(names), ", "))}
	return verdict("zombies", api.Certain, text, evidence, append(next, "porthole top "+e.name)...)
}

// meanRate is the mean of a rate over the last samples.
func (e *evidence) meanRate(of func(*api.SampleRate) float64) (mean float64, n int) {
	for _, s := range e.samples {
		if s.Rate != nil {
			mean += of(s.Rate)
			n++
		}
	}
	if n > 0 {
		mean /= float64(n)
	}
	return mean, n
}

// lastRate is a rate in the last sample.
func (e *evidence) lastRate(of func(*api.SampleRate) float64) float64 {
	if n := len(e.samples); n > 0 && e.samples[n-1].Rate != nil {
		return of(e.samples[n-1].Rate)
	}
	return 0
}

func throttled(e *evidence) []api.Verdict {
	const much = 0.25
	of := func(r *api.SampleRate) float64 { return r.Throttled }
	if e.lastRate(of) < much {
		return nil
	}
	mean, n := e.meanRate(of)
	evidence := []string{fmt.Sprintf("held back in %.0f%% of the periods in the last second, %.0f%% over %d samples", 100*e.lastRate(of), 100*mean, n), e.busiest()}
	limit := float64(e.sub.HostConfig.NanoCPUs) / 1e9
	if limit == 0 && e.sub.HostConfig.CPUQuota > 0 && e.sub.HostConfig.CPUPeriod > 0 {
		limit = float64(e.sub.HostConfig.CPUQuota) / float64(e.sub.HostConfig.CPUPeriod)
	}
	text := "its CPU limit holds it back"
	if limit > 0 {
		text = fmt.Sprintf("its limit of %g CPUs holds it back", limit)
	}
	return verdict("throttled", api.Certain, text, slices.DeleteFunc(evidence, empty), "porthole update --cpus N "+e.name, "porthole stats --plot "+e.name)
}

func empty(s string) bool { return s == "" }

// busiest names the process that takes most processor time.
func (e *evidence) busiest() string {
	var top process
	most := 0.0
	for _, p := range e.procs {
		if c := e.cpu[p.pid]; c > most {
			top, most = p, c
		}
	}
	if most < 0.05 {
		return ""
	}
	return fmt.Sprintf("%s takes %.0f%% of a processor", &top, 100*most)
}

// busy is a container that computes and is not held back.
func busy(e *evidence) []api.Verdict {
	const most = 0.9
	of := func(r *api.SampleRate) float64 { return r.CPU }
	total := 0.0
	for _, c := range e.cpu {
		total += c
	}
	if e.lastRate(of) < most || total < most/2 || e.lastRate(func(r *api.SampleRate) float64 { return r.Throttled }) > 0 {
		return nil
	}
	evidence := []string{fmt.Sprintf("%.2f processors in the last second", e.lastRate(of)), e.busiest()}
	return verdict("busy", api.Certain, "it computes: it keeps a whole processor or more busy", slices.DeleteFunc(evidence, empty), "porthole top "+e.name, "porthole stats --plot "+e.name)
}

func unhealthy(e *evidence) []api.Verdict {
	h := e.sub.Health
	if h == nil || h.FailingStreak == 0 || len(h.Log) == 0 {
		return nil
	}
	last := h.Log[len(h.Log)-1]
	output := strings.Join(strings.Fields(last.Output), " ")
	if output == "" {
		output = "nothing"
	}
	var test string
	if hc := e.sub.Config.Healthcheck; hc != nil {
		test = strings.Join(hc.Test, " ")
	}
	return verdict("unhealthy", api.Certain, fmt.Sprintf("its health check fails, %d times in a row (it is %s): %s", h.FailingStreak, h.Status, output),
		[]string{fmt.Sprintf("the last one ended with code %d", last.ExitCode), "the check: " + test}, "porthole health "+e.name)
}

// waiting tells what a container waits for that has no trouble that could be seen.
func waiting(e *evidence) []api.Verdict {
	p, ok := e.first()
	if !ok {
		e.unknown = append(e.unknown, "what it does: its first process could not be looked at")
		return verdict("running", api.Possible, "it runs, and no trouble was found", nil)
	}
	var evidence []string
	if l := e.listening(); l != "" {
		evidence = append(evidence, l)
	}
	evidence = append(evidence, e.others()...)
	text := p.waitsFor()
	switch {
	case p.state == 'R':
		return verdict("running", api.Certain, fmt.Sprintf("no trouble was found; %s runs", &p), evidence)
	case p.state == 'T' || p.state == 't':
		return verdict("stopped-by-signal", api.Certain, fmt.Sprintf("%s was stopped by a signal, or by a tracer", &p), evidence, fmt.Sprintf("kill -CONT %d", p.pid))
	case text == "":
		if p.wchan != "" {
			evidence = append(evidence, "it sleeps in "+p.wchan)
		} else {
			e.unknown = append(e.unknown, "what its first process waits for: the kernel does not tell its wait channel")
		}
		return verdict("waiting", api.Possible, fmt.Sprintf("no trouble was found; %s sleeps", &p), evidence)
	}
	return verdict("waiting", api.Certain, fmt.Sprintf("no trouble was found; %s waits %s", &p, text), evidence)
}

// others tells what its other processes wait for.
func (e *evidence) others() (out []string) {
	const few = 4
	n := 0
	for _, p := range e.procs {
		if p.pid == e.sub.Pid {
			continue
		}
		if n++; n > few {
			continue
		}
		switch text := p.waitsFor(); {
		case p.state == 'R':
			out = append(out, p.String()+" runs")
		case text != "":
			out = append(out, p.String()+" waits "+text)
		}
	}
	if n > few {
		out = append(out, fmt.Sprintf("%d further processes", n-few))
	}
	return out
}

// notes are worth knowing before they hurt.
func (e *evidence) notes() []string {
	if !e.lives() {
		return append(e.deathNotes(), e.learned()...)
	}
	var notes []string
	if ops, err := e.src.Operations(e.id); err == nil {
		for _, o := range ops {
			if o.Slow {
				notes = append(notes, fmt.Sprintf("%s has been under way for %s, for %s", o.Verb, o.Age.Round(1e9), who(o.By)))
			}
		}
	}
	if r := e.sub.Life.Removal; r != nil {
		notes = append(notes, fmt.Sprintf("%s asked for its removal %s ago: it goes as soon as its processes have ended", who(r.By), since(r.At)))
	}
	if e.sub.HostConfig.Annotations["porthole.read-only"] == "learn" {
		notes = append(notes, "what it would need with a read-only root filesystem is told when it has ended; porthole diff "+e.name+" has what it has written so far")
	}
	for _, g := range e.sub.Grafts {
		notes = append(notes, fmt.Sprintf("%s of the host was mounted at %s %s ago, while it ran; porthole mount ungraft %s %s takes it back", g.Source, g.Destination, since(g.Since), e.name, g.Destination))
	}
	signal := syscall.SIGTERM
	// In a pid namespace of others it is no pid 1.
	if p, ok := e.first(); ok && p.inside == 1 && (e.sub.Config.StopSignal == "" || e.sub.Config.StopSignal == "SIGTERM") && !p.handles(signal) {
		notes = append(notes, "a stop will take its whole time: pid 1 has no handler for SIGTERM, and the kernel ends no pid 1 without one (--init helps)")
	}
	return notes
}

package clock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

func TestMain(m *testing.M) { bed.Main(m, nil) }

// settling is how long things may take to come to pass. By the clock that is set it may be anything.
const settling = 60 * time.Second

type world struct {
	*bed.Daemon
	t *testing.T
}

// TestClock sets the clock forward by a day, back by a day and back by an hour.
func TestClock(t *testing.T) {
	testenv.NeedsRoot(t)
	if os.Getenv("PORTHOLE_TEST_UML") == "" {
		t.Fatal("this sets the clock of the machine: it is for that of test/uml alone")
	}
	dir, err := os.MkdirTemp(bed.WorkRoot(), "porthole-clock-") //nolint:usetesting // on a disk, as users have it
	if err != nil {
		t.Fatal(err)
	}
	d, err := bed.Start(bed.Options{Dir: dir, Args: strings.Fields(os.Getenv("PORTHOLE_TEST_DAEMON_ARGS"))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon's log ends so:\n%s", d.LogTail(8192))
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{d, t}
	w.must("load", "-q", "-i", bed.Archive("busybox"))
	w.must("run", "--name", "dead", "busybox", "echo", "long ago")
	for _, by := range []time.Duration{24 * time.Hour, -24 * time.Hour, -time.Hour} {
		t.Run(by.String(), func(t *testing.T) { (&world{d, t}).jump(by) })
	}
}

// jump sets the clock while all that knows of time goes on.
func (w *world) jump(by time.Duration) {
	const run = "run -d --network none --name "
	w.words(run+"ticker busybox sh -c", "i=0; while sleep 0.5; do i=$((i+1)); echo tick $i; done")
	w.words(run + "sick --health-cmd date --health-interval 1s --health-start-period 2s --health-start-interval 1s --health-retries 2 busybox sleep 1000")
	w.words(run + "ill --health-cmd false --health-interval 1s --health-start-period 5s --health-start-interval 1s --health-retries 2 busybox sleep 1000")
	w.words(run+"again --restart always busybox sh -c", "sleep 2; exit 3")
	w.words(run+"deaf busybox sh -c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done")
	w.words(run+"mortal busybox sh -c", "echo first; exec sleep 1000")
	w.until("healthy", "inspect", "-f", "{{.State.Health.Status}}", "sick")
	w.until("first", "logs", "mortal")
	w.words("kill mortal") // its second run is what the clock is set in
	w.words("wait mortal")
	w.words("start mortal")
	logs, events := w.follow("logs", "-f", "--tail", "0", "ticker"), w.follow("events")
	waiting := w.follow("wait", "mortal")
	w.eventually("again has been started again twice", func() bool {
		n, err := strconv.Atoi(strings.TrimSpace(w.must("inspect", "-f", "{{.RestartCount}}", "again")))
		return err == nil && n >= 2
	})

	w.set(by)

	seen := len(logs.String())
	w.eventually("the follower of the log gets new lines", func() bool { return len(logs.String()) > seen+10 })
	w.until("tick", "logs", "--since", "5s", "ticker")
	w.words("run --rm --network none --name after busybox true")
	w.eventually("the follower of events gets new ones", func() bool { return strings.Contains(events.String(), "name=after") })
	w.until("name=after", "events", "--since", "1m", "--until", "0s", "--filter", "event=start")
	w.probed("sick")
	w.restarts("again")
	w.until("unhealthy", "inspect", "-f", "{{.State.Health.Status}}", "ill")
	if out := w.words("ps -a"); strings.Contains(out, "-") && strings.Contains(out, "Up -") {
		w.t.Errorf("a negative time in\n%s", out)
	}
	w.words("stats --no-stream ticker")

	began := time.Now() // with a reading of the other clock
	w.words("stop -t 2 deaf")
	if took := time.Since(began); took < 2*time.Second || took > settling/2 {
		w.t.Errorf("stop -t 2 took %v", took)
	}
	w.words("kill mortal")
	w.eventually("wait returns", func() bool { return strings.TrimSpace(waiting.String()) == "137" })
	w.died("mortal", 2)

	// Another daemon has all times from files, and those are of before.
	if err := w.Kill(); err != nil {
		w.t.Fatal(err)
	}
	w.set(by)
	if err := w.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.probed("sick")
	w.restarts("again")
	if out := w.words("deaths dead"); !strings.Contains(out, "ended by itself") {
		w.t.Errorf("why it ended is not known any more:\n%s", out)
	}
	if out := w.words("logs dead"); out != "long ago" {
		w.t.Errorf("its log is %q", out)
	}
	w.words("rm -f ticker sick ill again deaf mortal")
}

// set sets the clock, and the end of the test sets it back.
func (w *world) set(by time.Duration) {
	w.t.Helper()
	change := func(by time.Duration) {
		now := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			w.t.Fatal(err)
		}
	}
	before := time.Now()
	change(by)
	if is := time.Now().Round(0).Sub(before.Round(0)); (is - by).Abs() > time.Minute {
		w.t.Fatalf("the clock went by %v, was to by %v", is, by)
	}
	w.t.Cleanup(func() { change(-by) })
}

// died sees what is told of a run that the clock was set in.
func (w *world) died(name string, run int) {
	w.t.Helper()
	w.until("exitCode=137", "events", "--since", "1m", "--until", "0s", "--filter", "event=die", "--filter", "container="+name)
	var list []api.Death
	w.eventually("the death is recorded", func() bool {
		list = nil
		if err := json.Unmarshal([]byte(w.words("deaths --json --run "+strconv.Itoa(run)+" "+name)), &list); err != nil {
			w.t.Fatal(err)
		}
		return len(list) == 1
	})
	d := list[0]
	if d.Ran < time.Second || d.Ran > time.Hour/2 {
		w.t.Errorf("it is told to have run for %v", d.Ran)
	}
	var lines []string
	for _, l := range d.LastLines {
		lines = append(lines, l.Text)
	}
	if len(lines) != 1 || lines[0] != "first" {
		w.t.Errorf("its last lines are %q, want the one of this run", lines)
	}
	if len(d.LastSamples) == 0 {
		w.t.Error("there are no last samples")
	}
	if out := w.words("why " + name); strings.Contains(out, "after -") {
		w.t.Errorf("a negative time in\n%s", out)
	}
	out := w.must("events", "--since", "1m", "--until", "0s", "--filter", "event=die", "--filter", "container="+name, "--format", `{{index .Actor.Attributes "execDuration"}}`)
	for n := range strings.FieldsSeq(out) {
		if seconds, err := strconv.Atoi(n); err != nil || seconds < 0 || seconds > 1800 {
			w.t.Errorf("it is told to have run for %q seconds", n)
		}
	}
}

// probed waits for a check of a container's health from now on.
func (w *world) probed(name string) {
	w.t.Helper()
	last := func() string { return w.must("inspect", "-f", "{{range .State.Health.Log}}{{.End}}\n{{end}}", name) }
	before := last()
	w.eventually(name+" is checked again", func() bool { return last() != before })
}

// restarts waits for a restart from now on.
func (w *world) restarts(name string) {
	w.t.Helper()
	count := func() string { return w.must("inspect", "-f", "{{.RestartCount}}", name) }
	before := count()
	w.eventually(name+" is started again", func() bool { return count() != before })
}

func (w *world) must(args ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*settling)
	defer cancel()
	out, err := w.Porthole(ctx, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// words is must for a command line without quotes, and words that have some.
func (w *world) words(line string, more ...string) string {
	w.t.Helper()
	return w.must(append(strings.Fields(line), more...)...)
}

// until repeats a command until its output has a text.
func (w *world) until(text string, args ...string) {
	w.t.Helper()
	out := ""
	w.eventually(strings.Join(args, " ")+" has "+text, func() bool { out = w.must(args...); return strings.Contains(out, text) })
}

func (w *world) eventually(what string, so func() bool) {
	w.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !so(); <-tick.C {
		if time.Since(began) > settling {
			w.t.Fatalf("not so: %s", what)
		}
	}
}

// output is what a command has said so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// follow starts a command that goes on, until the end of the test.
func (w *world) follow(args ...string) *output {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	cmd := exec.CommandContext(ctx, w.Program("porthole"), args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+w.Host())
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		w.t.Fatal(errors.Join(err, ctx.Err()))
	}
	w.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed, or has ended as it was to
	})
	return out
}

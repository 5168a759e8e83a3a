package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
	"github.com/portholehq/porthole/test/crash/calls"
)

const (
	// settling is how long things may take to disappear.
	settling = 30 * time.Second
	// hanging is how long a command may take.
	hanging = 2 * time.Minute
	// startTime is how long the daemon may take to start.
	startTime = 20 * time.Second
	// roundTime is how long clients go on at the most before their daemon is killed.
	roundTime = 10 * time.Second
	// slack is how many descriptors and goroutines may come and go by themselves.
	slack = 10
	// clients is how many there are at once.
	clients = 4
)

// defaultRounds are few: they are for each run of all tests. `make crash` does 200.
const defaultRounds = 4

// daemon serves all tests of this package. It is nil without root.
var daemon *bed.Daemon

func TestMain(m *testing.M) {
	calls.Main()
	bed.Main(m, func() (func(), error) {
		dir, err := os.MkdirTemp(bed.WorkRoot(), "porthole-crash-")
		if err != nil {
			return nil, err
		}
		if daemon, err = bed.Start(bed.Options{Dir: dir}); err != nil {
			return nil, err
		}
		return func() {
			if err := daemon.Close(); err != nil {
				fmt.Fprintln(os.Stderr, "clean up:", err)
			}
		}, nil
	})
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// figures are what came of a run.
type figures struct {
	kills, failures, operations, interrupted     int
	containers, linesLost, codesLost, deathsLost int
	lines                                        int
	things, thingsLost                           int // images, volumes and networks
	leftovers                                    int
	missed                                       []string // calls that the clients did not come to
}

func (f figures) String() string {
	return fmt.Sprintf("kills: %d, points that failed: %d, operations: %d, interrupted: %d\n"+
		"containers looked at: %d, lost exit codes: %d, lost death records: %d\n"+
		"lines written: %d, lost: %d\n"+
		"images, volumes, networks looked at: %d, lost: %d\n"+
		"leftovers: %d\nnot come to: %q",
		f.kills, f.failures, f.operations, f.interrupted, f.containers, f.codesLost, f.deathsLost, f.lines, f.linesLost, f.things, f.thingsLost, f.leftovers, f.missed)
}

// promise is what must hold of a container that a client was told of.
type promise struct {
	name  string
	lines int
	code  int
}

// thing is an image, volume or network: the word of the command line, and its name.
type thing struct{ kind, name string }

// round is what the clients of one daemon have been told.
type round struct {
	t        *testing.T
	number   int
	registry string      // host:port
	context  string      // directory to build
	dying    atomic.Bool // set before the daemon is killed
	strike   *strike     // nil: it is killed from outside

	mu         sync.Mutex
	sum        *figures
	operations int // of this round
	known      []promise
	there      map[thing]bool // whether it must be there; missing: nobody knows
}

// TestKills: see the package's introduction.
func TestKills(t *testing.T) {
	testenv.NeedsRoot(t)
	seed := number(t, "PORTHOLE_TEST_SEED", rand.Uint64())
	rounds := int(number(t, "PORTHOLE_TEST_CRASH", defaultRounds))
	sum := new(figures)
	t.Cleanup(func() { t.Logf("seed %d, %d rounds\n%v", seed, rounds, *sum) })

	host, before := prepared(t)
	for i := range rounds {
		r := &round{t: t, number: i, registry: host, context: t.TempDir(), sum: sum, there: map[thing]bool{}}
		r.run(seed)
		r.look()
		r.clear(before)
		if t.Failed() {
			t.Fatalf("round %d; PORTHOLE_TEST_SEED=%d makes the same choices\n%s", i, seed, daemon.LogTail(8192))
		}
	}
}

// must runs a command that nothing disturbs.
func must(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hanging)
	defer cancel()
	out, err := daemon.Porthole(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// base is what all tests have in common, once the first has prepared it.
var base struct {
	host   string // of the registry, with its port
	before bed.Snapshot
}

func prepared(t *testing.T) (host string, before bed.Snapshot) {
	t.Helper()
	if base.host == "" {
		server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)))) // until the process ends
		host := strings.TrimPrefix(server.URL, "http://")
		base.before = prepare(t, host)
		base.host = host
	}
	return base.host, base.before
}

// prepare makes what all rounds need, and once each thing that the daemon makes once.
func prepare(t *testing.T, host string) bed.Snapshot {
	t.Helper()
	must(t, "load", "-q", "-i", bed.Archive("busybox"))
	must(t, "run", "--name", "maker", "busybox", "sh", "-c", "head -c 2000000 /dev/urandom >/big")
	must(t, "commit", "maker", host+"/app:1")
	must(t, "rm", "maker")
	must(t, "push", "-q", host+"/app:1")
	must(t, "rmi", host+"/app:1")
	dir := t.TempDir()
	writeContext(t, dir, "prepare")
	must(t, "build", "-q", "-t", "prepared", dir)
	must(t, "rmi", "prepared")
	must(t, "builder", "prune", "-af")
	if err := errors.Join(daemon.Kill(), daemon.Start()); err != nil {
		t.Fatal(err)
	}
	must(t, "run", "--rm", "-p", "127.0.0.1::80", "busybox", "true")
	before, err := daemon.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return before
}

func writeContext(t *testing.T, dir, text string) {
	t.Helper()
	file := "FROM busybox\nRUN echo " + text + " >/made\nRUN cat /made >/again\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
}

// run lets the clients work until the daemon dies under them, and starts the next.
func (r *round) run(seed uint64) {
	must(r.t, "run", "-d", "--name", "keeper", "--network", "none", "busybox", "sleep", "100000")
	writeContext(r.t, r.context, fmt.Sprintf("round%d", r.number))
	random := rand.New(rand.NewPCG(seed, uint64(r.number)<<8))
	enough, moment := 4+random.IntN(24), time.Duration(random.IntN(300))*time.Millisecond
	var all sync.WaitGroup
	for i := range clients {
		c := &worker{round: r, id: i, random: rand.New(rand.NewPCG(seed, uint64(r.number)<<8+uint64(i)+1))}
		all.Go(c.work)
	}
	r.worked(enough)
	<-time.After(moment) // in the midst of whatever there is then
	r.dying.Store(true)
	if err := daemon.Kill(); err != nil {
		r.t.Fatal(err)
	}
	began := time.Now()
	if err := daemon.Start(); err != nil {
		r.t.Fatalf("the daemon does not start: %v\n%s", err, daemon.LogTail(4096))
	}
	if took := time.Since(began); took > startTime {
		r.t.Errorf("the daemon took %v to start", took)
	}
	all.Wait()
	r.sum.kills++
}

// worked waits until the clients have done so much, however fast the machine is, but not for ever.
func (r *round) worked(operations int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(roundTime); ; {
		r.mu.Lock()
		enough := r.operations >= operations
		r.mu.Unlock()
		if enough {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			return
		}
	}
}

// A worker is one client.
type worker struct {
	*round
	id     int
	count  int
	random *rand.Rand
}

// work does one thing after the other, until the daemon dies.
func (w *worker) work() {
	kinds := w.kinds()
	for !w.dying.Load() {
		kinds[w.random.IntN(len(kinds))]()
		w.count++
	}
}

// kinds are all that a client does, what is quick several times.
func (w *worker) kinds() []func() {
	return []func(){
		w.remove, w.remove, w.runRm, w.runDetached, w.runDetached, w.createAndStart, w.exec, w.logs, w.pull, w.build, w.volume, w.network,
		w.rotate, w.commit, w.healthy,
	}
}

func (w *worker) name() string { return fmt.Sprintf("c%d-%d-%d", w.number, w.id, w.count) }

// ask runs a command. Disturbed tells that the daemon died meanwhile, or a step failed: then nobody knows what came of it,
// unless it was successful.
func (w *worker) ask(args ...string) (out string, code int, disturbed bool) {
	ctx, cancel := context.WithTimeout(context.Background(), hanging)
	defer cancel()
	cmd := exec.CommandContext(ctx, daemon.Program("porthole"), args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+daemon.Host(), "DOCKER_CONFIG="+daemon.Dir)
	text, err := cmd.Output()
	out, disturbed = string(text), w.dying.Load() || w.strike.done()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		w.t.Errorf("%q hung", args)
	case errors.As(err, &exit):
		code = exit.ExitCode()
		out += string(exit.Stderr)
	case err != nil:
		w.t.Errorf("%q: %v", args, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.operations++
	w.sum.operations++
	if disturbed {
		w.sum.interrupted++
	}
	return out, code, disturbed
}

// do is ask where only success is right, and tells whether there was it.
func (w *worker) do(args ...string) bool {
	out, code, disturbed := w.ask(args...)
	// Who runs a container whose shim is killed has no more than its code.
	shim := code == 137 && args[0] == "run" && w.strike.kills()
	if code != 0 && (!disturbed || strings.TrimSpace(out) == "" && !shim) {
		w.t.Errorf("%q: code %d: %q", args, code, out)
	}
	return code == 0
}

// program prints numbered lines, some at a time, and ends with a code.
func (w *worker) program() (p promise, args []string) {
	p = promise{w.name(), 20 + w.random.IntN(400), w.random.IntN(100)}
	script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); echo $i; [ $((i%%40)) = 0 ] && usleep 20000; done; exit %d", p.lines, p.code)
	return p, []string{"busybox", "sh", "-c", script}
}

func (w *worker) runRm() {
	p, program := w.program()
	out, code, disturbed := w.ask(append([]string{"run", "--rm", "-v", "/data"}, program...)...)
	if lost := missing(out, p.lines); !disturbed && (code != p.code || lost > 0) {
		w.t.Errorf("run --rm of %d lines: code %d, want %d, %d lines are missing\n%s", p.lines, code, p.code, lost, out)
	}
}

// rotate has the log begin anew many times, and go; the terminal gets each line all the same.
func (w *worker) rotate() {
	p, program := w.program()
	args := []string{"run", "--name", p.name, "--log-opt", "max-size=1k", "--log-opt", "max-file=3"}
	out, code, disturbed := w.ask(append(args, program...)...)
	if lost := missing(out, p.lines); !disturbed && (code != p.code || lost > 0) {
		w.t.Errorf("run of %d lines with a small log: code %d, want %d, %d lines are missing\n%s", p.lines, code, p.code, lost, out)
	}
}

// healthy has probes noted, and files of the image copied into a volume.
func (w *worker) healthy() {
	p, program := w.program()
	args := []string{"run", "-d", "--name", p.name, "-v", "/etc", "--health-cmd", "true", "--health-interval", "50ms"}
	if w.do(append(args, program...)...) {
		w.remember(p)
	}
}

func (w *worker) runDetached() {
	p, program := w.program()
	args := []string{"run", "-d", "--name", p.name, "-p", "127.0.0.1::80"}
	if w.do(append(args, program...)...) {
		w.remember(p)
	}
}

func (w *worker) createAndStart() {
	p, program := w.program()
	if w.do(append([]string{"create", "--name", p.name}, program...)...) && w.do("start", p.name) {
		w.remember(p)
	}
}

func (w *worker) remember(p promise) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known = append(w.known, p)
}

func (w *worker) exec() {
	lines, want := 20+w.random.IntN(400), w.random.IntN(100)
	out, code, disturbed := w.ask("exec", "keeper", "sh", "-c", fmt.Sprintf("seq %d; exit %d", lines, want))
	if lost := missing(out, lines); !disturbed && (code != want || lost > 0) {
		w.t.Errorf("exec of %d lines: code %d, want %d, %d lines are missing\n%s", lines, code, want, lost, out)
	}
}

// take returns a container that others shall leave alone.
func (w *worker) take() (p promise, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.known) == 0 {
		return p, false
	}
	p, w.known = w.known[0], w.known[1:]
	return p, true
}

func (w *worker) logs() {
	p, ok := w.take()
	if !ok {
		return
	}
	defer w.remember(p)
	out, code, disturbed := w.ask("logs", "-f", p.name)
	if lost := missing(out, p.lines); !disturbed && (code != 0 || lost > 0) {
		w.t.Errorf("logs -f of %s: code %d, %d of %d lines are missing", p.name, code, lost, p.lines)
	}
}

// remove may kill a container in the middle of its life.
func (w *worker) remove() {
	p, ok := w.take()
	if !ok {
		return
	}
	if w.do("rm", "-f", p.name) {
		w.set(thing{"container", p.name}, true, false)
	}
}

// set notes what must be from now on, or, if it is not known, that nobody knows.
func (w *worker) set(x thing, known, there bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if known {
		w.there[x] = there
	} else {
		delete(w.there, x)
	}
}

// makeAndRemove makes a thing and, half of the time, removes it.
func (w *worker) makeAndRemove(x thing, create, remove []string) {
	if !w.do(create...) {
		return
	}
	w.set(x, true, true)
	if w.random.IntN(2) == 0 {
		return
	}
	w.set(x, false, false)
	if w.do(remove...) {
		w.set(x, true, false)
	}
}

// pull gets an image under a name of its own.
func (w *worker) pull() {
	if !w.do("pull", "-q", w.registry+"/app:1") {
		return
	}
	name := w.name() + ":pulled"
	w.makeAndRemove(thing{"image", name}, []string{"tag", w.registry + "/app:1", name}, []string{"rmi", name})
}

func (w *worker) build() {
	name := w.name() + ":built"
	w.makeAndRemove(thing{"image", name}, []string{"build", "-q", "-t", name, w.context}, []string{"rmi", name})
}

// commit makes an image of a container, and has it once more from an archive.
func (w *worker) commit() {
	container, file := w.name(), filepath.Join(w.t.TempDir(), "image.tar")
	name := container + ":committed"
	if w.do("run", "--name", container, "busybox", "touch", "/made") && w.do("commit", container, name) && w.do("save", "-o", file, name) && w.do("rmi", name) {
		w.makeAndRemove(thing{"image", name}, []string{"load", "-q", "-i", file}, []string{"rmi", name})
	}
}

func (w *worker) volume() {
	w.makeAndRemove(thing{"volume", w.name()}, []string{"volume", "create", w.name()}, []string{"volume", "rm", w.name()})
}

func (w *worker) network() {
	w.makeAndRemove(thing{"network", w.name()}, []string{"network", "create", w.name()}, []string{"network", "rm", w.name()})
}

// missing counts which of the lines 1 to n are not in their place.
func missing(out string, n int) (lost int) {
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	for i := range max(n, len(lines)) {
		if i >= len(lines) || i >= n || lines[i] != strconv.Itoa(i+1) {
			lost++
		}
	}
	return lost
}

// look sees whether all that clients were told still holds.
func (r *round) look() {
	c, err := client.New(client.Options{Host: daemon.Host()})
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	for _, p := range r.known {
		r.sum.containers++
		r.sum.lines += p.lines
		r.lookAt(p)
		deaths, err := c.Deaths(r.t.Context(), client.DeathsOptions{Container: p.name})
		if err != nil || len(deaths) != 1 {
			r.sum.deathsLost++
			r.t.Errorf("%s has %d death records, %v, want 1", p.name, len(deaths), err)
		}
	}
	for x, want := range r.there {
		r.sum.things++
		_, err := daemon.Porthole(r.t.Context(), x.kind, "inspect", x.name)
		if (err == nil) != want {
			r.sum.thingsLost++
			r.t.Errorf("%s %s is there: %v, want %v (%v)", x.kind, x.name, err == nil, want, err)
		}
	}
	if out := must(r.t, "exec", "keeper", "echo", "alive"); out != "alive" {
		r.t.Errorf("the container that outlived the daemon: %q", out)
	}
}

// lookAt sees whether a container has its exit code and its lines.
func (r *round) lookAt(p promise) {
	out, err := daemon.Porthole(r.t.Context(), "wait", p.name)
	if err != nil {
		r.t.Errorf("%s: wait says %v", p.name, err)
	}
	code := out == strconv.Itoa(p.code)
	out, err = daemon.Porthole(r.t.Context(), "logs", p.name)
	if err != nil {
		r.t.Errorf("%s: logs says %v", p.name, err)
	}
	lost := missing(out, p.lines)
	if code && lost == 0 || r.strike.excuses(p) {
		return
	}
	if !code {
		r.sum.codesLost++
	}
	r.sum.linesLost += lost
	r.t.Errorf("%s: its code is right: %v; %d of %d lines are missing:\n%s", p.name, code, lost, p.lines, out)
}

// clear removes all that the clients have made, and sees that nothing else is left.
func (r *round) clear(before bed.Snapshot) {
	r.removeContainers()
	for _, step := range []struct{ list, remove []string }{
		{[]string{"network", "ls", "-q", "--filter", "type=custom"}, []string{"network", "rm"}},
		{[]string{"volume", "ls", "-q"}, []string{"volume", "rm"}},
		{[]string{"images", "--format", "{{.Repository}}:{{.Tag}}"}, []string{"rmi", "-f"}},
	} {
		names := slices.DeleteFunc(strings.Fields(must(r.t, step.list...)), func(s string) bool {
			return s == "busybox:latest" || strings.HasPrefix(s, "porthole/toolbox:") || s == "<none>:<none>"
		})
		if len(names) > 0 {
			must(r.t, append(step.remove, names...)...)
		}
	}
	must(r.t, "image", "prune", "-f")
	must(r.t, "builder", "prune", "-af")
	ctx, cancel := context.WithTimeout(r.t.Context(), settling)
	defer cancel()
	left, err := daemon.Settled(ctx, before, slack)
	if err != nil {
		r.t.Fatal(err)
	}
	left = append(left, r.orphans()...)
	r.sum.leftovers += len(left)
	if len(left) > 0 {
		r.t.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
	}
}

// removeContainers removes all. Those of run --rm may be going by themselves meanwhile.
func (r *round) removeContainers() {
	deadline := time.Now().Add(settling)
	for {
		ids := strings.Fields(must(r.t, "ps", "-aq", "--no-trunc"))
		if len(ids) == 0 {
			return
		}
		_, err := daemon.Porthole(r.t.Context(), append([]string{"rm", "-f", "-v"}, ids...)...)
		if err != nil && time.Now().After(deadline) {
			r.t.Fatalf("containers stay: %v", err)
		}
	}
}

// orphans are the files below the data root that belong to nobody, as soon as nothing is being made or removed.
func (r *round) orphans() []string {
	ctx, cancel := context.WithTimeout(r.t.Context(), settling)
	defer cancel()
	c, err := client.New(client.Options{Host: daemon.Host()})
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var left []string
	for {
		l, err := c.DiskLedger(ctx)
		if err != nil && len(left) > 0 {
			return left // for as long as was waited
		}
		if err != nil {
			r.t.Fatal(err)
		}
		left = nil
		for _, a := range l.Accounts {
			// Of what is unfinished or going only the folders may stay.
			if a.Owner == "orphan" || (a.Owner == "unfinished" || a.Owner == "removing") && a.Bytes > 64<<10 {
				left = append(left, fmt.Sprintf("file %s (%s %s, %d bytes)", a.Path, a.Owner, a.Part, a.Bytes))
			}
		}
		if len(left) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return left
		}
	}
}

package crash

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/failpoint/arm"
	"github.com/portholehq/porthole/internal/testenv"
)

// defaultPoints are how many points each run of all tests comes to, of either test. `make crash` has all.
const defaultPoints = 3

// point is a place in the source where a durable write may fail, or only end.
type point struct {
	name string
	fail bool // Hit; else Pass
}

// points finds all in the source, so that a new one is tested without a line.
func points(t *testing.T) (list []point) {
	t.Helper()
	files := token.NewFileSet()
	err := filepath.WalkDir("../../internal", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if p, ok := pointOf(n); ok {
				if p.name == "" {
					t.Errorf("%s: the name of a point is not written out", files.Position(n.Pos()))
				} else if !slices.Contains(list, p) {
					list = append(list, p)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatal("there are no points in the source")
	}
	slices.SortFunc(list, func(a, b point) int { return strings.Compare(a.name, b.name) })
	return list
}

// pointOf tells whether a node is a call of failpoint.Hit or Pass.
func pointOf(n ast.Node) (p point, ok bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) != 1 {
		return p, false
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return p, false
	}
	if pkg, ok := f.X.(*ast.Ident); !ok || pkg.Name != "failpoint" || f.Sel.Name != "Hit" && f.Sel.Name != "Pass" {
		return p, false
	}
	p.fail = f.Sel.Name == "Hit"
	if text, ok := call.Args[0].(*ast.BasicLit); ok && text.Kind == token.STRING {
		p.name, _ = strconv.Unquote(text.Value)
	}
	return p, true
}

// strike is what is to happen to a round at one point. Its methods may be called on nil, to which nothing happens.
type strike struct {
	point
	effect string // kill, torn, enospc, eio or short; empty: hits are only counted
	hit    int
	dir    string
	watch  *watch // the point is a system call; nil: a place in the source

	shim    bool // it was a shim that died, not the daemon
	excused bool
}

func (s *strike) String() string { return fmt.Sprintf("%s=%s@%d", s.name, s.effect, s.hit) }

func (s *strike) env() []string {
	if s.watch != nil {
		return nil
	}
	text := ""
	if s.effect != "" {
		text = s.String()
	}
	return []string{arm.DirVariable + "=" + s.dir, arm.Variable + "=" + text}
}

// hits is how often a point was come to. It is counted before anything comes of it.
func (s *strike) hits(name string) int {
	if s.watch != nil {
		return s.watch.hits(name)
	}
	info, err := os.Stat(filepath.Join(s.dir, name))
	if err != nil {
		return 0
	}
	return int(info.Size())
}

// done tells whether it has happened.
func (s *strike) done() bool { return s != nil && s.effect != "" && s.hits(s.name) >= s.hit }

// died waits for the process that has died of it, and tells its id.
func (s *strike) died(t *testing.T) int {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(settling); time.Now().Before(deadline); <-tick.C {
		if s.watch != nil {
			if pid := s.watch.victim(); pid != 0 {
				return pid
			}
			continue
		}
		text, err := os.ReadFile(filepath.Join(s.dir, arm.Died))
		if pid, ok := strings.CutSuffix(string(text), "\n"); ok {
			n, err := strconv.Atoi(pid)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	t.Fatalf("%v: nobody has died", s)
	return 0
}

// forgets tells whether the daemon keeps no image any more: once a disk has not taken what was written, nobody knows what
// else it has not (image/flush).
func (s *strike) forgets() bool {
	file, call, _ := strings.Cut(s.name, " ")
	return s.watch != nil && !s.kills() && (call == "fdatasync" || file == "images/flushed") && slices.Contains(flushed, file)
}

var flushed = []string{"images/flushed", "images/metadata.db", "images/layers/overlay/metadata.db", "build/metadata.db"}

// end ends the failures.
func (s *strike) end(t *testing.T) {
	t.Helper()
	if s.watch != nil {
		s.watch.end()
	} else if err := os.WriteFile(filepath.Join(s.dir, arm.Over), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// kills tells whether a process dies of it.
func (s *strike) kills() bool { return s != nil && (s.effect == "kill" || s.effect == "torn") }

// excuses tells whether a container may have lost lines and its code: the one whose shim has died, and those whose log
// could not be written. Their clients can still ask for both.
func (s *strike) excuses(promise) bool {
	if s == nil || !s.done() {
		return false
	}
	if !s.kills() {
		return strings.HasPrefix(s.name, "crilog.") || strings.HasPrefix(s.name, "containers/*/logs")
	}
	first := !s.excused
	s.excused = true
	return s.shim && first
}

// tagged has the daemon be of programs in which points can be set.
func tagged(t *testing.T) {
	t.Helper()
	dir := filepath.Join(daemon.Dir, "tagged")
	if daemon.Bin == dir {
		return
	}
	buildTagged(t, dir)
	for _, program := range []string{"porthole", "porthole-build", "porthole-oci"} {
		if err := os.Symlink(daemon.Program(program), filepath.Join(dir, program)); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"portholed", "porthole-shim"} {
		for bin, want := range map[string]bool{daemon.Bin: false, dir: true} {
			text, err := os.ReadFile(filepath.Join(bin, program))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(string(text), arm.Variable); got != want {
				t.Errorf("%s takes points from its environment: %v, want %v", filepath.Join(bin, program), got, want)
			}
		}
	}
	for i, p := range base.before.Processes {
		base.before.Processes[i] = strings.ReplaceAll(p, filepath.Join(daemon.Bin, "portholed"), filepath.Join(dir, "portholed"))
	}
	daemon.Bin = dir
}

// buildTagged puts daemon and shim into dir, or takes those of PORTHOLE_TEST_POINTS_BIN.
func buildTagged(t *testing.T, dir string) {
	t.Helper()
	if bin := os.Getenv("PORTHOLE_TEST_POINTS_BIN"); bin != "" {
		if err := os.CopyFS(dir, os.DirFS(bin)); err != nil {
			t.Fatal(err)
		}
		return
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-tags", "failpoint", "-o", dir+"/", "./cmd/portholed", "./cmd/porthole-shim")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build programs with points: %v\n%s", err, out)
	}
}

// restart ends the daemon and starts one to which s happens; nil: nothing does.
func restart(t *testing.T, s *strike) error {
	t.Helper()
	if err := daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	daemon.Env, daemon.Prepare = nil, nil
	if s != nil {
		daemon.Env = s.env()
		if s.watch != nil {
			daemon.Prepare = s.watch.prepare
		}
	}
	return daemon.Start()
}

// counts are how often the works come to each point: until the daemon is up, and until their end.
type counts struct{ start, end map[string]int }

var counted *counts // by the first test that needs it

// count has the clients do all there is once, and fails if a point is not come to.
func count(t *testing.T, list []point, seed uint64) *counts {
	t.Helper()
	if counted != nil {
		return counted
	}
	r := newPointRound(t, &strike{}, 0, new(figures))
	c := &counts{start: map[string]int{}, end: map[string]int{}}
	if err := restart(t, r.strike); err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		c.start[p.name] = r.strike.hits(p.name)
	}
	r.clients(seed, 0)
	r.await(func() bool {
		return !slices.ContainsFunc(list, func(p point) bool { return r.strike.hits(p.name) == 0 })
	})
	r.look()
	r.clear(base.before)
	for _, p := range list {
		if c.end[p.name] = r.strike.hits(p.name); c.end[p.name] == 0 {
			t.Errorf("what the clients do does not come to %s", p.name)
		}
	}
	t.Logf("hits of points: %v", c.end)
	counted = c
	return c
}

// chosen are the points of one run, from one on that the seed says.
func chosen(t *testing.T, all []point, random *rand.Rand) []point {
	t.Helper()
	if text := os.Getenv("PORTHOLE_TEST_POINT"); text != "" {
		only := regexp.MustCompile(text)
		all = slices.DeleteFunc(slices.Clone(all), func(p point) bool { return !only.MatchString(p.name) })
		if len(all) == 0 {
			t.Fatalf("no point is called %s", text)
		}
	}
	n := min(int(number(t, "PORTHOLE_TEST_POINTS", defaultPoints)), len(all))
	from := random.IntN(len(all))
	return append(all[from:len(all):len(all)], all[:from]...)[:n]
}

func newPointRound(t *testing.T, s *strike, i int, sum *figures) *round {
	t.Helper()
	s.dir = filepath.Join(daemon.Dir, "points", strings.ReplaceAll(fmt.Sprint(t.Name(), i), "/", "-"))
	// Shims are nobody, and write there as well.
	for _, dir := range []string{daemon.Dir, filepath.Dir(s.dir)} {
		if err := errors.Join(os.MkdirAll(dir, 0o711), os.Chmod(dir, 0o711)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.MkdirAll(s.dir, 0o777), os.Chmod(s.dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	r := &round{t: t, number: i, registry: base.host, context: t.TempDir(), sum: sum, there: map[thing]bool{}, strike: s}
	// Its shim has no points.
	must(t, "run", "-d", "--name", "keeper", "--network", "none", "busybox", "sleep", "100000")
	writeContext(t, r.context, filepath.Base(s.dir))
	return r
}

// afterwards is how many things a client still does once steps fail.
const afterwards = 2

// clients has each client do all there is in an order of its own, until it has happened.
func (r *round) clients(seed uint64, again int) {
	var all sync.WaitGroup
	for i := range clients {
		w := &worker{round: r, id: i, random: rand.New(rand.NewPCG(seed+uint64(again), uint64(r.number)<<8+uint64(i)+1))}
		w.count = again << 8 // names are not used twice
		all.Go(func() {
			kinds, after := w.kinds(), 0
			w.random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
			for _, kind := range kinds {
				if r.strike.done() {
					if after++; r.strike.kills() || after > afterwards {
						return
					}
				}
				kind()
				w.count++
			}
		})
	}
	all.Wait()
}

// timed is what the daemon does by the clock at the most: it writes the journal to the disk, takes samples, packs logs.
const timed = 5 * time.Second

// await waits for what nobody asks for, but no longer than that takes.
func (r *round) await(done func() bool) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(timed); !done(); {
		select {
		case <-tick.C:
		case <-deadline:
			return
		}
	}
}

// runPoints does with points what effect says.
func runPoints(t *testing.T, effects []string, of func(point) bool) {
	testenv.NeedsRoot(t)
	seed := number(t, "PORTHOLE_TEST_SEED", rand.Uint64())
	prepared(t)
	tagged(t)
	random := rand.New(rand.NewPCG(seed, 0))
	all := points(t)
	hits := count(t, all, seed)
	list := chosen(t, slices.DeleteFunc(slices.Clone(all), func(p point) bool { return !of(p) }), random)
	sum := new(figures)
	t.Cleanup(func() {
		t.Logf("seed %d, %d of %d points\n%v", seed, len(list), len(all), *sum)
		if err := restart(t, nil); err != nil {
			t.Error(err)
		}
	})
	for i, p := range list {
		s := newStrike(p, effects[random.IntN(len(effects))], hits, random)
		s.strike(t, i+1, seed, sum)
	}
}

// newStrike decides which of the times that a point is come to it is.
func newStrike(p point, effect string, hits *counts, random *rand.Rand) *strike {
	s, least := &strike{point: p, effect: effect}, 0
	if !s.kills() && hits.end[p.name] > hits.start[p.name] {
		least = hits.start[p.name] // a daemon that does not start answers nobody
	}
	s.hit = least + 1 + random.IntN(max(1, min(20, (hits.end[p.name]-least)/2)))
	return s
}

// strike is one round of it.
func (s *strike) strike(t *testing.T, number int, seed uint64, sum *figures) {
	t.Run(s.String(), func(t *testing.T) {
		r := newPointRound(t, s, number, sum)
		r.strikeAt(seed)
		r.look()
		r.clear(base.before)
		if t.Failed() {
			t.Errorf("PORTHOLE_TEST_SEED=%d makes the same choices\n%s", seed, daemon.LogTail(8192))
		}
	})
	if t.Failed() { // what is left is not the next one's
		must(t, "system", "prune", "--orphans", "-f")
		now, err := daemon.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		base.before = now
	}
}

// strikeAt has clients work until it happens, and afterwards a daemon that works.
func (r *round) strikeAt(seed uint64) {
	s := r.strike
	err := restart(r.t, s)
	switch {
	case err != nil && !s.done():
		r.t.Fatal(err)
	case err == nil:
		worked := r.work(seed)
		// A client that follows a log waits for the next daemon.
		defer func() { <-worked }()
		r.struck(worked)
	}
	began := time.Now()
	switch {
	case !s.done() && s.watch != nil: // it depends on what is in time for what
		r.sum.missed = append(r.sum.missed, s.name)
		s.end(r.t)
	case !s.done():
		r.t.Errorf("%v: what the clients do does not come to it", s)
	case s.kills():
		r.sum.kills++
		if s.shim = s.died(r.t) != daemon.LastPid(); !s.shim {
			r.daemonEnds()
		}
	default:
		r.sum.failures++
	}
	if !s.kills() {
		s.end(r.t)
	}
	switch {
	case s.done() && s.forgets(): // until its next start, as it says
		if err := restart(r.t, nil); err != nil {
			r.t.Fatalf("the daemon does not start: %v", err)
		}
	case daemon.Pid() != 0: // goes on
	case s.shim, !s.kills() && err == nil:
		r.t.Fatalf("the daemon has ended, of %v:\n%s", s, daemon.LogTail(8192))
	default:
		if err := restart(r.t, nil); err != nil {
			r.t.Fatalf("the daemon does not start: %v", err)
		}
	}
	if took := time.Since(began); took > startTime {
		r.t.Errorf("the daemon took %v to start", took)
	}
	r.t.Logf("%v: shim: %v", s, s.shim)
}

// work has clients work, up to three times, until it happens. It closes worked when they have ended.
func (r *round) work(seed uint64) (worked <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for again := range 3 {
			r.clients(seed, again)
			if r.await(r.strike.done); r.strike.done() {
				return
			}
		}
	}()
	return done
}

// struck waits until a process has come to its death, or clients have done what they do where steps fail.
func (r *round) struck(worked <-chan struct{}) {
	if !r.strike.kills() {
		<-worked
		return
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !r.strike.done() {
		select {
		case <-worked:
			return
		case <-tick.C:
		}
	}
}

// daemonEnds waits until the daemon, which is dying, is dead.
func (r *round) daemonEnds() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), settling)
	defer cancel()
	if !daemon.Ended(ctx) {
		r.t.Fatalf("%v: the daemon goes on", r.strike)
	}
}

// TestPoints ends the process that comes to a point: see the package's introduction.
func TestPoints(t *testing.T) {
	runPoints(t, []string{"kill"}, func(point) bool { return true })
}

// TestFailingPoints has the step fail that comes after a point.
func TestFailingPoints(t *testing.T) {
	runPoints(t, []string{"enospc", "eio"}, func(p point) bool { return p.fail })
}

package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/apparmor"
	"github.com/portholehq/porthole/internal/linux/witness"
	"github.com/portholehq/porthole/internal/sys"
	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

// settling is how long things may take to disappear.
var settling = bed.Patience(15 * time.Second)

// slack is how many descriptors and goroutines may come and go by themselves.
const slack = 4

// daemon serves all tests of this package. It is nil without root.
var daemon *bed.Daemon

func TestMain(m *testing.M) {
	switch os.Getenv(standIn) {
	case "java":
		endAs(virtualMachine())
	case "attach":
		endAs(attach())
	}
	bed.Main(m, func() (func(), error) {
		dir, err := os.MkdirTemp(bed.WorkRoot(), "porthole-script-")
		if err != nil {
			return nil, err
		}
		d, err := bed.Start(bed.Options{Dir: dir, Args: strings.Fields(os.Getenv("PORTHOLE_TEST_DAEMON_ARGS"))})
		if err != nil {
			return nil, err
		}
		daemon = d
		// What the daemon makes once, at its first container, is no leftover.
		ctx, cancel := context.WithTimeout(context.Background(), bed.Patience(time.Minute))
		defer cancel()
		if err := loadImage(ctx, "busybox"); err != nil {
			return nil, errors.Join(err, d.Close())
		}
		if _, err := d.Porthole(ctx, "run", "--rm", "busybox", "true"); err != nil {
			return nil, errors.Join(err, d.Close())
		}
		return func() {
			if os.Getenv("PORTHOLE_TEST_KEEP") != "" {
				fmt.Fprintln(os.Stderr, "kept", d.Dir)
				return
			}
			if err := d.Close(); err != nil {
				fmt.Fprintln(os.Stderr, "clean up:", err)
			}
		}, nil
	})
}

// loaded remembers which images the daemon has.
var loaded sync.Map

// loadImage makes sure that the daemon has a test image.
func loadImage(ctx context.Context, name string) error {
	if _, ok := loaded.Load(name); ok {
		return nil
	}
	if _, err := daemon.Porthole(ctx, "load", "-q", "-i", bed.Archive(name)); err != nil {
		return fmt.Errorf("load image %s (make test-images): %w", name, err)
	}
	loaded.Store(name, true)
	return nil
}

// removeAll removes all containers, volumes and networks.
func removeAll(ctx context.Context) error {
	ids, err := daemon.Porthole(ctx, "ps", "-aq", "--no-trunc")
	if err != nil {
		return err
	}
	if ids != "" {
		if _, err := daemon.Porthole(ctx, append([]string{"rm", "-f", "-v"}, strings.Fields(ids)...)...); err != nil {
			return err
		}
	}
	networks, err := daemon.Porthole(ctx, "network", "ls", "-q", "--filter", "type=custom")
	if err != nil {
		return err
	}
	if networks != "" {
		if _, err := daemon.Porthole(ctx, append([]string{"network", "rm"}, strings.Fields(networks)...)...); err != nil {
			return err
		}
	}
	names, err := daemon.Porthole(ctx, "volume", "ls", "-q")
	if err != nil {
		return err
	}
	if names != "" {
		if _, err := daemon.Porthole(ctx, append([]string{"volume", "rm", "-f"}, strings.Fields(names)...)...); err != nil {
			return err
		}
	}
	return nil
}

// begin prepares a test that needs some images, or busybox, and leaves nothing behind: all there is beyond what it
// returns fails the test.
func begin(t *testing.T, images ...string) bed.Snapshot {
	t.Helper()
	testenv.NeedsRoot(t)
	if len(images) == 0 {
		images = []string{"busybox"}
	}
	for _, name := range images {
		if err := loadImage(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	before, err := daemon.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	logged := len(daemon.LogTail(1 << 30))
	t.Cleanup(func() { tidy(t, before, logged) })
	return before
}

// settled returns what is left after waiting for it to go.
func settled(ctx context.Context, before bed.Snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	left, err := daemon.Settled(ctx, before, slack)
	if err == nil && len(left) > 0 {
		err = errors.New("left behind:\n  " + strings.Join(left, "\n  "))
	}
	return err
}

// sequential runs scripts one after the other, since they count what is left.
type sequential struct{ *testing.T }

func (sequential) Parallel()       {}
func (s sequential) Verbose() bool { return testing.Verbose() }
func (s sequential) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(sequential{t}) })
}

func (s sequential) Skip(args ...any) {
	testenv.Skip(s.T, "%s", strings.TrimSpace(fmt.Sprintln(args...)))
}

func TestScript(t *testing.T) {
	testenv.NeedsRoot(t)
	docker := testenv.NeedsProgram(t, "docker")
	porthole := daemon.Program("porthole")
	for _, suite := range []struct{ name, dir, cli string }{
		{"porthole", "testdata/both", porthole},
		{"docker", "testdata/both", docker},
		{"own", "testdata/own", porthole},
		{"real", "testdata/real", porthole},
	} {
		t.Run(suite.name, func(t *testing.T) {
			testscript.RunT(sequential{t}, testscript.Params{
				Dir:                filepath.FromSlash(suite.dir),
				Setup:              func(env *testscript.Env) error { return setup(env, suite.cli) },
				Cmds:               commands(),
				Condition:          condition,
				RequireUniqueNames: true,
			})
		})
	}
}

// condition answers [userns] and such.
func condition(name string) (bool, error) {
	switch name {
	case "uml":
		return os.Getenv("PORTHOLE_TEST_UML") != "", nil
	case "signals":
		return signalsWatched() == nil, nil
	case "apparmor": // is on, and profiles can be loaded
		_, err := exec.LookPath("apparmor_parser")
		return err == nil && apparmor.Host{}.Enabled() == nil, nil
	case "pids": // the kernel translates numbers of processes between namespaces
		return pidsTranslated() == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// pidsTranslated tells why numbers of processes are not translated; nil: they are.
func pidsTranslated() error {
	ns, err := os.Open("/proc/self/ns/pid")
	if err != nil {
		return err
	}
	defer ns.Close()
	_, err = sys.PIDFrom(int(ns.Fd()), os.Getpid())
	return err
}

// signalsWatched tells why signals cannot be watched on this machine; nil: they can.
var signalsWatched = sync.OnceValue(func() error {
	w, err := witness.Open(func() (uint64, error) { return 1, nil })
	if err != nil {
		return err
	}
	return w.Close()
})

// setup prepares one script, and what is checked after it.
func setup(env *testscript.Env, cli string) error {
	t := env.T().(sequential).T
	before, err := daemon.Snapshot()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, daemon.LogTail(4096))
	}
	env.Setenv("CLI", cli)
	env.Setenv("DOCKER_HOST", daemon.Host())
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("DOCKER_CONFIG", filepath.Join(env.WorkDir, ".docker"))
	env.Setenv("DOCKER_CLI_HINTS", "false")
	env.Setenv("SOCKET", daemon.Socket)
	env.Setenv("DATAROOT", daemon.DataRoot())
	env.Setenv("EXECROOT", daemon.ExecRoot())
	env.Setenv("CGROUPPARENT", daemon.CgroupParent)
	env.Setenv("IMAGES", bed.ImageDir())
	env.Setenv("PATH", daemon.Bin+":"+os.Getenv("PATH"))
	env.Setenv("GORACE", os.Getenv("GORACE"))
	env.Values[beforeKey{}] = before
	logged := len(daemon.LogTail(1 << 30))
	env.Defer(func() { tidy(t, before, logged) })
	return loadImage(t.Context(), "busybox")
}

type beforeKey struct{}

// tidy removes what a script has left, and fails it for what cannot be removed.
func tidy(t *testing.T, before bed.Snapshot, logged int) {
	ctx, cancel := context.WithTimeout(context.Background(), bed.Patience(time.Minute)) //nolint:usetesting // the test's context has ended
	defer cancel()
	if daemon.Pid() == 0 {
		if err := daemon.Start(); err != nil {
			t.Error(err)
			return
		}
	}
	err := removeAll(ctx)
	if err == nil {
		err = settled(ctx, before)
	}
	if err != nil {
		t.Errorf("after the script: %v", err)
	}
	if lines := daemon.Panics(logged); len(lines) > 0 {
		t.Errorf("the daemon panicked, or a shim raced:\n%s\n%s", strings.Join(lines, "\n"), daemon.LogTail(8192))
	}
	if text, err := bed.Races(); text != "" || err != nil {
		t.Errorf("races: %v\n%s", err, text)
	}
}

func commands() map[string]func(*testscript.TestScript, bool, []string) {
	program := func(name string) func(*testscript.TestScript, bool, []string) {
		return func(ts *testscript.TestScript, neg bool, args []string) {
			if name == "" {
				run(ts, neg, append([]string{ts.Getenv("CLI")}, args...))
				return
			}
			run(ts, neg, append([]string{name}, args...))
		}
	}
	return map[string]func(*testscript.TestScript, bool, []string){
		"cli":          program(""),
		"porthole":     program("porthole"),
		"docker":       program("docker"),
		"compose":      cmdCompose,
		"buildx":       cmdBuildx,
		"status":       cmdStatus,
		"until":        cmdUntil,
		"capture":      cmdCapture,
		"image":        cmdImage,
		"daemon":       cmdDaemon,
		"fetch":        cmdFetch,
		"serve":        cmdServe,
		"clean":        cmdClean,
		"nothing-left": cmdNothingLeft,
	}
}

// resolve replaces the commands cli and compose by the programs that they stand
// for, and leaves out exec.
func resolve(ts *testscript.TestScript, args []string) []string {
	switch args[0] {
	case "cli":
		return append([]string{ts.Getenv("CLI")}, args[1:]...)
	case "compose":
		return append([]string{composePath(ts)}, args[1:]...)
	case "exec":
		return args[1:]
	}
	return args
}

func run(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[0], args[1:]...)
	if neg && err == nil {
		ts.Fatalf("unexpected success")
	}
	if !neg && err != nil {
		ts.Fatalf("%v", err)
	}
}

func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	args = resolve(ts, args[1:])
	got := 0
	if err := ts.Exec(args[0], args[1:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("ended with status %d, want %d", got, want)
	}
}

// cmdUntil waits for output that nothing announces.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	succeeds := len(args) > 0 && args[0] == "-ok"
	if succeeds {
		args = args[1:]
	}
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until [-ok] PATTERN COMMAND...")
	}
	pattern := args[0]
	re, err := regexp.Compile("(?m)" + pattern)
	ts.Check(err)
	args = resolve(ts, args[1:])
	deadline := time.Now().Add(bed.Patience(30 * time.Second))
	for {
		err := ts.Exec(args[0], args[1:]...) // it may well fail at first
		out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if re.MatchString(out) && (err == nil || !succeeds) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("never matched %q; at last it ended with %v and printed:\n%s", pattern, err, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: capture VAR COMMAND...")
	}
	cmd := resolve(ts, args[1:])
	ts.Check(ts.Exec(cmd[0], cmd[1:]...))
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

func cmdImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: image NAME...")
	}
	for _, name := range args {
		ts.Check(loadImage(context.Background(), name))
	}
}

func cmdDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 1 && args[0] != "start" {
		ts.Fatalf("usage: daemon kill|stop|start [NAME=VALUE...]|hup")
	}
	switch args[0] {
	case "kill":
		ts.Check(daemon.Kill())
	case "stop":
		ts.Check(daemon.Stop())
	case "start":
		daemon.Env = args[1:]
		ts.Check(daemon.Start())
		daemon.Env = nil
	case "hup":
		ts.Check(daemon.Signal(unix.SIGHUP))
	default:
		ts.Fatalf("unknown verb %q", args[0])
	}
}

func cmdFetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fetch URL")
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Get(args[0])
	ts.Check(err)
	defer resp.Body.Close()
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
}

// cmdServe serves a directory by HTTP to the end of the script, and puts the URL
// into a variable.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: serve VAR DIR")
	}
	server := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[1]))))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

func cmdClean(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: clean")
	}
	ts.Check(removeAll(context.Background()))
	cmdNothingLeft(ts, neg, args)
}

func cmdNothingLeft(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: nothing-left")
	}
	before, ok := ts.Value(beforeKey{}).(bed.Snapshot)
	if !ok {
		ts.Fatalf("no snapshot")
	}
	ts.Check(settled(context.Background(), before))
}

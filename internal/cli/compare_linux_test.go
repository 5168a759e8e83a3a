package cli

import (
	"archive/tar"
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
)

// asTool makes the test binary run as the program of the test image.
const asTool = "PORTHOLE_TEST_TOOL"

// tool does one thing in a container, so that the image needs no other file.
func tool(args []string) int {
	switch args[0] {
	case "say":
		fmt.Println("out")
		fmt.Fprintln(os.Stderr, "err")
		code, _ := strconv.Atoi(args[1])
		return code
	case "env":
		for _, v := range os.Environ() {
			if strings.HasPrefix(v, "T_") || strings.HasPrefix(v, "TERM=") {
				fmt.Println(v)
			}
		}
	case "cat":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "wait":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("waiting")
		<-c
		return 7
	}
	return 0
}

// compareCases are run by both command lines on one Docker daemon, on which
// "web" runs and "old" has ended with code 3. What a case leaves behind is
// undone between the two.
var compareCases = []struct{ line, undo string }{
	{"run --rm --network none tool say 0", ""},
	{"run --rm --network none tool say 9", ""},
	{"run --rm --network none -t tool say 0", ""},
	{"run --rm --network none -a stdout tool say 0", ""},
	{"run --rm --network none -a stderr tool say 4", ""},
	{"run --rm --network none -e T_A=x=y tool env", ""},
	{"run --rm --network none -t tool env", ""},
	{"run --rm --network none -i tool cat", ""},
	{"run --rm --network none --entrypoint /nosuch tool", ""},
	{"run --rm --network none --entrypoint /etc tool", ""},
	{"run --rm --network none --entrypoint nosuch tool", ""},
	{"run --rm --network none -m 1m tool say 0", ""},
	{"run --rm --network none --cpus 1000 tool say 0", ""},
	{"run --rm --network none --stop-signal NOPE tool say 0", ""},
	{"run --rm --network nosuch tool say 0", ""},
	{"run --rm --network none --volumes-from nosuch tool say 0", ""},
	{"run --rm --network none -w relative tool say 0", ""},
	{"run --rm --network none -u nosuch tool say 0", ""},
	{"run --rm --network none --name web tool say 0", ""},
	{"run --rm --network none --pull never nosuch", ""},
	{"create --name made --network none tool", "rm made"},
	{"run -d --name made --network none tool wait", "rm -f made"},
	{"ps", ""},
	{"ps -a", ""},
	{"ps -a --no-trunc", ""},
	{"ps -as", ""},
	{"ps -aq -f status=exited", ""},
	{"ps -a -f name=w", ""},
	{"ps -a -f exited=3 --format {{.Names}}", ""},
	{"ps -f nope=x", ""},
	{"inspect web", ""},
	{"inspect -s old", ""},
	{"inspect -f {{json.State}}{{.HostConfig.NetworkMode}} web", ""},
	{"inspect tool", ""},
	{"inspect none", ""},
	{"network ls", ""},
	{"volume ls", ""},
	{"images", ""},
	{"images -q --no-trunc", ""},
	{"history tool", ""},
	{"logs web", ""},
	{"logs old", ""},
	{"logs -n 1 old", ""},
	{"logs -t old", ""},
	{"logs nosuch", ""},
	{"exec web /tool say 5", ""},
	{"exec -e T_X=1 -w / web /tool env", ""},
	{"exec -t web /tool env", ""},
	{"exec -i web /tool cat", ""},
	{"exec -d web /tool say 0", ""},
	{"exec web nosuch", ""},
	{"exec -w /nosuch web /tool say 0", ""},
	{"exec old /tool say 0", ""},
	{"exec nosuch x", ""},
	{"top old", ""},
	{"top web", ""},
	{"top web -o pid,comm", ""},
	{"diff web", ""},
	{"pause web", "unpause web"},
	{"unpause web", ""},
	{"pause old", ""},
	{"kill old", ""},
	{"kill -s NOPE web", ""},
	{"kill -s CONT web", ""},
	{"attach old", ""},
	{"start web", ""},
	{"start -a old", ""},
	{"wait old", ""},
	{"rename web wub", "rename wub web"},
	{"rm web", ""},
	{"rm nosuch web", ""},
	{"update -m 300m --memory-swap 400m web", ""},
	{"update -m 1m web nosuch", ""},
	{"cp web:/nosuch /tmp", ""},
	{"cp web:/etc -", ""},
	{"cp /etc/hostname web:/nosuch/dir/x", ""},
	{"stats --no-stream --format {{.Name}}|{{.PIDs}}|{{.NetIO}} web", ""},
	{"stats --no-stream nosuch", ""},
	{"stop -t 5 web", "start web"},
	{"restart -t 0 old nosuch", "stop -t 0 old"},
	{"tag tool tool:two", "rmi tool:two"},
	{"rmi tool", ""},
	{"save nosuch", ""},
	{"volume create vol", "volume rm vol"},
	{"volume rm nosuch", ""},
	{"network inspect bridge", ""},
	{"network rm none", ""},
	{"version -f {{.Server.Version}}", ""},
	{"info -f {{.Containers}}", ""},
	{"events --since 1h --until 0s -f type=image -f event=tag", ""},
	{"system df", ""},
}

// TestCompareWithDocker runs both command lines against a Docker daemon and
// compares what they print and how they end.
func TestCompareWithDocker(t *testing.T) {
	testenv.NeedsRoot(t)
	dockerd := testenv.NeedsProgram(t, "dockerd")
	docker := docker28(t)
	host := startDockerd(t, dockerd)
	setUp(t, docker, host)
	ours := porthole(t)
	run := func(p program, line string) result {
		args := strings.Fields(line)
		if slices.Contains(args, "-i") {
			p.stdin = "typed\n"
		}
		return p.run(t, host, args...)
	}
	for _, c := range compareCases {
		t.Run(c.line, func(t *testing.T) {
			if strings.Contains(c.line, "--until 0s") {
				// Clients cut the moment to seconds: both have to ask when the second
				// of what happened is over.
				<-time.After(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
			}
			compare := func() string {
				want := run(docker, c.line)
				if c.undo != "" {
					docker.must(t, host, strings.Fields(c.undo)...)
				}
				got := withoutOurs(run(ours, c.line).asDocker())
				if c.undo != "" {
					docker.must(t, host, strings.Fields(c.undo)...)
				}
				want.Out, want.Err = notDockers.Replace(want.Out), notDockers.Replace(want.Err)
				return cmp.Diff(steady(want.String()), steady(got.String()))
			}
			diff := compare()
			if strings.Contains(diff, "*") {
				diff = compare() // columns of "9 seconds" and of "10 seconds" are not as wide; time goes on, faults stay
			}
			if diff != "" {
				t.Errorf("differs (-docker +porthole):\n%s", diff)
			}
		})
	}
}

// unsteady are parts of an output that two runs do not share. Of several
// containers that use an image Docker names any one.
var unsteady = regexp.MustCompile(`\b[0-9a-f]{64}\b|container [0-9a-f]{12} is using|\b\d+ (seconds?|minutes?)( ago)?|Less than a second( ago)?|1 second( ago)?|About a minute( ago)?|"StartedAt": "[^"]*"|"FinishedAt": "[^"]*"|"Pid": \d+`)

func steady(text string) string { return unsteady.ReplaceAllString(text, "*") }

func (p program) must(t *testing.T, host string, args ...string) {
	t.Helper()
	if r := p.run(t, host, args...); r.Code != 0 {
		t.Fatalf("%q: %s", args, r)
	}
}

// setUp makes the image "tool", whose only file is this test's program, and
// the containers "web" and "old".
func setUp(t *testing.T, docker program, host string) {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if program, err := elf.NewFile(bytes.NewReader(self)); err == nil && program.Section(".interp") != nil {
		testenv.Skip(t, "needs a static test binary: run with CGO_ENABLED=0")
	}
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	for _, head := range []*tar.Header{
		{Name: "tool", Mode: 0o755, Size: int64(len(self)), Typeflag: tar.TypeReg},
		{Name: "etc/", Mode: 0o755, Typeflag: tar.TypeDir},
	} {
		if err := w.WriteHeader(head); err != nil {
			t.Fatal(err)
		}
		if head.Size > 0 {
			if _, err := w.Write(self); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = w.Close()
	loader := docker
	loader.stdin = image.String()
	loader.must(t, host, "import", "-c", "ENV "+asTool+"=1", "-c", `ENTRYPOINT ["/tool"]`, "-", "tool")
	docker.must(t, host, "run", "-d", "--name", "web", "--network", "none", "-l", "a=b", "tool", "wait")
	if r := docker.run(t, host, "run", "--name", "old", "--network", "none", "tool", "say", "3"); r.Code != 3 {
		t.Fatalf("old: %s", r)
	}
}

// startDockerd starts a daemon in a network of its own, which ends with the
// test.
func startDockerd(t *testing.T, dockerd string) (host string) {
	t.Helper()
	// Not t.TempDir, whose removal fails on what the daemon leaves mounted.
	dir, err := os.MkdirTemp("/var/tmp", "cli-compare-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeMounted(t, dir) })
	host = "unix://" + filepath.Join(dir, "s")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dockerd, "-H", host, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--iptables=false", "--bridge=none", "--cgroup-parent", "/"+filepath.Base(dir))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	testenv.InNetNS(t, testenv.NetNS(t), cmd.Start)
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
	})
	docker := docker28(t)
	if !eventually(t, func() bool { return docker.run(t, host, "version").Code == 0 }) {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("dockerd does not start:\n%s", text)
	}
	return host
}

// removeMounted removes dir and what is still mounted below it, and the
// control groups that the daemon has made.
func removeMounted(t *testing.T, dir string) {
	t.Helper()
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mounts.Close() }()
	var points []string
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			points = append(points, f[4])
		}
	}
	for _, p := range slices.Backward(points) {
		_ = unix.Unmount(p, unix.MNT_DETACH)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Errorf("remove daemon's directory: %v", err)
	}
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		groups, _ := filepath.Glob(pattern + filepath.Base(dir))
		for _, g := range groups {
			_ = os.Remove(g)
		}
	}
}

package script

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portholehq/porthole/test/bed"
)

// line64 is a line of 64 bytes with its newline.
const line64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"

// firstLine runs a command until it has printed a line, and tells how long that took.
func firstLine(t *testing.T, args ...string) (line string, took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, daemon.Program("porthole"), args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+daemon.Host())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err = bufio.NewReader(out).ReadString('\n')
	took = time.Since(began)
	if err != nil {
		t.Errorf("porthole %q: %v", args, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	return strings.TrimSuffix(line, "\n"), took
}

// TestLargeLog looks for the newest lines of a log of 1 GB, which are there at once. (Row 25 of what hurts:
// docs/design/records.md.)
func TestLargeLog(t *testing.T) {
	begin(t)
	// The pause keeps the last lines and the first tick from being read, and timed, at once.
	const lines = 1e9 / (len(line64) + 1)
	porthole(t, "run", "-d", "--name", "box", "--log-opt", "max-size=200m", "--log-opt", "max-file=10", "busybox", "sh", "-c",
		fmt.Sprintf("yes %s | head -n %d; sleep 1; i=0; while :; do i=$((i+1)); echo tick $i; usleep 100000; done", line64, lines))
	began := time.Now()
	var ticked string // the time of a line after all that
	for {
		stamped := porthole(t, "logs", "-t", "--tail", "1", "box")
		if at, text, _ := strings.Cut(stamped, " "); strings.HasPrefix(text, "tick ") {
			ticked = at
			break
		}
		if time.Since(began) > 3*time.Minute {
			t.Fatalf("the container has not printed its lines yet, the last is %q", stamped)
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("1 GB was logged in %v", time.Since(began))
	for _, args := range [][]string{
		{"logs", "--since", ticked, "box"},
		{"logs", "--since", ticked, "-f", "box"},
		{"logs", "--tail", "1", "box"},
		{"logs", "--tail", "1", "-f", "box"},
		{"logs", "--since", "100ms", "-f", "box"},
	} {
		quickest := time.Minute
		for range 5 { // the machine has other work
			line, took := firstLine(t, args...)
			if !strings.HasPrefix(line, "tick ") {
				t.Errorf("porthole %q begins with %q", args, line)
			}
			if quickest = min(quickest, took); quickest < 200*time.Millisecond {
				break
			}
		}
		if quickest >= 200*time.Millisecond {
			t.Errorf("porthole %q took %v for its first line", args, quickest)
		}
		t.Logf("%q: %v", args, quickest)
	}
	// Before the first tick there are the lines. The newest are counted from the end, however much --until leaves of them.
	porthole(t, "kill", "box")
	var ticks int
	if _, err := fmt.Sscanf(porthole(t, "logs", "--tail", "1", "box"), "tick %d", &ticks); err != nil {
		t.Fatal(err)
	}
	if got := porthole(t, "logs", "--until", ticked, "--tail", fmt.Sprint(ticks+3), "box"); !strings.HasPrefix(got, strings.Repeat(line64+"\n", 3)+"tick 1") {
		t.Errorf("of the newest %d lines, until %s, there are\n%s", ticks+3, ticked, got)
	}
	if line, _ := firstLine(t, "logs", "box"); line != line64 {
		t.Errorf("the log begins with %q", line)
	}
}

// TestShortLives runs a thousand programs that end at once: all that they have printed comes out, also what has no
// newline. (Row 26.)
func TestShortLives(t *testing.T) {
	begin(t)
	began := time.Now()
	bed.InParallel(t, 1000, func(i int) error {
		cmd := exec.CommandContext(t.Context(), daemon.Program("porthole"), "run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo a; printf b")
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+daemon.Host())
		out, err := cmd.Output()
		if err == nil && string(out) != "a\nb" {
			err = fmt.Errorf("run %d printed %q", i, out)
		}
		return err
	})
	t.Logf("1000 runs took %v", time.Since(began))
}

// TestTopWithoutPrograms: a daemon that finds no program anywhere lists processes all the same. (Row 41.)
func TestTopWithoutPrograms(t *testing.T) {
	path := os.Getenv("PATH")
	t.Setenv("PATH", "")
	d := startDaemon(t)
	t.Setenv("PATH", path)
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", d.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains("\x00"+string(environ), "\x00PATH=\x00") {
		t.Fatalf("the daemon's PATH is not empty: %q", environ)
	}
	d.porthole("load", "-q", "-i", filepath.Join(bed.ImageDir(), "busybox_latest.tar"))
	d.porthole("run", "-d", "--name", "box", "busybox", "sleep", "100000")
	for _, program := range []string{d.Program("porthole"), "docker"} {
		out, err := d.Run(t.Context(), program, "top", "box", "-o", "pid,user,args")
		if err != nil {
			t.Fatal(err)
		}
		pid := d.porthole("inspect", "-f", "{{.State.Pid}}", "box")
		rows := strings.Split(out, "\n")
		if len(rows) != 2 || strings.Join(strings.Fields(rows[0]), " ") != "PID USER COMMAND" || strings.Join(strings.Fields(rows[1]), " ") != pid+" root sleep 100000" {
			t.Errorf("%s top prints\n%s\nwhere the pid is %s", program, out, pid)
		}
	}
	d.porthole("rm", "-f", "box")
}

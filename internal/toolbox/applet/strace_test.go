package applet

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/testenv"
)

// straced runs strace with its output in a file, and gives that and the status.
func straced(t *testing.T, args ...string) (string, int) {
	t.Helper()
	testenv.NeedsRoot(t)
	out := filepath.Join(t.TempDir(), "out")
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	code := Run("strace", append([]string{"-o", out}, args...), IO{In: null, Out: null, Err: null})
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), code
}

func TestStrace(t *testing.T) {
	sh := testenv.NeedsProgram(t, "sh")
	text, code := straced(t, sh, "-c", "cd /no/such; cd /; exit 3")
	if code != 3 {
		t.Errorf("status %d, want that of the command", code)
	}
	for _, want := range []string{
		`^execve\("/.*sh", \["/.*sh", "-c", "cd /no/such; cd /; exit 3"\], .* = 0$`,
		`^chdir\("/no/such"\) +  = -1 ENOENT \(No such file or directory\)$`, `^chdir\("/"\) +  = 0$`,
		`^exit_group\(3\) +  = \?$`, `^\+\+\+ exited with 3 \+\+\+$`,
	} {
		if !regexp.MustCompile("(?m)" + want).MatchString(text) {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
}

func TestStraceChildren(t *testing.T) {
	sh := testenv.NeedsProgram(t, "sh")
	text, code := straced(t, "-f", "-e", "trace=chdir", "-T", "-ttt", sh, "-c", "(cd /tmp; kill -TERM $(exec sh -c 'echo $PPID')); cd /; :")
	if code != 0 {
		t.Errorf("status %d", code)
	}
	for _, want := range []string{
		`^(\[pid +\d+\] )\d+\.\d{6} chdir\("/tmp"\) += 0 <\d+\.\d{6}>$`, `chdir\("/"\) += 0`, `--- SIGTERM ---$`, `\+\+\+ killed by SIGTERM \+\+\+$`,
	} {
		if !regexp.MustCompile("(?m)" + want).MatchString(text) {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "openat") {
		t.Errorf("not asked for:\n%s", text)
	}
}

func TestStraceCount(t *testing.T) {
	sh := testenv.NeedsProgram(t, "sh")
	text, _ := straced(t, "-c", sh, "-c", "cd /no/such; cd /; cd /")
	if !regexp.MustCompile(`(?m)^ *[\d.]+ +[\d.]+ +\d+ +3 +1 chdir$`).MatchString(text) {
		t.Errorf("no count of chdir in:\n%s", text)
	}
}

// TestStraceAttach attaches to a process, which goes on when strace has ended.
func TestStraceAttach(t *testing.T) {
	testenv.NeedsRoot(t)
	sh := testenv.NeedsProgram(t, "sh")
	victim := exec.Command(sh, "-c", "echo ready; read x; cd /tmp; echo done; read x; exit 7")
	in, err := victim.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = victim.Process.Kill() })
	lines := bufio.NewReader(out)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "out")
	done := make(chan int, 1)
	go func() {
		done <- Run("strace", []string{"-q", "-o", file, "-p", fmt.Sprint(victim.Process.Pid)}, IO{In: os.Stdin, Out: io.Discard, Err: io.Discard})
	}()
	// It traces when the line of the call that the process waits in is begun.
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		text, _ := os.ReadFile(file)
		if len(text) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was traced")
		}
		<-tick.C
	}
	_, _ = io.WriteString(in, "go\n")
	if line, err := lines.ReadString('\n'); err != nil || line != "done\n" {
		t.Errorf("%q, %v", line, err)
	}
	_, _ = io.WriteString(in, "end\n")
	if code := <-done; code != 0 {
		t.Errorf("strace ended with %d", code)
	}
	_ = victim.Wait() // strace has taken the status, since both are this process
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), `chdir("/tmp")`) || !strings.Contains(string(text), "exit_group(7)") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestStraceUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"-p", "x"}, {"-p", "1", "ls"}, {"-e", "opennat", "ls"}, {"-e", "trace=%files", "ls"}, {"-s", "-1", "ls"}, {"-e", "signal=none", "ls"}} {
		var errs strings.Builder
		if code := Run("strace", args, IO{In: strings.NewReader(""), Out: io.Discard, Err: &errs}); code != 2 || !strings.HasPrefix(errs.String(), "strace: ") {
			t.Errorf("%q: %d, %s", args, code, &errs)
		}
	}
	var errs strings.Builder
	if code := Run("strace", []string{"/no/such/program"}, IO{In: strings.NewReader(""), Out: io.Discard, Err: &errs}); code != 1 || !strings.Contains(errs.String(), "no such file") {
		t.Errorf("%d, %s", code, &errs)
	}
}

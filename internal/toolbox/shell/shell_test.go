package shell

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

// The test binary is the shell when it is called so: a shell is only what it
// is as a process.
func TestMain(m *testing.M) {
	if os.Getenv("SHELL_UNDER_TEST") == "1" {
		os.Exit(Main(os.Args[1:], func(string) bool { return false }))
	}
	os.Exit(m.Run())
}

func shellCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), "SHELL_UNDER_TEST=1")
	return cmd
}

func TestScripts(t *testing.T) {
	script := t.TempDir() + "/script"
	if err := os.WriteFile(script, []byte("echo $0 $1 $#\nexit 5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		args   []string
		stdin  string
		out    string
		stderr string
		code   int
	}{
		{name: "command", args: []string{"-c", "echo a; echo b"}, out: "a\nb\n"},
		{name: "name and parameters", args: []string{"-c", `echo "$0" "$2"`, "me", "1", "2"}, out: "me 2\n"},
		{name: "script file", args: []string{script, "x", "y"}, out: script + " x 2\n", code: 5},
		{name: "missing script", args: []string{"/nonexistent/script"}, stderr: "sh: open /nonexistent/script: no such file or directory\n", code: 127},
		{name: "standard input", stdin: "read x; echo got $x\nline\n", out: "got line\n"},
		{name: "standard input without a last newline", stdin: "if true\nthen echo a\nfi\necho b", out: "a\nb\n"},
		{name: "input is shared with commands", stdin: "cat\nrest of\ninput\n", out: "rest of\ninput\n"},
		{name: "status of the last", args: []string{"-c", "true; sh -c 'exit 9'"}, code: 9},
		{name: "status in $?", args: []string{"-c", "false; echo $?"}, out: "1\n"},
		{name: "not found", args: []string{"-c", "nosuchcommand"}, stderr: "sh: nosuchcommand: not found\n", code: 127},
		{name: "not found goes on", args: []string{"-c", "nosuchcommand; echo $?"}, out: "127\n", stderr: "sh: nosuchcommand: not found\n"},
		{name: "not executable", args: []string{"-c", "/etc/passwd"}, stderr: "sh: /etc/passwd: permission denied\n", code: 126},
		{name: "syntax error", args: []string{"-c", "if"}, stderr: "sh: sh:1:1: `if` must be followed by a statement list\n", code: 2},
		{name: "errexit", args: []string{"-e", "-c", "false; echo no"}, code: 1},
		{name: "exit trap", args: []string{"-c", "trap 'echo bye' EXIT; echo hi; exit 3"}, out: "hi\nbye\n", code: 3},
		{name: "exit trap before last command", args: []string{"-c", "trap 'echo bye' EXIT; /bin/echo hi"}, out: "hi\nbye\n"},
		{name: "function last", args: []string{"-c", "f() { /bin/echo 1; /bin/echo 2; }; f"}, out: "1\n2\n"},
		{name: "substitution last", args: []string{"-c", "/bin/echo $(/bin/echo 1) 2"}, out: "1 2\n"},
		{name: "exec with redirection", args: []string{"-c", "exec /bin/echo out >&2"}, stderr: "out\n"},
		{name: "exec ends it", args: []string{"-c", "exec /bin/echo 1; echo 2"}, out: "1\n"},
		{name: "exec in subshell", args: []string{"-c", "(exec /bin/echo 1); echo 2"}, out: "1\n2\n"},
		{name: "pipe and here document", args: []string{"-c", "cat <<E | tr a-z A-Z\nhi $((2*3))\nE"}, out: "HI 6\n"},
		// The last command takes the shell's place, and many programs take the first of a name.
		{name: "environment of the last command", args: []string{"-c", "SHELL_UNDER_TEST=2 /usr/bin/printenv SHELL_UNDER_TEST"}, out: "2\n"},
		{name: "variable unset", args: []string{"-c", "unset SHELL_UNDER_TEST; exec /usr/bin/printenv SHELL_UNDER_TEST"}, code: 1},
		{name: "umask", args: []string{"-c", "umask 027; umask"}, out: "0027\n"},
		{name: "trap of USR1", args: []string{"-c", "trap 'echo caught' USR1; kill -USR1 $$; echo end; trap - USR1; kill -USR1 $$; echo not here"}, out: "caught\nend\n", code: 138},
		{name: "trap on signal", args: []string{"-c", "trap 'echo caught' USR1 TERM; kill -TERM $$; /bin/true; echo end"}, out: "caught\nend\n"},
		{name: "bad option", args: []string{"-Z"}, stderr: "sh: invalid option: -Z\n", code: 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := shellCommand(t, tt.args...)
			var out, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &stderr
			cmd.Stdin = strings.NewReader(tt.stdin)
			err := cmd.Run()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			got := []any{out.String(), stderr.String(), cmd.ProcessState.ExitCode()}
			if diff := cmp.Diff([]any{tt.out, tt.stderr, tt.code}, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// The last command gets the signals that are sent to the shell, because it has
// its process.
func TestLastCommandReplacesShell(t *testing.T) {
	cmd := shellCommand(t, "-c", "echo $$; exec sh -c 'echo $$'")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if first != second {
		t.Errorf("shell is process %s, its last command %s", first, second)
	}
}

func TestSignalEndsShellAndChild(t *testing.T) {
	cmd := shellCommand(t, "-c", "echo ready; sleep 100; echo not reached")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	// The child may not be there yet; the shell then ends without it.
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 143 || len(rest) > 0 {
		t.Errorf("exit status %d, output %q; want 143 and none", got, rest)
	}
}

func TestTrapInterruptsWait(t *testing.T) {
	cmd := shellCommand(t, "-c", "trap 'echo stopping; exit 3' TERM; sleep 100 & echo ready; wait; echo no")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The sleep in the background must not keep the pipe open for us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("stopping\n"))); err != nil {
		t.Fatal(err)
	}
	state, err := cmd.Process.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if state.ExitCode() != 3 {
		t.Errorf("exit status %d, want 3", state.ExitCode())
	}
}

// A signal that came before wait was begun is dealt with first, or wait would
// hide it.
func TestTrapIsDueBeforeWait(t *testing.T) {
	sh := &shell{pending: []string{"echo stopping"}}
	got, err := sh.call(t.Context(), []string{"wait", "g1"})
	if diff := cmp.Diff([]string{runTraps, "wait", "g1"}, got); diff != "" || err != nil {
		t.Errorf("command (-want +got): %v\n%s", err, diff)
	}
	if sh.beginWait() {
		t.Error("the wait began")
	}
	sh.pending = nil
	if !sh.beginWait() {
		t.Error("the wait did not begin, although nothing is due")
	}
}

// terminal drives an interactive shell.
type terminal struct {
	t   *testing.T
	pty *os.File
	cmd *exec.Cmd
	// What comes is read beside: a terminal's side has no deadline.
	read chan []byte
	out  bytes.Buffer
}

func startTerminal(t *testing.T) *terminal {
	t.Helper()
	cmd := shellCommand(t)
	cmd.Dir = "/"
	f, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_, _ = cmd.Process.Wait()
		f.Close()
	})
	x := &terminal{t: t, pty: f, cmd: cmd, read: make(chan []byte, 1000)}
	go func() {
		defer close(x.read)
		for {
			buf := make([]byte, 1024)
			n, err := f.Read(buf)
			if n > 0 {
				x.read <- buf[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	return x
}

func (x *terminal) send(text string) {
	x.t.Helper()
	if _, err := x.pty.WriteString(text); err != nil {
		x.t.Fatal(err)
	}
}

// expect reads until the output ends in text.
func (x *terminal) expect(text string) string {
	x.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if i := strings.Index(x.out.String(), text); i >= 0 {
			seen := x.out.String()[:i+len(text)]
			x.out.Next(len(seen))
			return seen
		}
		select {
		case more, ok := <-x.read:
			if !ok {
				x.t.Fatalf("waiting for %q: the shell has ended; output so far %q", text, x.out.String())
			}
			x.out.Write(more)
		case <-deadline:
			x.t.Fatalf("waiting for %q: output so far %q", text, x.out.String())
		}
	}
}

// waitChild waits until the shell runs a program.
func (x *terminal) waitChild() {
	x.t.Helper()
	for range 2000 {
		// Any thread of the shell may have forked it.
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", x.cmd.Process.Pid))
		if err != nil {
			x.t.Fatal(err)
		}
		for _, task := range tasks {
			if data, err := os.ReadFile(task); err == nil && len(data) > 0 {
				return
			}
		}
		<-time.After(10 * time.Millisecond)
	}
	x.t.Fatal("the shell has not started a program")
}

func TestInteractive(t *testing.T) {
	x := startTerminal(t)
	x.expect("/ # ")
	x.send("echo one two | tr a-z A-Z\r")
	x.expect("ONE TWO")
	x.expect("/ # ")
	x.send("for i in 1 2\r")
	x.expect("> ")
	x.send("do echo n$i; done\r")
	x.expect("n1\r\nn2")
	x.expect("/ # ")
	x.send("sleep 100\r")
	x.expect("sleep 100")
	x.waitChild()
	x.send("\x03")
	x.expect("/ # ")
	x.send("echo st$?\r")
	x.expect("st130")
	x.expect("/ # ")
	x.send("garbage that goes\x03")
	x.expect("/ # ")
	x.send("cd /etc\r")
	x.expect("/etc # ")
	x.send("exit 4\r")
	if state, err := x.cmd.Process.Wait(); err != nil || state.ExitCode() != 4 {
		t.Errorf("exit: %v, %v; want status 4", state, err)
	}
}

// A command in the background that comes late does not replace the shell.
func TestBackgroundDoesNotReplace(t *testing.T) {
	for range 20 {
		cmd := shellCommand(t, "-c", "sleep 100 & sleep 100 & true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		var err error
		select {
		case err = <-done:
		case <-time.After(20 * time.Second):
			t.Error("the shell has not ended")
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if err != nil {
			t.Error(err)
		}
	}
}

package script

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
)

// A terminal is a person at a terminal: what runs on it, and what it shows.
type terminal struct {
	t    *testing.T
	cmd  *exec.Cmd
	tty  *os.File // the person's side
	done chan struct{}

	mu     sync.Mutex
	screen strings.Builder
	seen   int // up to here expect has looked
	more   chan struct{}
}

// openTerminal runs a command on a new terminal of 80 by 24.
func openTerminal(t *testing.T, program string, args ...string) *terminal {
	t.Helper()
	cmd := exec.Command(program, args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+daemon.Host(), "HOME="+home, "DOCKER_CLI_HINTS=false", "TERM=xterm")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, cmd: cmd, tty: tty, done: make(chan struct{}), more: make(chan struct{}, 1)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		term.read()
	}()
	go func() {
		defer close(term.done)
		_ = cmd.Wait() // the code is in ProcessState
		<-read
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has mostly ended
		_ = tty.Close()
		<-term.done
	})
	return term
}

func (p *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := p.tty.Read(buf)
		p.mu.Lock()
		p.screen.Write(buf[:n])
		p.mu.Unlock()
		select {
		case p.more <- struct{}{}:
		default:
		}
		if err != nil { // EIO: nobody has the other side open
			return
		}
	}
}

// typeIn types text.
func (p *terminal) typeIn(text string) {
	p.t.Helper()
	if _, err := p.tty.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
}

// expect waits until the screen shows a match after what was matched before.
func (p *terminal) expect(pattern string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(20 * time.Second)
	for {
		p.mu.Lock()
		rest := p.screen.String()[p.seen:]
		if at := re.FindStringIndex(rest); at != nil {
			p.seen += at[1]
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		select {
		case <-p.more:
		case <-deadline:
			p.t.Fatalf("the terminal never showed %q, but %q", pattern, rest)
		}
	}
}

// ends waits for the command's end and returns its code.
func (p *terminal) ends() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		p.mu.Lock()
		defer p.mu.Unlock()
		p.t.Fatalf("the command does not end; the terminal shows %q", p.screen.String())
		return 0
	}
}

// raw reports whether the terminal passes keys on as they are.
func (p *terminal) raw() bool {
	p.t.Helper()
	mode, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return mode.Lflag&unix.ICANON == 0
}

// eachCLI runs a test for both command lines, and checks that nothing is left.
func eachCLI(t *testing.T, test func(t *testing.T, cli string)) {
	t.Helper()
	testenv.NeedsRoot(t)
	docker := testenv.NeedsProgram(t, "docker")
	for name, cli := range map[string]string{"porthole": daemon.Program("porthole"), "docker": docker} {
		t.Run(name, func(t *testing.T) {
			begin(t) // first, so that its clean-up runs after the terminals are closed
			test(t, cli)
		})
	}
}

func TestTerminalRun(t *testing.T) {
	eachCLI(t, func(t *testing.T, cli string) {
		p := openTerminal(t, cli, "run", "-it", "--name", "tty", "busybox", "sh")
		p.expect(`/ # `)
		if !p.raw() {
			t.Error("the terminal is not in raw mode")
		}
		// The size was there before the process.
		p.typeIn("stty size; echo term=$TERM\r")
		p.expect(`\r\n24 80\r\n`)
		p.expect(`term=xterm`)
		p.typeIn("tty; test -t 0 && test -t 1 && test -t 2 && echo all three\r")
		p.expect(`/dev/pts/0`)
		p.expect(`\nall three`)
		// It follows.
		if err := pty.Setsize(p.tty, &pty.Winsize{Rows: 50, Cols: 132}); err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Process.Signal(unix.SIGWINCH); err != nil {
			t.Fatal(err)
		}
		p.typeIn("until stty size | grep -q '50 132'; do :; done; echo resized\r")
		p.expect(`\nresized`)
		p.expect(`/ # `)
		// Keys go to the container, not to the client.
		// The job itself says when it has the terminal: a shell may lose an
		// interrupt that comes while it starts one.
		p.typeIn("sh -c 'echo asleep; exec sleep 1000'\r")
		p.expect(`\nasleep`)
		p.typeIn("\x03")
		p.expect(`/ # `)
		p.typeIn("exit 5\r")
		if code := p.ends(); code != 5 {
			t.Errorf("ended with %d, want 5", code)
		}
	})
}

func TestTerminalDetach(t *testing.T) {
	eachCLI(t, func(t *testing.T, cli string) {
		p := openTerminal(t, cli, "run", "-it", "--name", "tty", "busybox", "sh")
		p.expect(`/ # `)
		p.typeIn("X=kept\r")
		p.expect(`/ # `)
		p.typeIn("\x10\x11")
		if code := p.ends(); code != 0 {
			t.Errorf("run, detached, ended with %d, want 0", code)
		}
		// What was in it is still there.
		p = openTerminal(t, cli, "attach", "--detach-keys", "ctrl-x,q", "tty")
		p.typeIn("\recho $X\r")
		p.expect(`\nkept`)
		p.typeIn("\x18q")
		p.expect(`read escape sequence`)
		if code := p.ends(); code != 1 {
			t.Errorf("attach, detached, ended with %d, want 1", code)
		}
		if out, err := daemon.Run(t.Context(), cli, "inspect", "-f", "{{.State.Running}}", "tty"); err != nil || out != "true" {
			t.Errorf("after detaching: running %q, %v", out, err)
		}
		// A broken match is passed on.
		p = openTerminal(t, cli, "attach", "tty")
		p.typeIn("\recho a\x10b\r")
		p.expect(`a\S*b`)
		p.typeIn("exit 3\r")
		if code := p.ends(); code != 3 {
			t.Errorf("attach ended with %d, want 3", code)
		}
	})
}

func TestTerminalExec(t *testing.T) {
	eachCLI(t, func(t *testing.T, cli string) {
		if _, err := daemon.Run(t.Context(), cli, "run", "-d", "--name", "box", "busybox", "sleep", "1000"); err != nil {
			t.Fatal(err)
		}
		p := openTerminal(t, cli, "exec", "-it", "box", "sh")
		p.expect(`/ # `)
		p.typeIn("stty size; tty; ps\r")
		p.expect(`24 80`)
		p.expect(`/dev/pts/[0-9]`)
		p.expect(`1 root .*sleep 1000`)
		p.typeIn("exit 9\r")
		if code := p.ends(); code != 9 {
			t.Errorf("ended with %d, want 9", code)
		}
		p = openTerminal(t, cli, "exec", "-it", "box", "sh")
		p.expect(`/ # `)
		p.typeIn("\x10\x11")
		p.expect(`read escape sequence`)
		if code := p.ends(); code != 1 {
			t.Errorf("detached exec ended with %d, want 1", code)
		}
	})
}

// TestTerminalLoneKey holds that the first of the detach keys reaches the program, though nothing is typed after it,
// and that the second one detaches none the less. What another command line holds back is its own affair.
func TestTerminalLoneKey(t *testing.T) {
	testenv.NeedsRoot(t)
	begin(t)
	cli := daemon.Program("porthole")
	// Without echo the screen shows a key only once the program has read it.
	const program = "stty -echo -icanon; echo ready; while :; do case $(dd bs=1 count=1 2>/dev/null) in $(printf '\\020')) echo up;; q) exit 4;; esac; done"
	lone := func(p *terminal) {
		t.Helper()
		p.typeIn("\x10")
		p.expect(`up`)
	}
	p := openTerminal(t, cli, "run", "-it", "--name", "tty", "busybox", "sh", "-c", program)
	p.expect(`ready`)
	lone(p)
	p.typeIn("\x11") // after a pause
	if code := p.ends(); code != 0 {
		t.Errorf("run, detached, ended with %d, want 0", code)
	}
	p = openTerminal(t, cli, "attach", "tty")
	lone(p)
	p.typeIn("q")
	if code := p.ends(); code != 4 {
		t.Errorf("attach ended with %d, want 4", code)
	}
	porthole(t, "rm", "tty")
	porthole(t, "run", "-d", "--name", "box", "busybox", "sleep", "1000")
	p = openTerminal(t, cli, "exec", "-it", "box", "sh", "-c", program)
	p.expect(`ready`)
	lone(p)
	p.typeIn("\x10\x11") // at once
	p.expect(`read escape sequence`)
	if code := p.ends(); code != 1 {
		t.Errorf("exec, detached, ended with %d, want 1", code)
	}
}

// (Row 32 of what hurts: docs/design/records.md.) Ctrl-C in watch, and whatever is typed there, does nothing to the
// container, and its terminal stays as it is.
func TestTerminalWatch(t *testing.T) {
	testenv.NeedsRoot(t)
	begin(t)
	cli := daemon.Program("porthole")
	const program = "trap 'echo signal; exit 9' INT TERM QUIT WINCH; while :; do echo tick; sleep 0.1; done"
	for name, flag := range map[string]string{"plain": "-i", "tty": "-it"} {
		porthole(t, "run", "-d", flag, "--name", name, "busybox", "sh", "-c", program)
		p := openTerminal(t, cli, "watch", name)
		p.expect(`tick`)
		p.typeIn("x\x10\x11") // no keys detach, and none get there
		p.expect(`tick`)
		p.typeIn("\x03")
		if code := p.ends(); code != 130 {
			t.Errorf("%s: watch ended with %d, want 130", name, code)
		}
		out := porthole(t, "logs", name)
		if strings.Contains(out, "x") || strings.Contains(out, "signal") {
			t.Errorf("%s: it got what was typed, or a signal:\n%s", name, out)
		}
		if state := porthole(t, "inspect", "-f", "{{.State.Running}}", name); state != "true" {
			t.Errorf("%s: running: %s", name, state)
		}
		p = openTerminal(t, cli, "watch", name)
		p.expect(`tick`)
		porthole(t, "kill", name)
		if code := p.ends(); code != 137 {
			t.Errorf("%s: watch of one that is killed ended with %d, want 137", name, code)
		}
		porthole(t, "rm", name)
	}
	if _, err := daemon.Porthole(t.Context(), "watch", "plain"); err == nil || !strings.Contains(err.Error(), "No such container") {
		t.Errorf("watch of none: %v", err)
	}
}

func TestTerminalIsRestored(t *testing.T) {
	eachCLI(t, func(t *testing.T, cli string) {
		// A shell on the terminal survives the client, whatever becomes of it.
		p := openTerminal(t, "sh", "-c", fmt.Sprintf("%q run -it --name tty busybox sh; stty -a | grep -o -- '-*icanon'; echo over", cli))
		p.expect(`/ # `)
		if _, err := daemon.Run(t.Context(), cli, "kill", "tty"); err != nil {
			t.Fatal(err)
		}
		p.expect(`[^-]icanon`)
		p.expect(`over`)
		p.ends()
	})
}

// TestTerminalNeedsOne is about -t where standard input is no terminal.
func TestTerminalNeedsOne(t *testing.T) {
	eachCLI(t, func(t *testing.T, cli string) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, cli, "run", "--rm", "-it", "busybox", "true")
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+daemon.Host())
		cmd.Stdin = strings.NewReader("")
		out, err := cmd.CombinedOutput()
		if err == nil || !regexp.MustCompile(`(?i)not a (TTY|terminal)`).Match(out) {
			t.Errorf("error %v, output %q", err, out)
		}
		// Without -i it is fine, and the output is the terminal's.
		got, err := daemon.Run(ctx, cli, "run", "--rm", "-t", "busybox", "sh", "-c", "test -t 1 && echo a terminal")
		if err != nil || strings.TrimSpace(got) != "a terminal" {
			t.Errorf("run -t: %q, %v", got, err)
		}
	})
}

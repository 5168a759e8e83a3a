package script

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/portholehq/porthole/internal/testenv"
)

// debugTarget is a container for the tests of sessions at a terminal, and how to
// run a command of porthole.
func debugTarget(t *testing.T) (cli string) {
	t.Helper()
	testenv.NeedsRoot(t)
	begin(t)
	cli = daemon.Program("porthole")
	if _, err := daemon.Run(t.Context(), cli, "run", "-d", "--name", "box", "-w", "/tmp", "busybox", "sleep", "1000"); err != nil {
		t.Fatal(err)
	}
	return cli
}

// unchanged checks that a container has written nothing.
func unchanged(t *testing.T, cli string) {
	t.Helper()
	if out, err := daemon.Run(t.Context(), cli, "diff", "box"); err != nil || out != "" {
		t.Errorf("the container has changed: %q, %v", out, err)
	}
}

func TestDebugHistory(t *testing.T) {
	cli := debugTarget(t)
	p := openTerminal(t, cli, "debug", "box")
	p.expect(`/tmp # `)
	p.typeIn("history -c\r")
	p.expect(`/tmp # `)
	p.typeIn("echo first-$((40+2))\r")
	p.expect(`first-42`)
	p.expect(`/tmp # `)
	p.typeIn(" echo hidden-$((40+3))\r")
	p.expect(`hidden-43`)
	p.expect(`/tmp # `)
	p.typeIn("exit\r")
	if code := p.ends(); code != 0 {
		t.Errorf("ended with %d", code)
	}
	// Of another session, in an image, which has never been there.
	p = openTerminal(t, cli, "debug", "busybox")
	p.expect(` # `)
	p.typeIn("\x1b[A\x1b[A\r") // above "exit"
	p.expect(`first-42`)
	p.expect(` # `)
	p.typeIn("history\r")
	p.expect(`\n +\d+  echo first-`)
	p.expect(`  history\r\n`)
	p.expect(` # `)
	// Not those who are no session's shell.
	p.typeIn("sh\r")
	p.expect(` # `)
	p.typeIn("history\r")
	p.expect(`\n +1  history\r\n`)
	p.expect(` # `)
	p.typeIn("exit\r")
	p.expect(` # `)
	p.typeIn("exit\r")
	p.ends()
	// It is the daemon's, and nobody else's to read.
	info, err := os.Stat(filepath.Join(daemon.DataRoot(), "history", "0"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	unchanged(t, cli)
}

func TestDebugCompletion(t *testing.T) {
	cli := debugTarget(t)
	p := openTerminal(t, cli, "debug", "box")
	p.expect(`/tmp # `)
	p.typeIn("cat /etc/hostn\t\r")
	p.expect(`cat /etc/hostname`)
	p.expect(`[0-9a-f]{12}`)
	p.expect(`/tmp # `)
	p.typeIn("sha\t\t")
	p.expect(`sha1sum +sha256sum `)
	// Names of files do nothing to the terminal.
	p.typeIn("\x15touch \"$(printf 'odd\\033[31m')\"; find /tmp; rm odd*; ls -A\r")
	p.expect(`/tmp/odd\^\[\[31m\r\n`)
	p.typeIn("exit\r")
	p.ends()
}

func TestDebugTop(t *testing.T) {
	cli := debugTarget(t)
	p := openTerminal(t, cli, "debug", "box", "--", "top", "-d", "0.2")
	p.expect(`Tasks: +1 total`)
	p.expect(` 1 root .* sleep\x1b`)
	p.typeIn("c") // of whole command lines there is one character more at 80 columns
	p.expect(` 1 root .* sleep \x1b`)
	p.typeIn("k1\r")
	p.expect(`Send pid 1 signal`)
	p.typeIn("WINCH\r")
	p.expect(`Signal sent to 1`)
	p.typeIn("?")
	p.expect(`any key goes back`)
	p.typeIn("xq")
	if code := p.ends(); code != 0 {
		t.Errorf("ended with %d", code)
	}
	if out, err := daemon.Run(t.Context(), cli, "inspect", "-f", "{{.State.Running}}", "box"); err != nil || out != "true" {
		t.Errorf("running %q, %v", out, err)
	}
}

func TestDebugLess(t *testing.T) {
	cli := debugTarget(t)
	p := openTerminal(t, cli, "debug", "box")
	p.expect(`/tmp # `)
	// By a pipe, so that keys come from the terminal.
	p.typeIn("seq -s ' line\n' 1 500 | less\r")
	p.expect(`\b23 line`)
	p.typeIn(" ")
	p.expect(`\b46 line`)
	p.typeIn("/^314\r")
	p.expect(`\x1b\[H\x1b\[7m314`)
	p.typeIn("G")
	p.expect(`\b500\b`)
	p.expect(`\(END\)`)
	p.typeIn("q")
	p.expect(`/tmp # `)
	// A file, whose control characters do nothing.
	p.typeIn("less -N +/daemon /etc/passwd\r")
	p.expect(` +\d+ .*daemon`)
	p.typeIn("q")
	p.expect(`/tmp # `)
	p.typeIn("printf 'a\\033[31mb\\n' | less\r")
	p.expect(`a\x1b\[7m\^\[\x1b\[27m\[31mb`)
	p.typeIn("q")
	p.expect(`/tmp # `)
	p.typeIn("less -Z; echo st$?\r")
	p.expect(`there is no -Z option`)
	p.expect(`st2`)
	p.typeIn("exit\r")
	p.ends()
	unchanged(t, cli)
}

func TestDebugVi(t *testing.T) {
	cli := debugTarget(t)
	p := openTerminal(t, cli, "debug", "box")
	p.expect(`/tmp # `)
	p.typeIn("printf 'port = 80\\nhost = \\033[31ma\\n' >conf; vi conf\r")
	p.expect(`port = 80`)
	p.expect(`host = \^\[\[31ma`)
	p.expect(`"conf" line 1 of 2`)
	p.typeIn("wwcw8080\x1b")
	p.expect(`port = 8080`)
	p.typeIn("o# mine\x1b")
	p.expect(`# mine`)
	p.typeIn(":q\r")
	p.expect(`No write since last change`)
	p.typeIn(":wq\r")
	p.expect(`/tmp # `)
	p.typeIn("exit\r")
	p.ends()
	out, err := daemon.Run(t.Context(), cli, "exec", "box", "cat", "/tmp/conf")
	if want := "port = 8080\n# mine\nhost = \x1b[31ma"; err != nil || out != want {
		t.Errorf("the file has %q, %v; want %q", out, err, want)
	}
}

// What a person's terminal leaves with is no loss to the file.
func TestDebugViTerminalGoes(t *testing.T) {
	cli := debugTarget(t)
	if _, err := daemon.Run(t.Context(), cli, "exec", "box", "sh", "-c", "echo kept >/tmp/conf"); err != nil {
		t.Fatal(err)
	}
	p := openTerminal(t, cli, "debug", "box", "--", "vi", "conf")
	p.expect(`kept`)
	p.typeIn("ilost \x1b")
	p.expect(`lost kept`)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.ends()
	if out, err := daemon.Run(t.Context(), cli, "exec", "box", "cat", "/tmp/conf"); err != nil || out != "kept" {
		t.Errorf("the file has %q, %v", out, err)
	}
}

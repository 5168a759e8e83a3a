package hostile

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// onTerminal runs a command whose standard output and error are a terminal.
func onTerminal(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), daemon.Program("porthole"), args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+daemon.Host(), "TERM=xterm")
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	cmd.Stdout, cmd.Stderr = slave, slave
	err = cmd.Start()
	slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(master) // ends with an error when the other side is closed
	_ = cmd.Wait()               // some of these commands fail
	return string(out)
}

// TestTerminal: a label, a file, an argument, a comment of an image or an error has
// what makes a terminal do something, as to type a command (CWE-150). The control is that the same output has it when a
// program reads it. internal/cli has the verbs that are ours.
func TestTerminal(t *testing.T) {
	begin(t)
	const evil = "a\x1b]0;x\x07b\u009bc\u202ed"
	start(t, "evil", "--label", "l="+evil, "-e", "E="+evil, "busybox", "sh", "-c", ": '"+evil+"'; touch '/tmp/"+evil+"' /ready; sleep 1000")
	awaitReady(t, "evil")
	_, _ = try(t, "exec", "evil", "sh", "-c", ": "+"'"+evil+"'")
	porthole(t, "volume", "create", "--label", "l="+evil, "hostile")
	porthole(t, "commit", "-m", evil, "-a", evil, "-c", `CMD ["`+strings.ReplaceAll(evil, "\x1b", `\u001b`)+`"]`, "evil", "evil:1")
	defer porthole(t, "rmi", "-f", "evil:1")
	raw := 0
	// Docker cuts now to the second.
	until := strconv.FormatInt(time.Now().Unix()+1, 10)
	for _, args := range [][]string{
		{"ps", "--no-trunc"},
		{"ps", "--format", "table {{.Labels}}"},
		{"top", "evil"},
		{"top", "evil", "-o", "pid,args"},
		{"diff", "evil"},
		{"history", "evil:1"},
		{"history", "--no-trunc", "evil:1"},
		{"events", "--since", "10m", "--until", until},
		{"events", "--since", "10m", "--until", until, "--actor"},
		{"inspect", "evil"},
		{"image", "inspect", "evil:1"},
		{"volume", "inspect", "hostile"},
		{"volume", "ls", "--format", "table {{.Labels}}"},
		{"image", "layers", "evil:1"},
		{"ps", "--tree"},
		{"timeline", "evil"},
		{"why", "evil"},
		{"files", "evil"},
		{"exec", "evil", evil},
		{"exec", "-w", "/" + evil, "evil", "true"},
		{"cp", "evil:/tmp/" + evil + "x", "-"},
	} {
		name := strings.ReplaceAll(strings.Join(args, " "), until, "now")
		attack(t, strings.ToValidUTF8(strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return '?'
			}
			return r
		}, name), "?"), func(t *testing.T) {
			if out := onTerminal(t, args...); out == "" || strings.ContainsAny(out, "\x1b\x07\u009b\u202e") {
				t.Errorf("the terminal gets %q", out)
			}
			if out, _ := try(t, args...); strings.Contains(out, evil) {
				raw++
			}
		})
	}
	if raw < 6 {
		t.Errorf("control: only %d of the commands give it to a program: the others may have left it out", raw)
	}
}

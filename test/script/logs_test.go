package script

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// both runs a command and gives what it printed, and its error output behind.
func (e engine) both(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), e.docker, append([]string{"-H", e.host}, args...)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("docker %q: %v\n%s", args, err, said.Bytes())
	}
	return out.String() + "--\n" + said.String()
}

// feed runs a container that writes each line of its input to its output, those that begin with err to its error output,
// and gives it the next line when the engine has the last: nothing else tells in which order it gets those of two pipes.
func (e engine) feed(t *testing.T, lines []string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.docker, append([]string{"-H", e.host, "run", "-i", "--name", "box"}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for i, line := range lines {
		if _, err := fmt.Fprintln(stdin, line); err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
		for begun := time.Now(); ; {
			out, err := exec.CommandContext(t.Context(), e.docker, "-H", e.host, "logs", "box").CombinedOutput()
			if err == nil && bytes.Count(out, []byte("\n")) > i {
				break
			}
			if time.Since(begun) > time.Minute {
				t.Fatalf("line %d is not in the log: %v\n%s", i, err, out)
			}
		}
	}
	if err := errors.Join(stdin.Close(), cmd.Wait()); err != nil {
		t.Fatalf("%v\n%s", err, said.Bytes())
	}
}

// stamp is the time in front of a line.
var stamp = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z`)

// zeros are shortened in what a failed test shows.
var zeros = regexp.MustCompile(`0{100,}`)

// TestLogsLikeDocker reads the same output from both engines in many ways. {3} in a command stands for the time of line 3.
// Docker counts, stamps and labels each 16 KiB of a long line, which is left out: docs/compatibility.md.
func TestLogsLikeDocker(t *testing.T) {
	theirs, ours, flat := twoEngines(t)
	t.Cleanup(func() {
		ours.run(t, nil, "rm", "-f", "box", "long", "quiet", "term")
		ours.run(t, nil, "rmi", "-f", "flat:v1")
	})
	commands := []string{
		"box", "-t box", "-n 3 box", "-n 0 box", "-n -1 box", "-n junk box", "-n 100 box", "-f box", "-t --tail 5 -f box",
		"--since {3} box", "--until {3} box", "--since {2} --until {5} box", "-n 2 --until {4} box", "-n 4 --since {5} -t box",
		"--since 1h box", "--until 1h box", "--since {7} box", "--details box", "--details -t -n 2 box",
		"--details quiet", "-f quiet", "long", "term", "-t -n 2 term",
	}
	look := func(e engine) map[string]string {
		e.run(t, flat, "import", "-", "flat:v1")
		run := func(args ...string) { e.both(t, append([]string{"run", "--network", "none", "--name"}, args...)...) }
		var lines []string
		for i := range 6 {
			lines = append(lines, fmt.Sprintf("line %d", i+1), fmt.Sprintf("err %d", i+1))
		}
		e.feed(t, append(lines, ""), "--network", "none", "--label", "a=x y", "--label", "b=no", "-e", "E=1&2", "--log-opt", "labels=a,none", "--log-opt", "env=E",
			"--log-opt", "tag={{.Name}}/{{.DaemonName}}", "flat:v1", "sh", "-c", `while read -r l; do case $l in err*) echo "$l" >&2;; *) echo "$l"; esac; done; printf end`)
		run("long", "flat:v1", "sh", "-c", `printf "a\0b\n"; printf "%040000d\n" 7; printf "%017000d" 8`)
		run("quiet", "flat:v1", "true")
		run("term", "-t", "flat:v1", "sh", "-c", "echo one; echo two >&2; printf three")
		times := stamp.FindAllString(e.both(t, "logs", "-t", "box"), -1)
		seen := map[string]string{}
		for _, c := range commands {
			line := regexp.MustCompile(`\{\d\}`).ReplaceAllStringFunc(c, func(m string) string { return times[m[1]-'1'] })
			text := stamp.ReplaceAllString(e.both(t, append([]string{"logs"}, strings.Fields(line)...)...), "TIME")
			seen[c] = zeros.ReplaceAllStringFunc(text, func(z string) string { return fmt.Sprintf("(%d zeros)", len(z)) })
		}
		e.run(t, nil, "rm", "-f", "box", "long", "quiet", "term")
		return seen
	}
	if diff := cmp.Diff(look(theirs), look(ours)); diff != "" {
		t.Errorf("differs (-docker +porthole):\n%.6000s", diff)
	}
}

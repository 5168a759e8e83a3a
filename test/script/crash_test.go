package script

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crashTime is how long TestCrash goes on: PORTHOLE_TEST_CRASH, as 10m.
func crashTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("PORTHOLE_TEST_CRASH")
	if text == "" {
		return 20 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestCrash kills the daemon at random while clients create, start, enter, read and remove containers. A client may be
// told that its daemon has gone; but a container that it was told of has all of its lines and its exit code, what
// nobody was told of is there as what it is or gone, and in the end nothing is left.
func TestCrash(t *testing.T) {
	begin(t)
	c := &crash{T: t, seed: rand.Uint64(), until: time.Now().Add(crashTime(t))}
	t.Logf("seed %d", c.seed)
	c.must("run", "-d", "--name", "keeper", "--label", "crash=keeper", "busybox", "sleep", "100000")
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() { c.client(i) })
	}
	c.killer()
	clients.Wait()
	c.settle()
}

// crash is the state of one TestCrash.
type crash struct {
	*testing.T
	seed  uint64
	until time.Time
	// kills counts twice for each death of the daemon: once it is going to die, and once the next one answers.
	kills atomic.Int64

	done [4]int // of each kind, by all clients

	mu    sync.Mutex
	known []promise
}

// promise is what must hold of a container that a client was told of.
type promise struct {
	name  string
	lines int
	code  int
}

// must runs a command that nothing disturbs.
func (c *crash) must(args ...string) string {
	c.Helper()
	out, err := daemon.Porthole(c.Context(), args...)
	if err != nil {
		c.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return out
}

// porthole runs a command. Disturbed tells that the daemon died meanwhile.
func (c *crash) porthole(args ...string) (out string, code int, disturbed bool) {
	begin := c.kills.Load()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, daemon.Program("porthole"), args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+daemon.Host(), "DOCKER_CONFIG="+daemon.Dir)
	text, err := cmd.Output()
	if ctx.Err() != nil {
		c.Errorf("%s hung", strings.Join(args, " "))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
		out = string(text) + string(exit.Stderr)
	} else {
		out = string(text)
	}
	return out, code, begin%2 == 1 || begin != c.kills.Load()
}

// killer kills the daemon and starts another, until it is time.
func (c *crash) killer() {
	random := rand.New(rand.NewPCG(c.seed, 0))
	deaths := 0
	for ; time.Now().Before(c.until); deaths++ {
		select {
		case <-time.After(time.Duration(200+random.IntN(1500)) * time.Millisecond):
		case <-c.Context().Done():
		}
		c.kills.Add(1)
		if err := daemon.Kill(); err != nil {
			c.Errorf("kill: %v", err)
		}
		begin := time.Now()
		if err := daemon.Start(); err != nil {
			c.Fatalf("the daemon does not start: %v\n%s", err, daemon.LogTail(4096))
		}
		if took := time.Since(begin); took > 10*time.Second {
			c.Errorf("the daemon took %v to start", took)
		}
		c.kills.Add(1)
	}
	c.Logf("the daemon died %d times", deaths)
}

// seq prints that many lines, some at a time, and ends with a code.
func seq(lines, code int) []string {
	return []string{"busybox", "sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); echo $i; [ $((i%%40)) = 0 ] && usleep 20000; done; exit %d", lines, code)}
}

// counted tells whether out is the numbers from 1 to n.
func counted(out string, n int) error {
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	for i, line := range lines {
		if line != strconv.Itoa(i+1) {
			return fmt.Errorf("line %d is %q", i+1, line)
		}
	}
	if len(lines) != n {
		return fmt.Errorf("%d lines, want %d", len(lines), n)
	}
	return nil
}

// client does one thing after the other, until it is time.
func (c *crash) client(number int) {
	random := rand.New(rand.NewPCG(c.seed, uint64(number)+1))
	for i := 0; time.Now().Before(c.until); i++ {
		lines, code := 20+random.IntN(400), random.IntN(100)
		kind := random.IntN(4)
		switch kind {
		case 0: // that nothing is left of it is seen in the end
			out, got, disturbed := c.porthole(append([]string{"run", "--rm", "--label", "crash=rm"}, seq(lines, code)...)...)
			if !disturbed && (got != code || counted(out, lines) != nil) {
				c.Errorf("run --rm of %d lines: code %d, want %d, %v\n%s", lines, got, code, counted(out, lines), out)
			}
		case 1:
			name := fmt.Sprintf("crash%d-%d", number, i)
			_, got, disturbed := c.porthole(append([]string{"run", "-d", "--name", name, "--label", "crash=kept"}, seq(lines, code)...)...)
			if got == 0 {
				c.mu.Lock()
				c.known = append(c.known, promise{name, lines, code})
				c.mu.Unlock()
			} else if !disturbed {
				c.Errorf("run -d: code %d", got)
			}
		case 2:
			out, got, disturbed := c.porthole("exec", "keeper", "sh", "-c", fmt.Sprintf("seq %d; exit %d", lines, code))
			if !disturbed && (got != code || counted(out, lines) != nil) {
				c.Errorf("exec of %d lines: code %d, want %d, %v\n%s", lines, got, code, counted(out, lines), out)
			}
		case 3:
			c.mu.Lock()
			var p promise
			if len(c.known) > 0 {
				p, c.known = c.known[0], c.known[1:]
			}
			c.mu.Unlock()
			if p.name != "" {
				c.check(p)
			}
		}
		c.mu.Lock()
		c.done[kind]++
		c.mu.Unlock()
	}
}

// check waits for the end of a container, over as many daemons as it takes, and sees that the promise holds.
func (c *crash) check(p promise) {
	for {
		out, _, disturbed := c.porthole("wait", p.name)
		if disturbed {
			continue
		}
		if strings.TrimSpace(out) != strconv.Itoa(p.code) {
			c.Errorf("%s: wait says %q, want %d", p.name, out, p.code)
		}
		break
	}
	for {
		out, code, disturbed := c.porthole("logs", p.name)
		if disturbed {
			continue
		}
		if err := counted(out, p.lines); err != nil || code != 0 {
			c.Errorf("%s: logs: code %d, %v", p.name, code, err)
		}
		break
	}
	for {
		if _, code, disturbed := c.porthole("rm", "-f", p.name); !disturbed && code != 0 {
			c.Errorf("%s: rm -f: code %d", p.name, code)
		} else if !disturbed {
			return
		}
	}
}

// settle looks at what there is when nothing dies any more.
func (c *crash) settle() {
	for _, p := range c.known {
		c.check(p)
	}
	c.Logf("%d run --rm, %d run -d, %d exec, %d checked and removed", c.done[0], c.done[1], c.done[2], c.done[3])
	deadline := time.Now().Add(40 * time.Second)
	for {
		left := c.must("ps", "-a", "--filter", "label=crash=rm", "--format", "{{.ID}} {{.Status}} {{.Command}}")
		if left == "" {
			break
		}
		if time.Now().After(deadline) {
			c.Errorf("containers of run --rm are left:\n%s", left)
			break
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-c.Context().Done():
			return
		}
	}
	if out := c.must("exec", "keeper", "echo", "alive"); strings.TrimSpace(out) != "alive" {
		c.Errorf("the container that outlived all: %q", out)
	}
	// A client that was not told of a container may have left it: as one that runs or has ended, and can be removed.
	if err := removeAll(c.Context()); err != nil {
		c.Errorf("remove what is left: %v", err)
	}
	if out := c.must("ps", "-aq"); out != "" {
		c.Errorf("containers are left: %s", out)
	}
}

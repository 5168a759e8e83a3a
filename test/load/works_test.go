package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// median is the middle value.
func median(list []int64) int64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// want runs a command and sees that it prints what it should.
func want(ctx context.Context, out string, args ...string) error {
	got, err := daemon.Porthole(ctx, args...)
	if err == nil && got != out {
		err = fmt.Errorf("%s printed %q, want %q", strings.Join(args, " "), got, out)
	}
	return err
}

// all runs commands until one fails.
func all(ctx context.Context, commands ...[]string) error {
	for _, args := range commands {
		if _, err := daemon.Porthole(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// seq is what the command of that name prints, without the last newline.
func seq(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strconv.Itoa(i+1) + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (s *soak) run(ctx context.Context, name string, random *rand.Rand) error {
	lines, code := 1+random.IntN(500), random.IntN(100)
	out, err := daemon.Porthole(ctx, "run", "--name", name, "busybox", "sh", "-c", fmt.Sprintf("seq 1 %d; exit %d", lines, code))
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		return err
	}
	if got != code || out != seq(lines) {
		return fmt.Errorf("exit code %d, want %d; %d bytes, want %d lines", got, code, len(out), lines)
	}
	if err := want(ctx, seq(lines), "logs", name); err != nil {
		return err
	}
	return all(ctx, []string{"rm", name})
}

func (s *soak) exec(ctx context.Context, name string, _ *rand.Rand) error {
	return want(ctx, name, "exec", "-e", "WHO="+name, "keeper", "sh", "-c", "echo $WHO")
}

func (s *soak) life(ctx context.Context, name string, _ *rand.Rand) error {
	return all(ctx, []string{"create", "--name", name, "--init", "busybox", "sleep", "100000"}, []string{"start", name},
		[]string{"pause", name}, []string{"unpause", name}, []string{"restart", "-t", "1", name}, []string{"stop", "-t", "1", name},
		[]string{"rm", name})
}

func (s *soak) network(ctx context.Context, name string, _ *rand.Rand) error {
	if err := all(ctx, []string{"network", "create", name},
		[]string{"run", "-d", "--name", name + "-a", "--network", name, "busybox", "sh", "-c", "nc -l -p 80 -e echo hello"}); err != nil {
		return err
	}
	if err := want(ctx, "hello", "run", "--rm", "--network", name, "busybox", "sh", "-c",
		fmt.Sprintf("until nc %s-a 80 </dev/null; do usleep 20000; done", name)); err != nil {
		return err
	}
	return all(ctx, []string{"rm", "-f", name + "-a"}, []string{"network", "rm", name})
}

func (s *soak) volume(ctx context.Context, name string, _ *rand.Rand) error {
	if err := all(ctx, []string{"run", "--rm", "-v", name + ":/data", "busybox", "sh", "-c", "echo " + name + " >/data/who"}); err != nil {
		return err
	}
	if err := want(ctx, name, "run", "--rm", "-v", name+":/data:ro", "busybox", "cat", "/data/who"); err != nil {
		return err
	}
	return all(ctx, []string{"volume", "rm", name})
}

func (s *soak) build(ctx context.Context, name string, random *rand.Rand) error {
	which := name
	if random.IntN(2) == 0 {
		which = "again" // from the cache, but for the first
	}
	if err := all(ctx, []string{"build", "-q", "-t", name, "--build-arg", "WHICH=" + which, s.context}); err != nil {
		return err
	}
	if err := want(ctx, which, "run", "--rm", name); err != nil {
		return err
	}
	return all(ctx, []string{"rmi", name})
}

func (s *soak) look(ctx context.Context, _ string, _ *rand.Rand) error {
	// What is written while it reads comes as well.
	if out, err := daemon.Porthole(ctx, "logs", "--tail", "3", "keeper"); err != nil {
		return err
	} else if !strings.HasPrefix(out, "tick\ntick\ntick") {
		return fmt.Errorf("logs --tail 3 printed %q", out)
	}
	return all(ctx, []string{"events", "--since", "1s", "--until", "0s"}, []string{"stats", "--no-stream"}, []string{"top", "keeper"},
		[]string{"inspect", "keeper"}, []string{"why", "keeper"}, []string{"ps", "-a"}, []string{"system", "df"})
}

func (s *soak) files(ctx context.Context, name string, _ *rand.Rand) error {
	if err := all(ctx, []string{"run", "--name", name, "busybox", "sh", "-c", "echo " + name + " >/who"}); err != nil {
		return err
	}
	if err := want(ctx, "A /who", "diff", name); err != nil {
		return err
	}
	if err := all(ctx, []string{"cp", name + ":/who", s.copies + "/" + name}, []string{"commit", name, name}); err != nil {
		return err
	}
	if err := want(ctx, name, "run", "--rm", name, "cat", "/who"); err != nil {
		return err
	}
	return all(ctx, []string{"rm", name}, []string{"rmi", name})
}

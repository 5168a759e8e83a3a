package script

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

// deadMount mounts a file system of which nobody answers for: what looks into it waits, as with a network file system
// whose server is gone. End lets all of that fail.
func deadMount(t *testing.T, dir string) (end func()) {
	t.Helper()
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open /dev/fuse: %v", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev)
	if err := unix.Mount("dead", dir, "fuse", unix.MS_NODEV|unix.MS_NOSUID, options); err != nil {
		_ = unix.Close(dev)
		t.Fatalf("mount a dead file system on %s: %v", dir, err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			_ = unix.Close(dev)
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Errorf("unmount %s: %v", dir, err)
			}
		}
	}
	t.Cleanup(end)
	return end
}

// background runs a command that is going to be stuck. Wait waits for its end, and gives its error.
func background(t *testing.T, args ...string) (wait func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		_, err := daemon.Porthole(ctx, args...)
		ended <- err
	}()
	return func() error { return <-ended }
}

// underWay waits until the daemon shows an operation.
func underWay(t *testing.T, verb string) {
	t.Helper()
	shown(t, `"Verb":"`+verb+`"`)
}

// shown waits until the list of what the daemon does has some text.
func shown(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := daemon.Get("/porthole/operations")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(out), text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the daemon never shows %s, but %s", text, out)
		}
	}
}

// TestNoReadBlocks: who only looks gets an answer in a second, from both command lines, while a container is being
// created, started or stopped, or while its shim stands still. (Row 17 of what hurts: docs/design/records.md.)
func TestNoReadBlocks(t *testing.T) {
	begin(t)
	docker := testenv.NeedsProgram(t, "docker")
	// Other tests before this one may have made tens of thousands of events, which take their time to print.
	begun := strconv.FormatInt(time.Now().Unix(), 10)
	porthole(t, "run", "-d", "--name", "bb", "busybox", "sh", "-c", "echo line; exec sleep 100000")

	// reads looks at everything in all ways. Of a few times the quickest counts: the machine has other work.
	reads := func(t *testing.T, names ...string) {
		t.Helper()
		looks := [][]string{{"ps", "-a"}, {"info"}, {"events", "--since", begun, "--until", "0s"}}
		for _, name := range append(names, "bb") {
			looks = append(looks, []string{"inspect", name}, []string{"logs", name}, []string{"stats", "--no-stream", name}, []string{"top", name})
		}
		for _, program := range []string{daemon.Program("porthole"), docker} {
			for _, args := range looks {
				quickest := time.Minute
				for range 3 {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					began := time.Now()
					out, err := daemon.Run(ctx, program, args...)
					took := time.Since(began)
					cancel()
					if err != nil && (args[0] != "top" || !strings.Contains(err.Error(), "is not running")) {
						t.Errorf("%s %q: %v\n%s", filepath.Base(program), args, err, out)
						break
					}
					if quickest = min(quickest, took); quickest < time.Second {
						break
					}
				}
				if quickest >= time.Second {
					t.Errorf("%s %q took %v", filepath.Base(program), args, quickest)
				}
			}
		}
	}

	t.Run("create", func(t *testing.T) {
		dir := t.TempDir()
		end := deadMount(t, dir)
		wait := background(t, "create", "--name", "aa", "-v", dir+"/sub:/x", "busybox")
		underWay(t, "create")
		reads(t)
		underWay(t, "create")
		end()
		if wait() == nil {
			porthole(t, "rm", "aa")
		}
	})
	t.Run("start", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		porthole(t, "create", "--name", "aa", "-v", dir+"/sub:/x", "busybox", "sleep", "100000")
		end := deadMount(t, dir)
		wait := background(t, "start", "aa")
		underWay(t, "start")
		reads(t, "aa")
		underWay(t, "start")
		end()
		_ = wait() // it may start, with the directory that was covered
		porthole(t, "rm", "-f", "aa")
	})
	t.Run("stop", func(t *testing.T) {
		porthole(t, "run", "-d", "--name", "aa", "busybox", "sleep", "100000")
		wait := background(t, "stop", "-t", "50", "aa")
		underWay(t, "stop")
		reads(t, "aa")
		underWay(t, "stop")
		porthole(t, "kill", "aa")
		if err := wait(); err != nil {
			t.Errorf("stop: %v", err)
		}
		porthole(t, "rm", "aa")
	})
	t.Run("shim", func(t *testing.T) {
		porthole(t, "run", "-d", "--name", "aa", "busybox", "sleep", "100000")
		shim := daemon.Shim(t, "aa")
		if err := unix.Kill(shim, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		goOn := func() { _ = unix.Kill(shim, unix.SIGCONT) } // it may have ended
		t.Cleanup(goOn)
		wait := background(t, "exec", "aa", "true")
		underWay(t, "exec start")
		reads(t, "aa")
		underWay(t, "exec start")
		// After ten seconds everybody is told who is to blame.
		shown(t, `"Slow":true`)
		age := porthole(t, "inspect", "-f", "{{range .Porthole.Operations}}{{.Verb}} {{.AgeMilliseconds}}{{end}}", "aa")
		millis, ok := strings.CutPrefix(age, "exec start ")
		if n, err := strconv.Atoi(millis); !ok || err != nil || n < 10000 {
			t.Errorf("inspect shows %q, want an exec start of more than 10 s", age)
		}
		if warnings := porthole(t, "info", "-f", "{{.Warnings}}"); !strings.Contains(warnings, "exec start of aa has been under way for 1") {
			t.Errorf("info does not name the operation that hangs: %s", warnings)
		}
		goOn()
		if err := wait(); err != nil {
			t.Errorf("exec: %v", err)
		}
		porthole(t, "rm", "-f", "aa")
	})
}

// TestHolders: who keeps from being unmounted what a container has let go is named, a process of the host and one of
// the container.
func TestHolders(t *testing.T) {
	begin(t)
	begun := strconv.FormatInt(time.Now().Unix(), 10)
	porthole(t, "volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "busy")
	porthole(t, "run", "-d", "--name", "aa", "-v", "busy:/v", "busybox", "sleep", "100000")
	cmd := exec.Command("sleep", "100000")
	cmd.Dir = porthole(t, "volume", "inspect", "-f", "{{.Mountpoint}}", "busy")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	dir := t.TempDir()
	porthole(t, "mount", "graft", "aa", dir+":/g")
	porthole(t, "exec", "-d", "-w", "/g", "aa", "sh", "-c", "touch here; exec sleep 100000")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "here")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the exec does not begin")
		}
	}
	porthole(t, "mount", "ungraft", "aa", "/g")
	porthole(t, "rm", "-f", "aa")
	now := time.Now() // a duration would be cut to the second
	until := fmt.Sprintf("%d.%09d", now.Unix(), now.Nanosecond())
	events := porthole(t, "events", "--since", begun, "--until", until, "--format", "{{.Action}} {{.Actor.Attributes}}")
	for _, want := range []string{
		`mount ungraft .*heldBy:(sh|sleep) \(pid \d+\): working directory, \S+, of container aa`,
		fmt.Sprintf(`unmount .*heldBy:sleep \(pid %d\): working directory, %s, of the host`, cmd.Process.Pid, regexp.QuoteMeta(cmd.Dir)),
	} {
		if !regexp.MustCompile(want).MatchString(events) {
			t.Errorf("no event says %s: %s", want, events)
		}
	}
}

// frozenDisk mounts a small ext4 of a file on a directory. Freeze stops all writes to it: who writes sleeps in the
// kernel, and no signal wakes it up, until thaw.
func frozenDisk(t *testing.T) (dir string, freeze, thaw func()) {
	t.Helper()
	testenv.NeedsProgram(t, "fsfreeze")
	command := func(name string, args ...string) error {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
		}
		return nil
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir = t.TempDir()
	bed.Ext4(t, dir, 16<<20)
	frozen := false
	thaw = func() {
		t.Helper()
		if frozen {
			frozen = false
			must(command("fsfreeze", "-u", dir))
		}
	}
	t.Cleanup(thaw)
	freeze = func() {
		t.Helper()
		frozen = true
		must(command("fsfreeze", "-f", dir))
	}
	return dir, freeze, thaw
}

// untilOut runs porthole until what it prints has a match, and returns that output.
func untilOut(t *testing.T, pattern string, args ...string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := daemon.Porthole(t.Context(), args...)
		if err == nil && re.MatchString(out) {
			return out
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q never prints %s, but %s, %v", args, pattern, out, err)
		}
	}
}

// TestStuckInKernel is about a container whose process no signal reaches.
func TestStuckInKernel(t *testing.T) {
	begin(t)
	dir, freeze, thaw := frozenDisk(t)
	porthole(t, "run", "-d", "--name", "aa", "-v", dir+":/data", "busybox", "sh", "-c", "sleep 100000 & while :; do echo x > /data/log; done")
	freeze()
	out := untilOut(t, `stuck-in-kernel`, "why", "aa")
	for _, want := range []string{
		`stuck-in-kernel \(certain\): sh \(pid 1 inside, \d+ on the host\) cannot be interrupted: it waits in (open|openat|write) on /data/log: ext4 of /dev/loop\d+ at /data is frozen\n`,
		`it is in the kernel's percpu_rwsem_wait < \w+`, `its system call: (open|openat|write)\(.*/data/log`, `fsfreeze -u ` + regexp.QuoteMeta(dir) + `\n`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("why does not say %s, but %s", want, out)
		}
	}

	// Who wants it gone is told soon, and why it does not go. Nobody else waits.
	const hint = `sh \(pid \d+ on the host\) cannot be killed: it waits in (open|openat|write) on /data/log: ext4 of /dev/loop\d+ at /data is frozen \(percpu_rwsem_wait\); fsfreeze -u `
	const late = 15 * time.Second // 3 s after SIGKILL, with room for other work of the machine
	refused := func(words string, args ...string) {
		t.Helper()
		began := time.Now()
		_, err := daemon.Porthole(t.Context(), args...)
		if took := time.Since(began); took > late {
			t.Errorf("%q took %v", args, took)
		}
		if err == nil || !strings.Contains(err.Error(), words+"tried to kill container, but did not receive an exit event") || !regexp.MustCompile(hint).MatchString(err.Error()) {
			t.Errorf("%q: error %v", args, err)
		}
	}
	refused("cannot stop container: aa: ", "stop", "-t", "0", "aa")
	if state := porthole(t, "inspect", "-f", "{{.State.Status}}", "aa"); state != "running" {
		t.Errorf("after the stop that failed it is %s", state)
	}
	// The first process ends none of the others, since it does not end.
	if out := porthole(t, "top", "aa", "-eo", "pid,args"); regexp.MustCompile(`(?m) sleep 100000$`).MatchString(out) || !strings.Contains(out, "echo x") {
		t.Errorf("after the stop that failed there are: %s", out)
	}
	wait := background(t, "stop", "-t", "50", "aa")
	underWay(t, "stop")
	porthole(t, "run", "--rm", "busybox", "true")
	for _, args := range [][]string{{"inspect", "aa"}, {"logs", "aa"}, {"top", "aa"}} {
		porthole(t, args...)
	}
	refused(`cannot remove container "aa": could not kill: `, "rm", "-f", "-v", "aa")
	underWay(t, "stop") // nobody has waited for that

	// What was asked for is not forgotten, and done as soon as it can be.
	removing := func() {
		t.Helper()
		if row := porthole(t, "ps", "--format", "{{.State}}, {{.Status}}", "--filter", "name=aa"); row != "removing, Removal In Progress" {
			t.Errorf("ps shows %q", row)
		}
	}
	removing()
	if err := daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = wait() // the daemon is gone
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	removing()
	if out := porthole(t, "why", "aa"); !strings.Contains(out, "asked for its removal") || !strings.Contains(out, "SIGKILL has been sent to it already") {
		t.Errorf("why does not tell of the removal: %s", out)
	}
	thaw()
	for deadline := time.Now().Add(20 * time.Second); porthole(t, "ps", "-aq", "--filter", "name=aa") != ""; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it is still there: %s", porthole(t, "ps", "-a"))
		}
	}
}

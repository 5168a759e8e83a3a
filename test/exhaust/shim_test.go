package exhaust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/test/bed"
	"github.com/portholehq/porthole/test/crash/calls"
)

// TestShims kills shims and stages. A container ends with its shim, and that is told; nothing else ends with it.
func TestShims(t *testing.T) {
	w := newWorld(t, bed.Options{}, nil)
	w.must("volume", "create", "kept")
	w.must("run", "-d", "--name", "bystander", "busybox", "sleep", "1000")
	before := w.snapshot()

	attack(t, w, "SIGKILL of a shim", func(w *world) string {
		w.must("run", "-d", "--name", "one", "-p", "127.0.0.1::80", "-v", "kept:/v", "busybox", "sh", "-c", "seq 1000; sleep 1000 & exec sleep 2000")
		w.until("\n1000", "logs", "one")
		return w.lose("one", func(shim int) { kill(w.t, shim) })
	})
	attack(t, w, "SIGSEGV to a shim", func(w *world) string {
		w.must("run", "-d", "--name", "one", "busybox", "sh", "-c", "seq 1000; exec sleep 2000")
		w.until("\n1000", "logs", "one")
		return w.lose("one", func(shim int) { w.send(shim, unix.SIGSEGV) })
	})
	attack(t, w, "SIGKILL of a shim in the middle of an exec", func(w *world) string {
		w.must("run", "-d", "--name", "one", "busybox", "sh", "-c", "seq 1000; exec sleep 2000")
		w.until("\n1000", "logs", "one")
		type end struct {
			out string
			err error
		}
		ended := make(chan end)
		go func() {
			out, err := w.try("exec", "one", "sh", "-c", "echo in; sleep 3000")
			ended <- end{out, err}
		}()
		w.until("sleep 3000", "top", "one")
		came := w.lose("one", func(shim int) { kill(w.t, shim) })
		e := <-ended
		if said(w.t, e.out, "in"); e.err == nil || e.err.Error() != "exit status 137" {
			w.t.Errorf("the exec ended with %v, want exit status 137", e.err)
		}
		return came + "; the exec ended with 137"
	})
	attack(t, w, "SIGKILL of the shim of a paused container", func(w *world) string {
		w.must("run", "-d", "--name", "one", "busybox", "sh", "-c", "seq 1000; exec sleep 2000")
		w.until("\n1000", "logs", "one")
		w.must("pause", "one")
		return w.lose("one", func(shim int) { kill(w.t, shim) })
	})
	attack(t, w, "SIGKILL of two shims while no daemon runs", func(w *world) string {
		w.must("run", "-d", "--name", "one", "busybox", "sh", "-c", "seq 1000; exec sleep 2000")
		w.must("run", "-d", "--name", "again", "--restart", "always", "busybox", "sleep", "2000")
		w.until("\n1000", "logs", "one")
		pid, one, again := w.pid("one"), w.Shim(w.t, "one"), w.Shim(w.t, "again")
		// A start is not waited for to be on disk, a creation is, with all that came before.
		w.must("create", "--name", "later", "busybox")
		w.killAll(pid, one, again)
		said(w.t, w.must("logs", "one"), "\n1000")
		w.must("start", "one")
		return "one exited (137), the other restarted by its policy"
	})
	attack(t, w, "SIGKILL of daemon and shim as soon as a start is told", func(w *world) string {
		// No start is saved any more, as in the first 50 ms.
		var late atomic.Bool
		records := filepath.Join(w.DataRoot(), "state.db")
		w.Prepare = (&calls.Watch{Decide: func(c calls.Call) calls.Effect {
			if late.Load() && c.Name == "pwrite64" && c.Path == records {
				return calls.Effect{Error: unix.EIO}
			}
			return calls.Effect{}
		}}).Prepare
		if err := errors.Join(w.Kill(), w.Start()); err != nil {
			w.t.Fatal(err)
		}
		w.Prepare = nil
		w.must("create", "--name", "one", "busybox", "sh", "-c", "seq 1000; exec sleep 2000")
		w.must("create", "--name", "again", "--restart", "always", "busybox", "sleep", "2000")
		late.Store(true)
		w.must("start", "one", "again")
		w.until("\n1000", "logs", "one")
		pid, one, again := w.pid("one"), w.Shim(w.t, "one"), w.Shim(w.t, "again")
		w.killAll(pid, one, again)
		w.must("start", "one")
		return "one exited (137), the other restarted by its policy"
	})
	attack(t, w, "SIGKILL of the shims of 20 containers", func(w *world) string {
		bed.InParallel(w.t, 20, func(i int) error {
			policy := []string{"no", "always"}[i%2]
			_, err := w.Porthole(w.t.Context(), "run", "-d", "--name", fmt.Sprintf("many%d", i), "--restart", policy, "--network", "none", "busybox", "sleep", "1000")
			return err
		})
		ids := strings.Fields(w.must("ps", "-q", "--filter", "name=many"))
		var shims []int
		for pid := range strings.FieldsSeq(w.must(append([]string{"inspect", "-f", "{{.State.Pid}}"}, ids...)...)) {
			shims = append(shims, bed.Parent(w.t, number(w.t, pid)))
		}
		kill(w.t, shims...)
		counted := func(status string) func() bool {
			return func() bool {
				return len(strings.Fields(w.must("ps", "-aq", "--filter", "name=many", "--filter", "status="+status))) == 10
			}
		}
		eventually(w.t, "ten are exited", counted("exited"))
		eventually(w.t, "ten run again", counted("running"))
		w.until("exitCode=137", "events", "--since", "1m", "--until", "0s", "--filter", "event=die", "--filter", "container=many7")
		return "10 exited (137), 10 restarted by their policy"
	})
	attack(t, w, "SIGKILL of stages as they come", func(w *world) string { return w.killStages() })
	attack(t, w, "SIGKILL of the forker and of the keeper of ports", func(w *world) string {
		w.must("run", "-d", "--name", "one", "-p", "127.0.0.1:7000:80", "busybox", "sh", "-c", "mkdir /w; echo page >/w/index.html; httpd -f -p 80 -h /w")
		found := processes("porthole-forker", "porthole-keeper")
		if len(found) < 2 {
			w.t.Fatalf("found %v only", found)
		}
		kill(w.t, found...)
		w.must("run", "--rm", "busybox", "true")
		w.must("run", "-d", "--name", "two", "-p", "127.0.0.1:7001:80", "busybox", "sleep", "1000")
		eventually(w.t, "the port answers", func() bool {
			out, _ := w.Run(w.t.Context(), "wget", "-q", "-O", "-", "http://127.0.0.1:7000/")
			return out == "page"
		})
		return "both are back, the port answers"
	})
	w.cleared(before, "bystander")
}

// lose ends the shim of a container that has written the lines 1 to 1000, and sees what is told of that.
func (w *world) lose(name string, end func(shim int)) string {
	w.t.Helper()
	pid, shim := w.pid(name), w.Shim(w.t, name)
	end(shim)
	gone(w.t, pid)
	w.until("Exited (137)", "ps", "-a", "--filter", "name="+name)
	// The event and the record come right after the status.
	w.until("exitCode=137", "events", "--since", "1m", "--until", "0s", "--filter", "container="+name, "--filter", "event=die")
	why := w.until("shim-ended", "why", name)
	said(w.t, why, "shim-ended (certain): its shim was ended by SIG", "exhaust.test")
	if lines := strings.Fields(w.must("logs", name)); len(lines) != 1000 || lines[999] != "1000" {
		w.t.Errorf("%d lines are left, want 1000", len(lines))
	}
	w.must("start", name)
	w.must("exec", name, "true")
	line, _, _ := strings.Cut(why[strings.Index(why, "shim-ended"):], "\n")
	return "exited (137), 1,000 lines are there, started again; " + line
}

func (w *world) send(pid int, sig unix.Signal) {
	w.t.Helper()
	if err := unix.Kill(pid, sig); err != nil {
		w.t.Fatal(err)
	}
}

// processes are those of which the first argument is one of the names.
func processes(names ...string) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue // it has ended
		}
		first, _, _ := bytes.Cut(cmdline, []byte{0})
		for _, name := range names {
			if string(first) == name {
				pid, _ := strconv.Atoi(filepath.Base(dir))
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// killStages kills each stage that it finds while containers are started and entered.
func (w *world) killStages() string {
	var killed atomic.Int64
	ctx, cancel := context.WithTimeout(w.t.Context(), settling)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, pid := range processes("porthole-stage") {
				if unix.Kill(pid, unix.SIGKILL) == nil {
					killed.Add(1)
				}
			}
		}
	}()
	runs, failed := 0, 0
	for began := time.Now(); time.Since(began) < 2*time.Second || killed.Load() < 5; runs++ {
		if ctx.Err() != nil {
			break
		}
		for _, args := range [][]string{
			{"run", "--rm", "--network", "none", "busybox", "echo", "fine"},
			{"exec", "bystander", "echo", "fine"},
		} {
			out, err := w.try(args...)
			switch {
			case err == nil && out == "fine":
			// Between the look at it and the kill a stage may have become the program, which is then ended by the signal.
			case err != nil && (strings.Contains(out, "killed") || strings.Contains(out, "no such process") || err.Error() == "exit status 137"):
				failed++
			default:
				w.t.Errorf("%v: %v, %s", args, err, out)
			}
		}
	}
	cancel()
	<-done
	if killed.Load() < 5 {
		w.t.Errorf("killed %d stages only", killed.Load())
	}
	return fmt.Sprintf("%d killed, %d of %d starts and execs failed and said why", killed.Load(), failed, 2*runs)
}

// killAll kills the daemon and the shims of two containers, of which the first one's process is pid, and starts the daemon:
// one is known to have ended, again goes on by its policy.
func (w *world) killAll(pid, one, again int) {
	w.t.Helper()
	if err := w.Kill(); err != nil {
		w.t.Fatal(err)
	}
	kill(w.t, one, again)
	if err := w.Start(); err != nil {
		w.t.Fatal(err)
	}
	gone(w.t, pid)
	w.until("Exited (137)", "ps", "-a", "--filter", "name=one")
	w.until("Up", "ps", "-a", "--filter", "name=again")
	said(w.t, w.must("why", "one"), "not-observed")
}

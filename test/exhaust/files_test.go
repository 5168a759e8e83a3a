package exhaust

import (
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/test/bed"
)

// TestDescriptors leaves the daemon hardly any descriptors.
func TestDescriptors(t *testing.T) {
	w := newWorld(t, bed.Options{}, nil)
	w.must("run", "-d", "--name", "bystander", "busybox", "sleep", "1000")
	attack(t, w, "a daemon without descriptors", func(w *world) string {
		restore := w.fewFiles(5)
		out, err := w.try("run", "--rm", "busybox", "true")
		if said(w.t, out, "too many open files", "hint: "); err == nil {
			w.t.Error("a container was started")
		}
		w.must("ps", "-a")

		var conns []net.Conn
		for range 100 {
			c, err := net.Dial("unix", w.Socket)
			if err != nil {
				w.t.Fatal(err)
			}
			conns = append(conns, c)
		}
		spent := w.ticks()
		time.Sleep(time.Second) // it is what the daemon does in a second that is looked at
		spent = w.ticks() - spent
		if spent > 30 { // of 100
			w.t.Errorf("the daemon spends %d %% of a processor on connections that it cannot take", spent)
		}
		for _, c := range conns {
			c.Close()
		}
		w.must("ps", "-a")
		restore()
		w.must("run", "--rm", "busybox", "true")
		return fmt.Sprintf("run is refused, ps answers; 100 clients that it cannot take cost %d %% of a processor; it goes on when it is given more", spent)
	})
	attack(t, w, "a daemon with one descriptor more each time", func(w *world) string {
		refused, n := 0, 0
		for started := 0; started < 3; n++ {
			if n > 100 {
				w.t.Fatal("a start needs more than 100 descriptors")
			}
			id := w.must("create", "-p", "127.0.0.1::80", "-v", "/data", "--init", "--health-cmd", "true", "busybox", "true")
			restore := w.fewFiles(n)
			_, _ = w.try("exec", "bystander", "true")
			_, err := w.try("start", "-a", id)
			restore()
			if err == nil {
				started++
				continue
			}
			refused++
			w.must("start", "-a", id)
			if n%2 == 0 {
				restore := w.fewFiles(n)
				_, _ = w.try("rm", "-f", "-v", id)
				restore()
			}
		}
		if refused == 0 {
			w.t.Error("no start was refused")
		}
		return fmt.Sprintf("%d starts are refused, and possible afterwards; with %d descriptors they are not refused any more", refused, n-1)
	})
}

// fewFiles lets the daemon have so many descriptors more than it has now.
func (w *world) fewFiles(more int) (restore func()) {
	w.t.Helper()
	var before unix.Rlimit
	set := func(l, old *unix.Rlimit) {
		w.t.Helper()
		if err := unix.Prlimit(w.Pid(), unix.RLIMIT_NOFILE, l, old); err != nil {
			w.t.Fatal(err)
		}
	}
	set(nil, &before)
	set(&unix.Rlimit{Cur: uint64(w.snapshot().FDs + more), Max: before.Max}, nil)
	return func() { set(&before, nil) }
}

// ticks is the processor time that the daemon has used, in hundredths of a second.
func (w *world) ticks() int {
	w.t.Helper()
	f := bed.Stat(w.t, w.Pid())
	return number(w.t, f[11]) + number(w.t, f[12])
}

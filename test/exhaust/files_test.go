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
		var before unix.Rlimit
		if err := unix.Prlimit(w.Pid(), unix.RLIMIT_NOFILE, nil, &before); err != nil {
			w.t.Fatal(err)
		}
		set := func(l unix.Rlimit) {
			if err := unix.Prlimit(w.Pid(), unix.RLIMIT_NOFILE, &l, nil); err != nil {
				w.t.Fatal(err)
			}
		}
		set(unix.Rlimit{Cur: uint64(w.snapshot().FDs + 5), Max: before.Max})
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
		set(before)
		w.must("run", "--rm", "busybox", "true")
		return fmt.Sprintf("run is refused, ps answers; 100 clients that it cannot take cost %d %% of a processor; it goes on when it is given more", spent)
	})
}

// ticks is the processor time that the daemon has used, in hundredths of a second.
func (w *world) ticks() int {
	w.t.Helper()
	f := bed.Stat(w.t, w.Pid())
	return number(w.t, f[11]) + number(w.t, f[12])
}

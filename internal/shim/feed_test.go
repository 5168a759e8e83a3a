package shim

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/shim/wire"
)

// feed has the shim feed a socket whose other end it returns.
func (r *rig) feed() int {
	r.t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { unix.Close(pair[0]) })
	theirs := os.NewFile(uintptr(pair[1]), "theirs")
	defer theirs.Close()
	r.call(wire.MethodFeedLog, nil, nil, theirs)
	return pair[0]
}

// next reads one batch; false: the end.
func (r *rig) next(fd int) (crilog.Batch, uint64, bool) {
	r.t.Helper()
	buf := make([]byte, crilog.BatchMost)
	n, err := readRetry(fd, buf)
	if err != nil {
		r.t.Fatal(err)
	}
	if n == 0 {
		return crilog.Batch{}, 0, false
	}
	b, count, err := crilog.ParseBatch(buf[:n])
	if err != nil {
		r.t.Fatal(err)
	}
	return b, count, true
}

func TestFeedHasWhatTheLogHas(t *testing.T) {
	r := newRig(t)
	r.create(wire.StartSpec{Log: crilog.Options{MaxSize: 4 << 10, MaxFiles: 100}}, "sh", "-c", "seq 1000; printf end")
	fd := r.feed()
	r.call(wire.MethodGo, nil, nil)
	var text strings.Builder
	for want := uint64(0); ; want++ {
		b, count, ok := r.next(fd)
		if !ok {
			break
		}
		if count != want {
			t.Fatalf("batch %d where %d is due", count, want)
		}
		for line := range strings.Lines(string(b.Records)) {
			_, rest, _ := strings.Cut(line, " ") // the time, which log leaves out
			text.WriteString(rest)
		}
	}
	r.exited(wire.Init)
	if got := r.log(); got != text.String() || !strings.Contains(got, "F 1000\n") {
		t.Errorf("the log has %d bytes, the feed %d", len(got), text.Len())
	}
}

// A feed that is not read delays nothing, learns how far the log is once it is read again, and is forgotten when it goes.
func TestFeedThatIsNotRead(t *testing.T) {
	r := newRig(t)
	r.create(wire.StartSpec{OpenStdin: true, Log: crilog.Options{MaxSize: 1 << 10, MaxFiles: 1}}, "sh", "-c", "seq 20000; read x; echo over")
	fd := r.feed()
	r.call(wire.MethodGo, nil, nil)
	r.eventually("all is written", func() bool { return r.state().Log.Lines == 20000 })
	read, missed := uint64(0), false
	for next := uint64(0); read < 20000; next++ {
		b, count, ok := r.next(fd)
		if !ok {
			t.Fatal("the feed ends")
		}
		missed = missed || count != next
		next = count
		read = b.Line + uint64(strings.Count(string(b.Records), "\n"))
	}
	if !missed {
		t.Error("the socket held everything: this tests nothing")
	}
	unix.Close(fd)
	r.call(wire.MethodSignal, wire.SignalSpec{Signal: syscall.SIGKILL}, nil)
	if e := r.exited(wire.Init); e.Code != 137 {
		t.Errorf("exit %+v", e)
	}
}

func TestFeedWantsPackets(t *testing.T) {
	r := newRig(t)
	r.create(wire.StartSpec{}, "true")
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), fmt.Sprint(i))
		defer f.Close()
		if _, err := r.try(wire.MethodFeedLog, nil, nil, f); err == nil {
			t.Error("a stream is taken")
		}
	}
	r.call(wire.MethodGo, nil, nil)
	r.exited(wire.Init)
}

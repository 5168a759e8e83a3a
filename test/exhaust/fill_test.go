package exhaust

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/test/bed"
)

// newDisk is a world with a disk of its own, and a bystander that prints.
func newDisk(t *testing.T, size int64) *world {
	w := newWorld(t, bed.Options{}, func(dir string) {
		data := filepath.Join(dir, "data")
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		bed.Ext4(t, data, size)
	})
	w.must("run", "-d", "--name", "bystander", "busybox", "sh", "-c", "i=0; while sleep 0.05; do i=$((i+1)); echo $i; done")
	return w
}

// TestPullFills pulls an image that there is no room for.
func TestPullFills(t *testing.T) {
	const kept = 256 << 20 // what image/packed does not take
	w := newDisk(t, 2*kept)
	r := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(r.Close)
	const size = 12 << 20
	name := strings.TrimPrefix(r.URL, "http://") + "/big:1"
	w.must("run", "--name", "maker", "busybox", "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=12")
	w.must("commit", "maker", name)
	w.must("push", "-q", name)
	w.must("rm", "maker")
	w.must("rmi", name)

	attack(t, w, "an image that there is no room for", func(w *world) string {
		w.t.Cleanup(func() { _ = os.Remove(filepath.Join(w.DataRoot(), filler)) })
		before := w.content()
		w.leave(kept + size/2)
		out, err := w.try("pull", name)
		if said(w.t, strings.ToLower(out), full); err == nil {
			w.t.Errorf("it is pulled: %s", out)
		}
		w.must("ps", "-a")
		w.must("exec", "bystander", "true")
		eventually(w.t, "nothing of it is left", func() bool { return w.content() == before })
		if left := readDir(w.t, filepath.Join(w.DataRoot(), "images", "content", "ingest")); len(left) > 0 {
			w.t.Errorf("beginnings of layers are left: %v", left)
		}
		w.empty()
		w.must("pull", "-q", name)
		if out := w.must("run", "--rm", name, "wc", "-c", "/big"); !strings.HasPrefix(out, fmt.Sprint(size, " ")) {
			w.t.Errorf("once there is room: %s", out)
		}
		w.must("rmi", name)
		eventually(w.t, "it is removed", func() bool { return w.content() == before })
		return "refused, nothing is left; pulled once there is room"
	})
}

// gate is where the first to come is seen, and all wait until it is opened.
type gate struct {
	once       sync.Once
	came, open chan struct{}
}

func newGate() *gate { return &gate{came: make(chan struct{}), open: make(chan struct{})} }

// TestUnpackFills has the disk become full while a layer is unpacked, which is small as long as it is packed.
func TestUnpackFills(t *testing.T) {
	const (
		unpacked = 30 << 20 // less than what image/packed asks for room before
		most     = 8 << 20
	)
	w := newDisk(t, 512<<20)
	var gate atomic.Pointer[gate] // nil: it is open
	all := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if g := gate.Load(); g != nil && req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") {
			g.once.Do(func() { close(g.came) })
			<-g.open
		}
		all.ServeHTTP(rw, req)
	}))
	t.Cleanup(r.Close)
	name := strings.TrimPrefix(r.URL, "http://") + "/zeros:1"
	w.must("run", "--name", "maker", "busybox", "sh", "-c", "for i in $(seq 30); do dd if=/dev/zero of=/big$i bs=1M count=1 2>/dev/null; done")
	w.must("commit", "maker", name)
	w.must("push", "-q", name)
	archive := filepath.Join(t.TempDir(), "zeros.tar")
	w.must("save", "-o", archive, name)
	w.must("rm", "maker")
	w.must("rmi", name)
	if info, err := os.Stat(archive); err != nil || info.Size() > most/2 {
		t.Fatalf("the archive: %v, %v", info, err)
	}
	context := t.TempDir()
	copied, step := filepath.Join(context, "copied"), filepath.Join(context, "step")
	for dir, dockerfile := range map[string]string{
		copied: "FROM busybox\nCOPY big /big\nRUN cp /big /again\n",
		step:   "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=30\n",
	} {
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(copied, "big"), make([]byte, unpacked), 0o644); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name string
		args []string
		room int64 // that there is when it begins, or when its first layer comes
		told []string
	}{
		{"an image that is pulled is unpacked", []string{"pull", name}, most, []string{"layer 2", "hint: see what takes the space"}},
		{"an image is pulled, and nothing is free any more", []string{"pull", name}, 0, []string{"hint: see what takes the space"}},
		{"an image that is loaded is unpacked", []string{"load", "-q", "-i", archive}, most, []string{"layer 2", "hint: see what takes the space"}},
		{"the context of a build comes", []string{"build", "-q", "-t", name, copied}, most, []string{"hint: see what takes the space"}},
		{"the context of a build is copied", []string{"build", "-q", "-t", name, copied}, most + unpacked, []string{"hint: see what takes the space"}},
		{"a step of a build writes", []string{"build", "-t", name, step}, most, nil}, // its program tells of it, and ends with a code
	} {
		attack(t, w, c.name, func(w *world) string {
			w.t.Cleanup(func() { _ = os.Remove(filepath.Join(w.DataRoot(), filler)) })
			before, free := w.images(), w.free()
			fill := func() {
				if c.room == 0 {
					w.fill()
				} else {
					w.leave(c.room)
				}
			}
			var out string
			var err error
			if c.args[0] == "pull" { // which asks for room before its first layer comes
				g := newGate()
				gate.Store(g)
				done := make(chan struct{})
				go func() {
					defer close(done)
					out, err = w.try(c.args...)
				}()
				select {
				case <-g.came:
					fill()
				case <-done:
				}
				gate.Store(nil)
				close(g.open)
				<-done
			} else {
				fill()
				out, err = w.try(c.args...)
			}
			if said(w.t, strings.ToLower(out), full); err == nil {
				w.t.Errorf("it succeeds: %s", out)
			}
			said(w.t, out, c.told...)
			w.must("ps", "-a")
			w.must("exec", "bystander", "true")
			if c.args[0] == "build" {
				w.must("builder", "prune", "-af")
			}
			w.returned(before, c.room)
			w.empty()
			w.must(c.args...)
			if out := w.must("run", "--rm", name, "sh", "-c", "cat /big* | wc -c"); out != fmt.Sprint(unpacked) {
				w.t.Errorf("once there is room: %s", out)
			}
			w.must("rmi", name)
			w.must("image", "prune", "-f")
			w.must("builder", "prune", "-af")
			w.returned(before, free)
			return "refused, nothing is left; done once there is room"
		})
	}
}

// TestOutputFills has a container print until the disk is full.
func TestOutputFills(t *testing.T) {
	w := newDisk(t, 64<<20)
	attack(t, w, "a container that prints until the disk is full", func(w *world) string {
		ballast := filepath.Join(w.DataRoot(), "ballast")
		if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		const lines = 500_000 // of 100 characters, more than the disk has
		script := fmt.Sprintf("yes %s | head -n %d; touch /t/printed; until [ -e /t/go ]; do sleep 0.1; done; echo last; exit 7", strings.Repeat("y", 99), lines)
		w.must("run", "-d", "--name", "printer", "--tmpfs", "/t", "--log-opt", "max-size=1g", "busybox", "sh", "-c", script)
		eventually(w.t, "it has printed all", func() bool { _, err := w.try("exec", "printer", "test", "-e", "/t/printed"); return err == nil })
		said(w.t, w.both("info"), "WARNING: The disk of the data root is full")
		out, err := w.try("run", "--rm", "busybox", "true")
		if said(w.t, strings.ToLower(out), full); err == nil {
			w.t.Error("another container starts on the full disk")
		}
		for _, args := range [][]string{{"ps", "-a"}, {"inspect", "printer"}, {"stats", "--no-stream"}, {"exec", "bystander", "true"}, {"logs", "--tail", "5", "printer"}} {
			w.must(args...)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		w.must("exec", "printer", "touch", "/t/go")
		w.until("Exited (7)", "ps", "-a", "--filter", "name=printer")
		there, dropped := linesOf(w.t, w.both("logs", "printer"), lines+1)
		w.must("rm", "printer")
		w.must("run", "--rm", "busybox", "true")
		last := w.must("logs", "--tail", "1", "bystander")
		eventually(w.t, "the log of the bystander goes on", func() bool { return w.must("logs", "--tail", "1", "bystander") != last })
		return fmt.Sprintf("it never waited; of %d lines %d are there, and %d told to be dropped", lines+1, there, dropped)
	})
}

// free is how many bytes the disk has left.
func (w *world) free() int64 {
	w.t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(w.DataRoot(), &fs); err != nil {
		w.t.Fatal(err)
	}
	return int64(fs.Bavail) * fs.Bsize
}

// returned waits until what there is of images, and the room on the disk but for 4 MiB, is as it was before.
func (w *world) returned(images string, free int64) {
	w.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(settling); ; <-tick.C {
		now, room := w.images(), w.free()
		// Databases grow by some megabytes on a busy machine; what was unpacked would be more.
		if now == images && room >= free-4<<20 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d bytes are free, want %d; of images there is\n%s\nwant\n%s", room, free, now, images)
		}
	}
}

// images is content with what is unpacked, and whose it is where it is no image's.
func (w *world) images() string {
	w.t.Helper()
	c, err := client.New(client.Options{Host: w.Host()})
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	ledger, err := c.DiskLedger(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var text strings.Builder
	text.WriteString(w.content() + "\n" + strings.Join(readDir(w.t, filepath.Join(w.DataRoot(), "images", "layers", "overlay", "snapshots")), "\n"))
	for _, a := range ledger.Accounts {
		if a.Owner == "orphan" && a.Path != filler && a.Path != "lost+found" || (a.Owner == "unfinished" || a.Owner == "removing") && a.Bytes > 64<<10 {
			fmt.Fprintf(&text, "\n%s %s of %d bytes", a.Owner, a.Path, a.Bytes)
		}
	}
	return text.String()
}

// leave fills the disk but for so many bytes.
func (w *world) leave(room int64) {
	w.t.Helper()
	f, err := os.Create(filepath.Join(w.DataRoot(), filler))
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		w.t.Fatal(err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-room); err != nil {
		w.t.Fatal(err)
	}
}

// content is what the store has of images: packed layers, documents, and what of them is being received.
func (w *world) content() string {
	w.t.Helper()
	root := filepath.Join(w.DataRoot(), "images", "content")
	return strings.Join(readDir(w.t, filepath.Join(root, "blobs", "sha256")), "\n") + "\n" + strings.Join(readDir(w.t, filepath.Join(root, "ingest")), "\n")
}

func readDir(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// linesOf counts the lines of a log, of want that were printed, and those that it tells to be dropped. A line of which the disk
// did not take a part is one of these, and with each gap there may be the end of such a line, which is there.
func linesOf(t *testing.T, log string, want int) (there, dropped int) {
	t.Helper()
	gaps := 0
	for line := range strings.Lines(log + "\n") {
		if torn, rest, ok := strings.Cut(line, "porthole: "); ok {
			n := 0
			if _, err := fmt.Sscanf(rest, "%d line", &n); err != nil {
				t.Errorf("%q after %q: %v", rest, torn, err)
			}
			dropped += n
			gaps++
		} else {
			there++
		}
	}
	if more := there + dropped - want; more < 0 || more > gaps || gaps == 0 {
		t.Errorf("%d lines are there and %d are told to be dropped, in %d places; want %d together", there, dropped, gaps, want)
	}
	return there, dropped
}

package shim

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/shim/wire"
)

func TestPace(t *testing.T) {
	start := time.Unix(1000, 0)
	type read struct {
		at   time.Duration // after the start
		n    int
		want bool
	}
	tests := []struct {
		name  string
		reads []read
	}{
		{"a prompt", []read{{0, 10, false}, {time.Second, 10, false}}},
		{"a line now and then", []read{{0, 60, false}, {time.Millisecond, 60, false}, {2 * time.Millisecond, 60, false}, {5 * time.Millisecond, 60, false}}},
		{"a burst", []read{{0, 40 << 10, false}, {time.Millisecond, 40 << 10, true}, {3 * time.Millisecond, 100, true}, {6 * time.Millisecond, 100, false}}},
		{"a full chunk has more behind it", []read{{0, chunkSize, false}, {time.Millisecond, chunkSize, false}, {time.Millisecond, 100, true}}},
		{"after a pause", []read{{0, chunkSize, false}, {time.Millisecond, 100, true}, {time.Second, 100, false}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p pace
			for i, r := range tt.reads {
				if got := p.hot(r.n, start.Add(r.at)); got != r.want {
					t.Errorf("read %d of %d bytes: hot is %v", i, r.n, got)
				}
			}
		})
	}
}

// outputTo is the output of a container whose log is in dir.
func outputTo(t *testing.T) (o *output, dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	log, err := crilog.OpenWriter(f, crilog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return newOutput(log, wire.StartSpec{}, func(err error) { t.Error(err) }), dir
}

// What is in a pipe whose time is over is not lost: the time may have passed
// while the shim had no processor.
func TestPumpReadsWhatIsThere(t *testing.T) {
	o, dir := outputTo(t)
	r, w, err := pipe("stdout")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close() // somebody outside has it open
	if err := nonblocking(&r); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text := strings.Repeat("as long as a line is\n", 3*chunkSize/21)
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
	o.draining = true
	past := time.Now().Add(-time.Second)
	if err := r.SetReadDeadline(past); err != nil {
		t.Fatal(err)
	}
	o.pump(&source{stream: crilog.Stdout, file: r, end: past})
	o.closeLog()
	var got strings.Builder
	err = crilog.Read(t.Context(), dir, crilog.ReadOptions{Stdout: true, Tail: -1}, nil, func(e crilog.Entry) error {
		got.Write(e.Line)
		return nil
	})
	if err != nil || got.String() != text {
		t.Errorf("log has %d bytes, want %d; %v", got.Len(), len(text), err)
	}
}

// But nobody outside keeps a container from ending, by writing on and on.
func TestPumpEnds(t *testing.T) {
	o, _ := outputTo(t)
	zero, err := os.Open("/dev/zero") // has always more
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	o.draining = true
	o.pump(&source{stream: crilog.Stdout, file: zero, end: time.Now().Add(-time.Second)})
	o.closeLog()
}

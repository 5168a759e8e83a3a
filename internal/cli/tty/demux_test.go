package tty

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func frame(stream byte, text string) string {
	head := make([]byte, frameHeader)
	head[0] = stream
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	return string(head) + text
}

// tape records who was written what, in order.
type tape struct{ entries []string }

type channel struct {
	*tape
	name string
}

func (c channel) Write(p []byte) (int, error) {
	c.entries = append(c.entries, c.name+":"+string(p))
	return len(p), nil
}

func TestDemux(t *testing.T) {
	long := strings.Repeat("x", 200<<10)
	for name, c := range map[string]struct {
		in       string
		out, err string
		fails    string
	}{
		"nothing":             {in: ""},
		"both streams":        {in: frame(1, "a\n") + frame(2, "b\n") + frame(1, "c"), out: "a\nc", err: "b\n"},
		"stdin counts as out": {in: frame(0, "typed"), out: "typed"},
		"empty frame":         {in: frame(1, "") + frame(1, "a"), out: "a"},
		"longer than buffers": {in: frame(1, long) + frame(2, long), out: long, err: long},
		"torn header":         {in: frame(1, "a") + "\x01\x00", out: "a"},
		"torn payload":        {in: frame(1, "abc")[:frameHeader+2], out: "ab"},
		"daemon's error":      {in: frame(1, "a") + frame(3, "disk gone"), out: "a", fails: "error from daemon in stream: disk gone"},
		"unknown stream":      {in: frame(1, "a") + frame(9, "b"), out: "a", fails: "unrecognized stream: 9"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in)), iotest.HalfReader(strings.NewReader(c.in))} {
				var out, errOut bytes.Buffer
				err := Demux(&out, &errOut, r)
				if got := errorText(err); got != c.fails {
					t.Errorf("error = %q, want %q", got, c.fails)
				}
				if out.String() != c.out || errOut.String() != c.err {
					t.Errorf("got %d and %d bytes, want %d and %d", out.Len(), errOut.Len(), len(c.out), len(c.err))
				}
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDemuxKeepsOrderAndBatches(t *testing.T) {
	var log tape
	in := frame(1, "a\n") + frame(1, "b\n") + frame(2, "c\n") + frame(1, "d\n")
	if err := Demux(channel{&log, "out"}, channel{&log, "err"}, strings.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"out:a\nb\n", "err:c\n", "out:d\n"}, log.entries); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

// TestDemuxHoldsNothingBack: what has arrived is written although the stream
// goes on.
func TestDemuxHoldsNothingBack(t *testing.T) {
	r, w := io.Pipe()
	got, gotWriter := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Demux(gotWriter, io.Discard, r) }()
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(w, frame(1, line)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, len(line))
		if _, err := io.ReadFull(got, buf); err != nil || string(buf) != line {
			t.Fatalf("got %q, %v, want %q", buf, err, line)
		}
	}
	_ = w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestDemuxReportsReadAndWriteErrors(t *testing.T) {
	broken := errors.New("broken")
	if err := Demux(io.Discard, io.Discard, iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("read error = %v", err)
	}
	r, w := io.Pipe()
	_ = r.CloseWithError(broken)
	if err := Demux(w, io.Discard, strings.NewReader(frame(1, "a"))); !errors.Is(err, broken) {
		t.Errorf("write error = %v", err)
	}
}

func BenchmarkDemux(b *testing.B) {
	in := strings.Repeat(frame(1, strings.Repeat("y", 59)+"\n"), 10000)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if err := Demux(io.Discard, io.Discard, strings.NewReader(in)); err != nil {
			b.Fatal(err)
		}
	}
}

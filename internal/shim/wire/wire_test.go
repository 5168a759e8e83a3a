package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestFrameBytes holds the format: these bytes may be on their way between a
// shim that runs and the next version's daemon.
func TestFrameBytes(t *testing.T) {
	tests := []struct {
		name  string
		frame Frame
		bytes string
	}{
		{"request", Frame{Kind: KindRequest, JSON: []byte(`{}`)}, "\x02\x00\x00\x00\x01\x00\x00\x00{}"},
		{"reply", Frame{Kind: KindReply, JSON: []byte(`{"id":1}`)}, "\x08\x00\x00\x00\x02\x00\x00\x00{\"id\":1}"},
		{"event with payload", Frame{Kind: KindEvent, JSON: []byte(`{}`), Payload: []byte("a\x00b")}, "\x06\x00\x00\x00\x03\x00\x00\x00{}\x00a\x00b"},
		{"empty payload", Frame{Kind: KindEvent, JSON: []byte(`{}`), Payload: []byte{}}, "\x03\x00\x00\x00\x03\x00\x00\x00{}\x00"},
		{"word", Frame{Kind: KindWord, JSON: []byte("go")}, "\x02\x00\x00\x00\x04\x00\x00\x00go"},
		{"nothing", Frame{Kind: KindEvent, JSON: []byte{}}, "\x00\x00\x00\x00\x03\x00\x00\x00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := tt.frame.append(nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.bytes, string(b)); diff != "" {
				t.Errorf("encoded: %s", diff)
			}
			a, z := pair(t)
			go func() { z.Write([]byte(tt.bytes)); z.Close() }()
			c := NewConn(a)
			got, files, err := c.Recv()
			if err != nil || len(files) != 0 {
				t.Fatalf("receive: %d files, %v", len(files), err)
			}
			if diff := cmp.Diff(tt.frame, got); diff != "" {
				t.Errorf("decoded: %s", diff)
			}
			if _, _, err := c.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("after the last frame: %v", err)
			}
		})
	}
}

func TestMalformedFrames(t *testing.T) {
	tests := []struct {
		name, bytes string
		want        error
	}{
		{"kind", "\x00\x00\x00\x00\x09\x00\x00\x00", ErrMalformed},
		{"reserved", "\x00\x00\x00\x00\x01\x00\x01\x00", ErrMalformed},
		{"length", "\x01\x00\x00\x01\x01\x00\x00\x00", ErrMalformed},
		{"torn header", "\x01\x00", io.ErrUnexpectedEOF},
		{"torn body", "\x05\x00\x00\x00\x01\x00\x00\x00{", io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, z := pair(t)
			go func() { z.Write([]byte(tt.bytes)); z.Close() }()
			if _, _, err := NewConn(a).Recv(); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// pair is two connected sockets.
func pair(t testing.TB) (a, z *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return conns[0], conns[1]
}

// TestFilesStayWithTheirFrame sends frames back to back, larger than a socket
// buffer, from each kind of connection to the other.
func TestFilesStayWithTheirFrame(t *testing.T) {
	for _, stageSends := range []bool{false, true} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		stage := NewStageConn(fds[0])
		f := os.NewFile(uintptr(fds[1]), "pair")
		nc, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		from, to := NewConn(nc.(*net.UnixConn)), stage
		if stageSends {
			from, to = to, from
		}
		const frames = 50
		var sender sync.WaitGroup
		sender.Go(func() {
			for i := range frames {
				var files []*os.File
				for range i % 4 {
					rd, wr, err := os.Pipe()
					if err != nil {
						t.Error(err)
						return
					}
					rd.Close()
					files = append(files, wr)
				}
				payload := bytes.Repeat([]byte{byte(i)}, i*20000)
				if err := from.SendWord("n", payload, files...); err != nil {
					t.Error(err)
				}
				closeAll(files)
			}
			from.Close()
		})
		for i := range frames {
			word, files, err := to.RecvWord()
			if err != nil {
				t.Fatal(err)
			}
			if len(files) != i%4 || word.Name != "n" || len(word.Payload) != i*20000 || i > 0 && word.Payload[len(word.Payload)-1] != byte(i) {
				t.Errorf("frame %d: word %q, %d files, %d bytes", i, word.Name, len(files), len(word.Payload))
			}
			for _, f := range files {
				if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("file is not close-on-exec: %#x, %v", flags, err)
				}
			}
			closeAll(files)
		}
		if _, _, err := to.RecvWord(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
		sender.Wait()
		to.Close()
	}
}

// serve answers requests of a client with fn until the client goes.
func serve(t *testing.T, fn func(c *Conn, req Request, payload []byte, files []*os.File)) *Client {
	t.Helper()
	a, z := pair(t)
	var server sync.WaitGroup
	server.Go(func() {
		c := NewConn(z)
		for {
			f, files, err := c.Recv()
			if err != nil {
				z.Close()
				return
			}
			var req Request
			if err := json.Unmarshal(f.JSON, &req); err != nil {
				t.Error(err)
			}
			fn(c, req, f.Payload, files)
			closeAll(files)
		}
	})
	cl := NewClient(a)
	t.Cleanup(func() { cl.Close(); server.Wait() })
	return cl
}

func answerWith(t *testing.T, c *Conn, r Reply, files ...*os.File) {
	raw, err := json.Marshal(r)
	if err == nil {
		err = c.Send(Frame{Kind: KindReply, JSON: raw}, files...)
	}
	if err != nil {
		t.Error(err)
	}
}

func TestCall(t *testing.T) {
	cl := serve(t, func(c *Conn, req Request, payload []byte, files []*os.File) {
		switch req.Method {
		case MethodCreate:
			if string(payload) != `{"plan":1}` || bytes.Contains(req.Body, []byte("plan\"")) {
				t.Errorf("payload %q, body %s", payload, req.Body)
			}
			answerWith(t, c, Reply{ID: req.ID, Body: json.RawMessage(`{"pid":42}`)}, files...)
		case "fail":
			answerWith(t, c, Reply{ID: req.ID, Error: &Error{Step: "mount", Errno: syscall.ENOENT, Message: "mount /x: no such file or directory"}}, files...)
		case "late":
			c.SendEvent("noise", nil)
		case "unknown id":
			answerWith(t, c, Reply{ID: 9999}, files...)
			answerWith(t, c, Reply{ID: req.ID})
		}
	})
	var made Created
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	files, err := cl.Call(t.Context(), MethodCreate, StartSpec{Plan: json.RawMessage(`{"plan":1}`)}, &made, null, null)
	if err != nil || made.PID != 42 || len(files) != 2 {
		t.Errorf("create: %+v, %d files, %v", made, len(files), err)
	}
	closeAll(files)

	_, err = cl.Call(t.Context(), "fail", nil, nil, null)
	var e *Error
	if !errors.As(err, &e) || e.Step != "mount" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("fail: %#v", err)
	}
	if want := "shim fail: mount /x: no such file or directory"; err.Error() != want {
		t.Errorf("fail: %q", err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := cl.Call(ctx, "late", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("late: %v", err)
	}
	if _, err := cl.Call(t.Context(), "unknown id", nil, nil, null); err != nil {
		t.Errorf("unknown id: %v", err)
	}
}

func TestEventsWaitForNobody(t *testing.T) {
	cl := serve(t, func(c *Conn, req Request, _ []byte, _ []*os.File) {
		for range 1000 {
			c.SendEvent("tick", nil)
		}
		answerWith(t, c, Reply{ID: req.ID})
	})
	// The answer comes although nobody reads the thousand events before it.
	if _, err := cl.Call(t.Context(), "x", nil, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if ev, ok := <-cl.Events(); !ok || ev.Name != "tick" {
			t.Fatalf("event %d: %+v %v", i, ev, ok)
		}
	}
	cl.Close()
	if _, ok := <-cl.Events(); ok {
		t.Error("an event after Close")
	}
	if _, err := cl.Call(t.Context(), "x", nil, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("call after Close: %v", err)
	}
}

func TestEventsBeforeTheEndAreDelivered(t *testing.T) {
	a, z := pair(t)
	cl := NewClient(a)
	defer cl.Close()
	c := NewConn(z)
	for range 3 {
		if err := c.SendEvent("last words", nil); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	<-cl.Done()
	n := 0
	for range cl.Events() {
		n++
	}
	if n != 3 {
		t.Errorf("%d events", n)
	}
	if _, err := cl.Call(t.Context(), "x", nil, nil); !errors.Is(err, io.EOF) {
		t.Errorf("call after the end: %v", err)
	}
}

func TestLongPaths(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 150))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "shim.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", st, err)
	}
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := Dial(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("dial nothing: %v", err)
	}
}

// FuzzRecv throws bytes at the decoder: it must end, keep within its limits
// and, where it takes a frame, encode it to the same bytes.
func FuzzRecv(f *testing.F) {
	for _, s := range []string{
		"\x02\x00\x00\x00\x01\x00\x00\x00{}",
		"\x06\x00\x00\x00\x03\x00\x00\x00{}\x00a\x00b",
		"\xff\xff\xff\x00\x02\x00\x00\x00{",
		"\x00\x00\x00\x00\x03\x00\x00\x00\x1b\x00\x00\x00\x03\x00\x00\x00{\"name\":\"ready\",\"body\":{}}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &Conn{t: &memory{r: bytes.NewReader(b)}}
		for rest := b; ; {
			frame, files, err := c.Recv()
			if err != nil {
				return
			}
			if len(files) != 0 {
				t.Fatal("files out of nothing")
			}
			again, err := frame.append(nil)
			if err != nil || !bytes.HasPrefix(rest, again) {
				t.Fatalf("frame %+v encodes to %q, was %q: %v", frame, again, rest, err)
			}
			rest = rest[len(again):]
			if ev, err := decodeEvent(frame); err == nil && frame.Kind != KindEvent {
				t.Fatalf("event %+v from kind %d", ev, frame.Kind)
			}
		}
	})
}

// memory is a transport that reads from a slice.
type memory struct{ r *bytes.Reader }

func (m *memory) read(p, _ []byte) (n, oobn int, truncated bool, err error) {
	n, _ = m.r.Read(p)
	return n, 0, false, nil
}
func (m *memory) write(p, _ []byte) (int, error) { return len(p), nil }
func (m *memory) Close() error                   { return nil }

func TestSteps(t *testing.T) {
	for _, want := range [][]Step{{}, {{Name: "mount /a b\n", Microseconds: 12}, {Name: "", Microseconds: 0}}} {
		got, err := ParseSteps(AppendSteps(nil, want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
	}
	for _, bad := range []string{"12 mount", "12\x00", "x mount\x00", "1 a\x00\x00"} {
		if got, err := ParseSteps([]byte(bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: got %v, %v", bad, got, err)
		}
	}
}

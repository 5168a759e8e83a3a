package history

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// conversation is the daemon's end of a connection over which bytes came.
type conversation struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (c *conversation) Read(p []byte) (int, error)     { return c.in.Read(p) }
func (c *conversation) Write(p []byte) (int, error)    { return c.out.Write(p) }
func (*conversation) SetWriteDeadline(time.Time) error { return nil }

// FuzzServe has a file and a shell hold anything. Nothing is written elsewhere, what
// is kept is text of one line each, and the next shell is told just that.
func FuzzServe(f *testing.F) {
	f.Add([]byte("ls -l\necho a\tb\n"), []byte("make\nmake\n secret\n\x00\nlast\n"))
	f.Add([]byte("\x00\ntorn"), []byte("\x1b[2J\n\xff\n../../x\nunfinished"))
	f.Fuzz(func(t *testing.T, kept, typed []byte) {
		dir := t.TempDir()
		s := NewStore(filepath.Join(dir, "store"))
		if err := os.Mkdir(s.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.file("user"), kept, 0o600); err != nil {
			t.Fatal(err)
		}
		before, err := s.Entries("user")
		if err != nil {
			t.Fatal(err)
		}
		c := &conversation{in: bytes.NewReader(typed)}
		_ = s.Serve(c, "user")
		if got := told(t, &c.out); !slices.Equal(got, before) {
			t.Errorf("told %q, kept are %q", got, before)
		}
		after, err := s.Entries("user")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range after {
			if !Keep(e, "") {
				t.Errorf("%q is kept", e)
			}
		}
		c = &conversation{in: bytes.NewReader(nil)}
		if err := s.Serve(c, "user"); err != nil {
			t.Error(err)
		}
		if got := told(t, &c.out); !slices.Equal(got, after) {
			t.Errorf("told %q, kept are %q", got, after)
		}
		for _, d := range []string{dir, s.dir} {
			if list, err := os.ReadDir(d); err != nil || len(list) > 1 {
				t.Errorf("%s has %v, %v", d, list, err)
			}
		}
	})
}

// told is what a shell takes from the daemon's words.
func told(t *testing.T, words io.Reader) (list []string) {
	t.Helper()
	list, err := receive(words)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

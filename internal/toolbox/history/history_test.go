package history

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestKeep(t *testing.T) {
	for _, tt := range []struct {
		entry, last string
		want        bool
	}{
		{"ls", "", true},
		{"ls", "ls", false},
		{"", "", false},
		{" secret", "", false},
		{"a\tb", "", true},
		{"größe", "", true},
		{"a\x1b[31m", "", false},
		{"\xff", "", false},
		{strings.Repeat("x", EntryMost+1), "", false},
	} {
		if got := Keep(tt.entry, tt.last); got != tt.want {
			t.Errorf("%q behind %q: %v", tt.entry, tt.last, got)
		}
	}
}

// session is a shell's connection, served by the store.
func session(t *testing.T, s *Store, user string) (*Client, []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		defer l.Close()
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		done <- s.Serve(conn, user)
	}()
	c, list := Dial(path)
	if c == nil {
		t.Fatal("nobody answers")
	}
	t.Cleanup(func() {
		c.conn.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c, list
}

func waitFor(t *testing.T, s *Store, user string, want ...string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		got, err := s.Entries(user)
		if err != nil {
			t.Fatal(err)
		}
		diff := cmp.Diff(want, got)
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("(-want +got)\n%s", diff)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestSessions(t *testing.T) {
	s := NewStore(filepath.Join(t.TempDir(), "h"))
	a, list := session(t, s, "1000")
	if list != nil {
		t.Errorf("the first session begins with %q", list)
	}
	for _, e := range []string{"ls", "ls", " password=x", "ps -ef"} {
		a.Add(e)
	}
	waitFor(t, s, "1000", "ls", "ps -ef")
	b, list := session(t, s, "1000")
	if diff := cmp.Diff([]string{"ls", "ps -ef"}, list); diff != "" {
		t.Error(diff)
	}
	if _, list = session(t, s, "0"); list != nil {
		t.Errorf("another user sees %q", list)
	}
	b.Forget()
	waitFor(t, s, "1000")
	b.Add("again")
	waitFor(t, s, "1000", "again")
	if info, err := os.Stat(filepath.Join(s.dir, "1000")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// However much a session sends, a file has an end.
func TestBound(t *testing.T) {
	s := NewStore(t.TempDir())
	for i := range 3 * fileMost / EntryMost {
		if err := s.Add("0", fmt.Sprintf("%d %s", i, strings.Repeat("x", EntryMost-10))); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(s.file("0"))
	if err != nil || info.Size() > fileMost {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	list, err := s.Entries("0")
	if err != nil || !strings.HasPrefix(list[len(list)-1], fmt.Sprint(3*fileMost/EntryMost-1)+" ") {
		t.Errorf("the last one is not there: %v", err)
	}
}

func TestDamaged(t *testing.T) {
	s := NewStore(t.TempDir())
	if err := os.WriteFile(s.file("0"), []byte("one\n\x00\x00\x00\ntwo\nhal"), 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, s, "0", "one", "two")
}

func TestNobodyThere(t *testing.T) {
	c, list := Dial(filepath.Join(t.TempDir(), "none"))
	if c != nil || list != nil {
		t.Errorf("%v, %q", c, list)
	}
	c.Add("is lost") // and nothing else
	c.Forget()
}

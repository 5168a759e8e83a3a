package forker

import (
	"encoding/json"
	"net"
	"os"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// FuzzServe has the daemon's end say anything. Each request is answered once, with
// what became of it, and what is no request ends the conversation.
func FuzzServe(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x03\x00\x00\x00"))
	f.Add(spoken(f, Request{ID: 7, Tasks: 1, Dir: true}, Request{ID: 7, Size: 1, Stage: &Stage{Flags: 1, Cgroup: true}}, Request{Tasks: -4}))
	f.Add(append(spoken(f, Request{ID: 1}), "\x02\x00\x00\x00\x01\x00\x00\x00{}"...))
	f.Fuzz(func(t *testing.T, said []byte) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		daemon := os.NewFile(uintptr(pair[0]), "daemon")
		c, err := net.FileConn(daemon)
		if err != nil {
			t.Fatal(err)
		}
		daemon.Close()
		var mu sync.Mutex
		var asked []Answer
		ended := make(chan error, 1)
		go func() {
			ended <- serve(pair[1], func(req Request, files []*os.File) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				if len(files) != 0 {
					t.Errorf("files out of nothing: %v", files)
				}
				asked = append(asked, Answer{ID: req.ID, PID: len(asked) + 1})
				return len(asked), nil
			})
		}()
		go func() {
			_, _ = c.Write(said) // which ends early if the other end does
			_ = c.(*net.UnixConn).CloseWrite()
		}()
		var got []Answer
		for conn := wire.NewConn(c.(*net.UnixConn)); ; {
			ev, _, err := conn.RecvEvent()
			if err != nil {
				break
			}
			var a Answer
			if err := json.Unmarshal(ev.Body, &a); err != nil || ev.Name != eventForked {
				t.Errorf("answer %q, %v", ev.Body, err)
			}
			got = append(got, a)
		}
		if err := <-ended; err == nil {
			t.Error("it ended without a reason")
		}
		_ = c.Close()
		byPID := func(a, b Answer) int { return a.PID - b.PID }
		slices.SortFunc(got, byPID)
		if !slices.Equal(got, asked) {
			t.Errorf("answered %+v, done was %+v", got, asked)
		}
	})
}

// spoken are requests as the daemon sends them.
func spoken(f *testing.F, list ...Request) []byte {
	f.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		f.Fatal(err)
	}
	defer unix.Close(pair[1])
	conn := wire.NewStageConn(pair[0])
	for _, req := range list {
		if err := conn.SendEvent(eventFork, req); err != nil {
			f.Fatal(err)
		}
	}
	if err := conn.Close(); err != nil {
		f.Fatal(err)
	}
	var all []byte
	for {
		b := make([]byte, 4096)
		n, err := unix.Read(pair[1], b)
		if err != nil {
			f.Fatal(err)
		}
		if n == 0 {
			return all
		}
		all = append(all, b[:n]...)
	}
}

package enter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
)

// onMainThread takes functions to be called on the program's first thread.
var onMainThread = make(chan func())

// isMainThread tells whether TestMain got hold of the first thread. It does
// unless the scheduler has moved it within its first instructions.
var isMainThread bool

func TestMain(m *testing.M) {
	runtime.LockOSThread()
	isMainThread = unix.Gettid() == os.Getpid()
	done := make(chan int)
	go func() { done <- m.Run() }()
	for {
		select {
		case fn := <-onMainThread:
			fn()
		case code := <-done:
			os.Exit(code)
		}
	}
}

// waitGone waits until a thread of this process has ended.
func waitGone(t *testing.T, tid int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("thread %d lives on", tid)
		}
		<-time.After(time.Millisecond)
	}
}

func TestThreadEndsAfterwards(t *testing.T) {
	var tid int
	want := errors.New("from within")
	if err := Run(nil, func() error { tid = unix.Gettid(); return want }); !errors.Is(err, want) {
		t.Errorf("error %v", err)
	}
	if tid == os.Getpid() {
		t.Error("it ran on the main thread")
	}
	waitGone(t, tid)
}

func TestMainThreadIsSpared(t *testing.T) {
	if !isMainThread {
		testenv.Skip(t, "the tests were not started on the main thread")
	}
	var tid int
	done := make(chan struct{})
	onMainThread <- func() {
		onSpareThread(func() { tid = unix.Gettid() })
		close(done)
	}
	<-done
	if tid == os.Getpid() {
		t.Error("it ran on the main thread")
	}
	waitGone(t, tid)
}

func TestOnlyTheThreadGoes(t *testing.T) {
	testenv.NeedsRoot(t)
	const root = "/sys/fs/cgroup/pids"
	if _, err := os.Stat(filepath.Join(root, "tasks")); err != nil {
		testenv.Skip(t, "no cgroup v1 hierarchy with the pids controller at %s", root)
	}
	dir := filepath.Join(root, fmt.Sprintf("porthole-entertest-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tasks, err := os.OpenFile(filepath.Join(dir, "tasks"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tasks.Close()
	place := func(task string) string {
		text, err := os.ReadFile("/proc/" + task + "/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if _, path, ok := strings.Cut(strings.TrimSpace(line), ":pids:"); ok {
				return path
			}
		}
		return "?"
	}
	var tid int
	err = Run([]*os.File{tasks}, func() error {
		tid = unix.Gettid()
		if got := place("thread-self"); got != "/"+filepath.Base(dir) {
			t.Errorf("the thread is in %q", got)
		}
		if got := place("self"); got == "/"+filepath.Base(dir) {
			t.Error("the process went along")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	waitGone(t, tid)
	for deadline := time.Now().Add(5 * time.Second); ; <-time.After(time.Millisecond) {
		if err = os.Remove(dir); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Error(err)
	}
}

func TestUnwritableFile(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	called := false
	err = Run([]*os.File{file}, func() error { called = true; return nil })
	if err == nil || !strings.HasPrefix(err.Error(), `enter cgroup "/dev/null": `) || called {
		t.Errorf("error %v, called %v", err, called)
	}
}

package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// The test binary, re-executed under this name, is a stage.
const fakeStageName = "porthole-fake-stage"

func TestMain(m *testing.M) {
	if os.Args[0] == fakeStageName {
		fakeStage()
	}
	goleak.VerifyTestMain(m)
}

// fakePlan is what the fake stage is told to do.
type fakePlan struct {
	Args     []string
	Terminal bool
	EnterMnt bool   // exec mode: the first file is a mount namespace
	Files    int    // how many files must have come
	FailAt   string // "prepare" or "go": tell a failure then
	DieAt    string // "prepare", "ready" or "go": die without a word then
}

func (p fakePlan) raw(t testing.TB) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fakeStage speaks the stage's part and executes the planned program.
func fakeStage() {
	os.Setenv("PATH", "/usr/bin:/bin")
	runtime.LockOSThread()
	conn := wire.NewStageConn(wire.StageFD)
	fail := func(step string, err error) {
		e := &wire.Error{Step: step, Message: fmt.Sprintf("%s: %v", step, err)}
		_ = errors.As(err, &e.Errno)
		raw, _ := json.Marshal(e)
		conn.SendWord(wire.StageFailed, raw)
		os.Exit(1)
	}
	ev, files, err := conn.RecvWord()
	if err != nil || ev.Name != wire.StagePlan {
		fail("plan", fmt.Errorf("got %q, %w", ev.Name, err))
	}
	var plan fakePlan
	if err := json.Unmarshal(ev.Payload, &plan); err != nil {
		fail("plan", err)
	}
	at := func(point string) {
		if plan.DieAt == point {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			<-time.After(time.Minute)
		}
		if plan.FailAt == point {
			fail(point, unix.EACCES)
		}
	}
	if files, err = wire.TakeStdio(files); err != nil {
		fail("plan", err)
	}
	if len(files) != plan.Files {
		fail("plan", fmt.Errorf("%d files came, not %d", len(files), plan.Files))
	}
	if plan.EnterMnt {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			fail("unshare", err)
		}
		if err := unix.Setns(int(files[0].Fd()), unix.CLONE_NEWNS); err != nil {
			fail("setns", err)
		}
	}
	at("prepare")
	if plan.Terminal {
		if err := fakeTerminal(conn); err != nil {
			fail("pty", err)
		}
	}
	if err := conn.SendWord(wire.StageReady, nil); err != nil {
		os.Exit(1)
	}
	at("ready")
	if ev, _, err := conn.RecvWord(); err != nil || ev.Name != wire.StageGo {
		os.Exit(1)
	}
	at("go")
	conn.SendWord(wire.StageTimings, wire.AppendSteps(nil, []wire.Step{{Name: "fake", Microseconds: 1}}))
	path, err := exec.LookPath(plan.Args[0])
	if err == nil {
		err = syscall.Exec(path, plan.Args, []string{"PATH=/usr/bin:/bin", "LC_ALL=C"})
	}
	fail("exec", err)
}

func fakeTerminal(conn *wire.Conn) error {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return err
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if _, err := unix.Setsid(); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(int(slave.Fd()), unix.TIOCSCTTY, 0); err != nil {
		return err
	}
	for fd := range 3 {
		if err := unix.Dup3(int(slave.Fd()), fd, 0); err != nil {
			return err
		}
	}
	return conn.SendWord(wire.StagePTY, nil, master)
}

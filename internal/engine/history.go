package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/shim/wire"
	"github.com/portholehq/porthole/internal/toolbox/history"
)

// historyDir is where in the data root is what people have typed in debug sessions, a file for each uid.
const historyDir = "history"

// histories serves the shells of debug sessions with what was typed before, at a socket among the tools. It begins with the
// first session that has a terminal.
type histories struct {
	e     *Engine
	store *history.Store
	begin sync.Once

	mu      sync.Mutex
	serving map[string]int // connections by session
}

// connectionsMost is how many connections of a session are served at a time. A shell has one.
const connectionsMost = 4

// serve has the socket be there; without it shells remember their own session alone.
func (h *histories) serve(tools string) {
	h.begin.Do(func() {
		path := filepath.Join(tools, history.Name)
		if err := h.listen(path, filepath.Join(tools, "bin", "porthole-toolbox")); err != nil {
			h.e.log.Warn("debug sessions will not know what was typed in earlier ones", "path", path, "err", err)
		}
	})
}

// listen answers at path those who run program.
func (h *histories) listen(path, program string) error {
	// Of an earlier daemon.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := wire.Listen(path) // which may be long
	if err != nil {
		return err
	}
	// For whoever a session is: answered is one process of it.
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return err
	}
	stop := context.AfterFunc(h.e.life, func() { l.Close() })
	h.e.goWork(func() {
		defer stop()
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			h.e.goWork(func() { h.answer(conn, program) })
		}
	})
	return nil
}

// answer speaks with the first process of a session, if that is our program and its user is known. Nobody else is told
// anything: a program of the target that the session runs could come as well.
func (h *histories) answer(conn *net.UnixConn, program string) {
	defer conn.Close()
	session, user, err := h.client(conn, program)
	if err == nil {
		err = h.enter(session)
	}
	if err != nil {
		h.e.log.Debug("history was not given", "err", err)
		return
	}
	defer h.leave(session)
	stop := context.AfterFunc(h.e.life, func() { conn.Close() })
	defer stop()
	if err := h.store.Serve(conn, user); err != nil && h.e.life.Err() == nil {
		h.e.log.Warn("what is typed in a debug session is not kept", "session", session, "err", err)
	}
}

func (h *histories) enter(session string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.serving[session] >= connectionsMost {
		return fmt.Errorf("session %s has %d connections already", session, connectionsMost)
	}
	if h.serving == nil {
		h.serving = map[string]int{}
	}
	h.serving[session]++
	return nil
}

func (h *histories) leave(session string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.serving[session]--; h.serving[session] == 0 {
		delete(h.serving, session)
	}
}

// client is the session that a process is the first of, and who has started it, as the name of their file.
func (h *histories) client(conn *net.UnixConn, program string) (session, user string, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return "", "", err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return "", "", err
	}
	if credErr != nil {
		return "", "", os.NewSyscallError("getsockopt", credErr)
	}
	if err := runs(int(cred.Pid), program); err != nil {
		return "", "", err
	}
	for _, x := range h.e.execs.debugged() {
		if x.debugSession().PID != int(cred.Pid) {
			continue
		}
		if o := x.origin(); o != nil && o.UID != nil {
			return x.id, strconv.FormatUint(uint64(*o.UID), 10), nil
		}
		return "", "", errors.New("the session's client has no uid")
	}
	return "", "", fmt.Errorf("process %d is no session's first", cred.Pid)
}

// runs checks that a process runs a program.
func runs(pid int, program string) error {
	want, err := os.Stat(program)
	if err != nil {
		return err
	}
	exe, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return err
	}
	if !os.SameFile(want, exe) {
		return fmt.Errorf("process %d runs another program", pid)
	}
	return nil
}

package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// session is a daemon with one container, "c", whose process echoes what is
// typed and ends with code 3 when a q is typed. Its methods observe what the
// client does.
type session struct {
	api *fakeAPI

	mux     *http.ServeMux
	mu      sync.Mutex
	conns   []net.Conn
	looks   int // how often the container was inspected
	sizes   [][2]int
	signals []string
	ended   chan struct{}
	end     func()
}

func newSession(t *testing.T, hasTTY bool) *session {
	t.Helper()
	s := &session{ended: make(chan struct{})}
	s.end = sync.OnceFunc(func() { close(s.ended) })
	mux := http.NewServeMux()
	mux.HandleFunc("POST /containers/create", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusCreated, object{"Id": "c", "Warnings": []string{}})
	})
	mux.HandleFunc("GET /containers/c/json", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		s.looks++
		s.mu.Unlock()
		answer(w, http.StatusOK, object{
			"Id": "c", "State": object{"Running": true}, "HostConfig": object{},
			"Config": object{"Tty": hasTTY, "OpenStdin": hasTTY},
		})
	})
	mux.HandleFunc("POST /containers/c/start", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		s.say("ready\r\n")
	})
	mux.HandleFunc("POST /containers/c/attach", s.hijack)
	mux.HandleFunc("POST /containers/c/wait", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		select {
		case <-s.ended:
			_ = json.NewEncoder(w).Encode(object{"StatusCode": 3})
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /containers/c/exec", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusCreated, object{"Id": "e"})
	})
	mux.HandleFunc("POST /exec/e/start", func(w http.ResponseWriter, r *http.Request) {
		s.hijack(w, r)
		s.say("ready\r\n")
	})
	mux.HandleFunc("GET /exec/e/json", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, object{"ID": "e", "ExitCode": 3})
	})
	for _, what := range []string{"containers/c", "exec/e"} {
		mux.HandleFunc("POST /"+what+"/resize", func(w http.ResponseWriter, r *http.Request) {
			h, _ := strconv.Atoi(r.URL.Query().Get("h"))
			wd, _ := strconv.Atoi(r.URL.Query().Get("w"))
			s.mu.Lock()
			s.sizes = append(s.sizes, [2]int{h, wd})
			s.mu.Unlock()
		})
	}
	mux.HandleFunc("POST /containers/c/kill", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.signals = append(s.signals, r.URL.Query().Get("signal"))
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	})
	s.mux, s.api = mux, newFakeAPI(t, mux)
	t.Cleanup(s.die)
	return s
}

// hijack answers an attach and becomes the process's terminal.
func (s *session) hijack(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	s.mu.Lock()
	s.conns = append(s.conns, conn)
	s.mu.Unlock()
	go s.process(conn, buffered.Reader)
}

func (s *session) process(conn net.Conn, typed *bufio.Reader) {
	for {
		b, err := typed.ReadByte()
		if err != nil {
			return
		}
		if b == 'q' {
			s.end()
			_ = conn.Close()
			return
		}
		_, _ = conn.Write([]byte{b})
	}
}

func (s *session) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_, _ = io.WriteString(c, text)
	}
}

// die closes all connections at once, as a killed daemon does.
func (s *session) die() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
}

func (s *session) lastSize() [2]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sizes) == 0 {
		return [2]int{}
	}
	return s.sizes[len(s.sizes)-1]
}

func (s *session) gotSignals() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.signals...)
}

// screen is a terminal with a command line in it.
type screen struct {
	t      *testing.T
	cmd    *exec.Cmd
	pty    *os.File
	before unix.Termios

	mu  sync.Mutex
	out bytes.Buffer
}

func openScreen(t *testing.T, s *session, args ...string) *screen {
	t.Helper()
	cmd := porthole(t).command(t, s.api.host, args...)
	// The terminal is held open from the start, so that its modes can be seen
	// before and after the command.
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = master.Close(), slave.Close() })
	if err := pty.Setsize(master, &pty.Winsize{Rows: 33, Cols: 77}); err != nil {
		t.Fatal(err)
	}
	sc := &screen{t: t, cmd: cmd, pty: master}
	sc.before = sc.modes()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	go sc.read()
	return sc
}

func (sc *screen) read() {
	buf := make([]byte, 1024)
	for {
		n, err := sc.pty.Read(buf)
		sc.mu.Lock()
		sc.out.Write(buf[:n])
		sc.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (sc *screen) modes() unix.Termios {
	sc.t.Helper()
	m, err := unix.IoctlGetTermios(int(sc.pty.Fd()), unix.TCGETS)
	if err != nil {
		sc.t.Fatal(err)
	}
	return *m
}

func (sc *screen) text() string {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.out.String()
}

// await waits until something holds.
func (sc *screen) await(what string, holds func() bool) {
	sc.t.Helper()
	if !eventually(sc.t, holds) {
		sc.t.Fatalf("%s did not come about; screen:\n%s", what, sc.text())
	}
}

func (sc *screen) awaitText(text string) {
	sc.t.Helper()
	sc.await("text "+strconv.Quote(text), func() bool { return strings.Contains(sc.text(), text) })
}

func (sc *screen) keys(keys string) {
	sc.t.Helper()
	if _, err := io.WriteString(sc.pty, keys); err != nil {
		sc.t.Fatal(err)
	}
}

// end waits for the command and holds that the terminal is as before.
func (sc *screen) end(wantCode int) {
	sc.t.Helper()
	err := sc.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		sc.t.Fatal(exit, err)
	}
	if code := sc.cmd.ProcessState.ExitCode(); code != wantCode {
		sc.t.Errorf("exit code = %d, want %d; screen:\n%s", code, wantCode, sc.text())
	}
	if diff := cmp.Diff(sc.before, sc.modes()); diff != "" {
		sc.t.Errorf("terminal is not as it was (-before +after):\n%s", diff)
	}
}

func (sc *screen) raw() bool { return sc.modes().Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == 0 }

func TestTerminal(t *testing.T) {
	t.Run("run follows the window and gives the code", func(t *testing.T) {
		t.Parallel()
		s := newSession(t, true)
		sc := openScreen(t, s, "run", "-it", "busybox")
		sc.awaitText("ready")
		sc.await("raw mode", sc.raw)
		sc.await("first size", func() bool { return s.lastSize() == [2]int{33, 77} })
		if err := pty.Setsize(sc.pty, &pty.Winsize{Rows: 40, Cols: 100}); err != nil {
			t.Fatal(err)
		}
		sc.await("new size", func() bool { return s.lastSize() == [2]int{40, 100} })
		sc.keys("\x03abc") // ctrl-c is a key like others
		sc.awaitText("\x03abc")
		sc.keys("q")
		sc.end(3)
		for _, req := range s.api.take() {
			var body struct{ HostConfig struct{ ConsoleSize [2]int } }
			if req.Path == "/containers/create" && (json.Unmarshal(req.Body, &body) != nil || body.HostConfig.ConsoleSize != [2]int{33, 77}) {
				t.Errorf("console size at creation = %v, want 33x77", body.HostConfig.ConsoleSize)
			}
		}
	})
	for name, c := range map[string]struct {
		args       []string
		keys, text string
		code       int
	}{
		"run detaches":           {[]string{"run", "-it", "busybox"}, "\x10\x11", "", 0},
		"start detaches":         {[]string{"start", "-ai", "c"}, "\x10\x11", "", 0},
		"exec detaches":          {[]string{"exec", "-it", "c", "sh"}, "\x10\x11", "read escape sequence", 1},
		"exec detaches by flag":  {[]string{"exec", "-it", "--detach-keys", "ctrl-x,z", "c", "sh"}, "\x10\x11\x18z", "read escape sequence", 1},
		"part of keys is passed": {[]string{"exec", "-it", "c", "sh"}, "\x10aq", "", 3},
		"exec gives the code":    {[]string{"exec", "-it", "c", "sh"}, "q", "", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t, true)
			sc := openScreen(t, s, c.args...)
			sc.awaitText("ready")
			sc.await("raw mode", sc.raw)
			sc.keys(c.keys)
			sc.end(c.code)
			sc.awaitText(c.text) // the screen reads on after the program's end
		})
	}
	t.Run("attach redraws and detaches", func(t *testing.T) {
		t.Parallel()
		s := newSession(t, true)
		sc := openScreen(t, s, "attach", "c")
		sc.await("raw mode", sc.raw)
		sc.await("size", func() bool { return s.lastSize() == [2]int{33, 77} })
		s.mu.Lock()
		first := s.sizes[0]
		s.mu.Unlock()
		if first != [2]int{34, 78} {
			t.Errorf("first size = %v, want one row and column more than the screen", first)
		}
		sc.keys("\x10\x11")
		sc.end(1)
		sc.awaitText("read escape sequence")
	})
	t.Run("signal restores the terminal", func(t *testing.T) {
		t.Parallel()
		s := newSession(t, true)
		sc := openScreen(t, s, "exec", "-it", "c", "sh")
		sc.awaitText("ready")
		sc.await("raw mode", sc.raw)
		_ = sc.cmd.Process.Signal(syscall.SIGTERM)
		sc.end(128 + int(syscall.SIGTERM))
	})
	t.Run("hangup restores the terminal", func(t *testing.T) {
		t.Parallel()
		s := newSession(t, true)
		sc := openScreen(t, s, "exec", "-it", "c", "sh")
		sc.awaitText("ready")
		sc.await("raw mode", sc.raw)
		_ = sc.cmd.Process.Signal(syscall.SIGHUP)
		sc.end(128 + int(syscall.SIGHUP))
	})
	t.Run("dead daemon restores the terminal", func(t *testing.T) {
		t.Parallel()
		s := newSession(t, true)
		sc := openScreen(t, s, "exec", "-it", "c", "sh")
		sc.awaitText("ready")
		sc.await("raw mode", sc.raw)
		s.die()
		sc.end(3)
	})
	t.Run("third signal ends the command", func(t *testing.T) {
		t.Parallel()
		s := newSession(t, true)
		sc := openScreen(t, s, "run", "-it", "busybox")
		sc.awaitText("ready")
		sc.await("raw mode", sc.raw)
		for n := range forceAfter {
			_ = sc.cmd.Process.Signal(syscall.SIGTERM)
			if n < forceAfter-1 {
				sc.await("signal", func() bool { return len(s.gotSignals()) > n })
			}
		}
		sc.end(1)
	})
}

// TestInterrupted holds that a command which a signal ends says so by its
// code.
func TestInterrupted(t *testing.T) {
	for _, line := range []string{"logs -f web", "events", "wait web", "stats web", "top web"} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			asked := make(chan struct{}, 16)
			mux := http.NewServeMux()
			mux.HandleFunc("GET /containers/web/json", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, webInspect()) })
			mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/stats") {
					webStats(w, r)
				}
				w.(http.Flusher).Flush()
				asked <- struct{}{}
				<-r.Context().Done()
			})
			cmd := porthole(t).command(t, newFakeAPI(t, mux).host, words(line)...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-asked:
			case <-t.Context().Done():
			}
			_ = cmd.Process.Signal(syscall.SIGINT)
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 128+int(syscall.SIGINT) {
				t.Errorf("exit code = %d", code)
			}
		})
	}
}

// TestAttachEndsWithoutAnswer holds that a signal ends attach when the daemon
// does not answer: before the streams are connected, and when it does not take
// the signal for the container.
func TestAttachEndsWithoutAnswer(t *testing.T) {
	for _, refusal := range []string{"attach", "kill"} {
		t.Run(refusal, func(t *testing.T) {
			t.Parallel()
			s := newSession(t, false)
			asked, release := make(chan struct{}, 16), make(chan struct{})
			t.Cleanup(func() { close(release) })
			mux := http.NewServeMux()
			mux.HandleFunc("POST /containers/c/"+refusal, func(w http.ResponseWriter, r *http.Request) {
				asked <- struct{}{}
				if refusal == "kill" {
					answer(w, http.StatusServiceUnavailable, map[string]string{"message": "the shim does not answer"})
					return
				}
				<-release
			})
			mux.Handle("/", s.mux)
			cmd := porthole(t).command(t, newFakeAPI(t, mux).host, "attach", "c")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			sc := &screen{t: t}
			if refusal == "attach" {
				<-asked
			} else {
				sc.await("attach", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.conns) > 0 })
			}
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 128+int(syscall.SIGTERM) {
				t.Errorf("exit code = %d", code)
			}
		})
	}
}

// TestSignals holds that signals reach the container without a terminal, and
// that the command lives on.
func TestSignals(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		looks int // attach looks again once it forwards signals; before that they end it
	}{
		"run":    {[]string{"run", "-i", "busybox"}, 0},
		"attach": {[]string{"attach", "c"}, 2},
		"start":  {[]string{"start", "-a", "c"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t, false)
			sc := &screen{t: t}
			cmd := porthole(t).command(t, s.api.host, c.args...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			attached := func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return len(s.conns) > 0 && s.looks >= c.looks
			}
			sc.await("attach", attached)
			for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGHUP} {
				before := len(s.gotSignals())
				_ = cmd.Process.Signal(sig)
				sc.await("signal", func() bool { return len(s.gotSignals()) > before })
			}
			if diff := cmp.Diff([]string{"USR1", "TERM", "HUP"}, s.gotSignals()); diff != "" {
				t.Errorf("signals (-want +got):\n%s", diff)
			}
			s.end()
			s.die()
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 3 {
				t.Errorf("exit code = %d, want the container's", code)
			}
		})
	}
}

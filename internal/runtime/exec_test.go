package runtime

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// execProcess is a process with the rights of testSpec.
func execProcess(args ...string) *specs.Process {
	p := *testSpec().Process
	p.Args = args
	return &p
}

// exec starts a process that goes on running.
func (w *world) exec(c *Container, args ...string) *Process {
	w.t.Helper()
	p, err := c.Exec(w.context(), ExecOptions{ID: "x" + randomName(), Process: execProcess(args...)})
	w.must(err)
	w.must(p.Start(w.context()))
	return p
}

// execRun runs a process to its end and returns what it wrote.
func (w *world) execRun(c *Container, args ...string) (string, Exit) {
	w.t.Helper()
	return w.execWith(c, ExecOptions{Process: execProcess(args...)})
}

func (w *world) execWith(c *Container, o ExecOptions) (string, Exit) {
	w.t.Helper()
	o.ID = "x" + randomName()
	r, wr, err := os.Pipe()
	w.must(err)
	defer r.Close()
	o.Stdout, o.Stderr = wr, wr
	p, err := c.Exec(w.context(), o)
	wr.Close()
	w.must(err)
	w.must(p.Start(w.context()))
	out, err := io.ReadAll(r)
	w.must(err)
	w.wait(p.Done())
	return string(out), p.Exit()
}

func TestExec(t *testing.T) {
	userNamespaces(t, func(w *world, change func(*Bundle)) {
		b := w.bundle("sleep", "1000")
		change(&b)
		c := w.start(b)
		process := func(change func(*specs.Process), args ...string) *specs.Process {
			p := execProcess(args...)
			change(p)
			return p
		}
		tests := []struct {
			name string
			o    ExecOptions
			want string
			code int
		}{
			{"output and code", ExecOptions{Process: execProcess("sh", "-c", "echo $$ >/dev/null; echo out; exit 5")}, "out\n", 5},
			{"same namespaces", ExecOptions{Process: execProcess("sh", "-c", "hostname; head -1 /proc/1/comm; ls /proc/1/exe >/dev/null && echo yes")}, "box\nsleep\nyes\n", 0},
			{"working directory", ExecOptions{Process: process(func(p *specs.Process) { p.Cwd = "/home/app" }, "sh", "-c", "pwd; echo $HOME")}, "/home/app\n/root\n", 0},
			{"user", ExecOptions{Process: process(func(p *specs.Process) { p.User.Username = "app" }, "sh", "-c", "id; echo $HOME")}, "uid=1000(app) gid=1000(app) groups=10(wheel),29(audio),1000(app)\n/home/app\n", 0},
			{"numeric user", ExecOptions{Process: process(func(p *specs.Process) { p.User.Username = "4321:77" }, "sh", "-c", "id; echo $HOME")}, "uid=4321 gid=77 groups=77\n/\n", 0},
			{"own stdout", ExecOptions{Process: process(func(p *specs.Process) { p.User.Username = "app" }, "sh", "-c", "echo again >/dev/stdout")}, "again\n", 0},
			{"killed", ExecOptions{Process: execProcess("sh", "-c", "kill -9 $$")}, "", 137},
		}
		for _, tt := range tests {
			w.t.(*testing.T).Run(tt.name, func(t *testing.T) {
				w := w.with(t)
				out, exit := w.execWith(c, tt.o)
				if diff := cmp.Diff(tt.want, out); diff != "" {
					t.Errorf("output (-want +got):\n%s", diff)
				}
				if exit.Code != tt.code {
					t.Errorf("exit = %+v, want code %d", exit, tt.code)
				}
			})
		}
		// The cgroup namespace, too: the process must not see its host path.
		if out, _ := w.execRun(c, "cat", "/proc/self/cgroup"); strings.Contains(out, c.ID()) {
			w.t.Errorf("exec sees the host's cgroup paths:\n%s", out)
		}
	})
}

func TestExecTerminal(t *testing.T) {
	userNamespaces(t, func(w *world, change func(*Bundle)) {
		b := w.bundle("sleep", "1000")
		change(&b)
		c := w.start(b)
		p := execProcess("sh", "-c", "tty; stty size; read line; echo got $line; stty size")
		p.Terminal = true
		x, err := c.Exec(w.context(), ExecOptions{ID: "tty", Process: p, Size: [2]uint16{40, 100}})
		w.must(err)
		pty := x.PTY()
		defer pty.Close()
		w.must(x.Start(w.context()))
		first := make([]byte, 256)
		n := 0
		for !strings.Contains(string(first[:n]), "40 100") {
			m, err := pty.Read(first[n:])
			w.must(err)
			n += m
		}
		w.must(x.Resize(w.context(), 50, 120))
		_, err = pty.WriteString("hello\n")
		w.must(err)
		// The master answers EIO when the last slave is closed.
		data, err := io.ReadAll(pty)
		if err != nil && !errors.Is(err, syscall.EIO) {
			w.t.Fatal(err)
		}
		w.wait(x.Done())
		out := strings.ReplaceAll(string(first[:n])+string(data), "\r\n", "\n")
		if !strings.HasPrefix(out, "/dev/pts/") || !strings.Contains(out, "got hello\n50 120\n") {
			w.t.Errorf("output %q, read error %v, exit %+v", out, err, x.Exit())
		}
	})
}

func TestExecErrors(t *testing.T) {
	w := newWorld(t)
	c := w.start(w.bundle("sleep", "1000"))
	for _, tt := range []struct {
		name    string
		process *specs.Process
		message string
	}{
		{"missing command", execProcess("nosuch"), `exec: "nosuch": executable file not found in $PATH`},
		{"missing directory", func() *specs.Process { p := execProcess("true"); p.Cwd = "/no/such"; return p }(), `chdir to cwd ("/no/such") set in config.json failed: no such file or directory`},
		{"unknown user", func() *specs.Process { p := execProcess("true"); p.User.Username = "nosuch"; return p }(), `unable to find user nosuch: no matching entries in passwd file`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := w.with(t)
			p, err := c.Exec(w.context(), ExecOptions{ID: "x" + randomName(), Process: tt.process})
			if err == nil {
				err = p.Start(w.context())
			}
			var se *StartError
			if !errors.As(err, &se) || se.Message != tt.message {
				t.Errorf("error = %v, want %q", err, tt.message)
			}
		})
	}
	t.Run("same id twice", func(t *testing.T) {
		w := w.with(t)
		p := w.exec(c, "sleep", "1000")
		_, err := c.Exec(w.context(), ExecOptions{ID: p.ID(), Process: execProcess("true")})
		if !errdefs.IsAlreadyExists(err) {
			t.Errorf("error = %v, want already exists", err)
		}
		w.must(p.Signal(w.context(), syscall.SIGKILL))
		w.wait(p.Done())
	})
	if out, exit := w.execRun(c, "echo", "still"); out != "still\n" || exit.Code != 0 {
		t.Errorf("after failures: %q, %+v", out, exit)
	}
}

func TestExecWithFiles(t *testing.T) {
	w := newWorld(t)
	c := w.start(w.bundle("sleep", "1000"))
	in := filepath.Join(w.dir, "in")
	w.must(os.WriteFile(in, []byte("from a file\n"), 0o644))
	f, err := os.Open(in)
	w.must(err)
	defer f.Close()
	out, _ := w.execWith(c, ExecOptions{Process: execProcess("cat"), Stdin: f})
	if out != "from a file\n" {
		t.Errorf("output %q", out)
	}
}

// An exec that was expected differs from another by nothing that it can see.
func TestExpectedExec(t *testing.T) {
	w := newWorld(t)
	c := w.start(w.bundle("sleep", "1000"))
	const look = "id; pwd; umask; cat /proc/self/cgroup; grep -E 'Cap|Seccomp|NoNewPrivs|Groups' /proc/self/status; " +
		"ulimit -a; ls -l /proc/self/fd | wc -l; cat /proc/self/oom_score_adj; cut -d' ' -f6,7 /proc/self/stat | wc -w; " +
		"for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done; set -- /proc/[0-9]*; echo $#"
	plain, _ := w.execRun(c, "sh", "-c", look)
	w.expectedStage(c) // is there
	w.continueShim(c)
	if pids, err := c.Pids(); err != nil || !slices.Equal(pids, []int{c.Pid()}) {
		t.Errorf("processes %v %v, want the first alone", pids, err)
	}
	if early, _ := w.execRun(c, "sh", "-c", look); early != plain {
		t.Errorf("expected:\n%s\nnot expected:\n%s", early, plain)
	}
}

// TestLargeAccounts: users are found wherever they stand in the image's files, and a file that is too large to look
// through is an error, not a file that ends there.
func TestLargeAccounts(t *testing.T) {
	w := newWorld(t)
	name := filepath.Join(w.image, "etc/passwd")
	filler := strings.Repeat("filler:x:5000:5000::/:/bin/false\n", 9<<20/33)
	w.must(os.WriteFile(name, []byte(filler+"last:x:4242:4242::/:/bin/sh\n"), 0o644))
	b := w.bundle("id", "-u")
	b.Spec.Process.User.Username = "last"
	if out, exit := w.run(b); exit.Code != 0 || out != "4242\n" {
		t.Errorf("user behind 9 MiB: %q %+v", out, exit)
	}
	w.must(os.Truncate(name, 300<<20))
	b = w.bundle("id", "-u")
	b.Spec.Process.User.Username = "last"
	c, err := w.r.Create(w.context(), b)
	if err == nil {
		err = c.Start(w.context())
		w.delete(c)
	}
	if err == nil || !strings.Contains(err.Error(), "/etc/passwd: its 314572800 bytes are more than is looked through") {
		t.Errorf("a file of 300 MiB: %v", err)
	}
}

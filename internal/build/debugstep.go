package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/executor"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/build/step"
	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/undo"
)

// liveStep is a step that a build has stopped inside of: all that it has mounted
// is there.
type liveStep struct {
	step   *step.Step
	runner step.Runner
	// busy is held by what has the root mounted: two mounts of one writable layer
	// do not see what the other does.
	busy sync.Mutex
}

// runStep runs a step, stops before it if that is wanted, and after it if it has
// failed. fails tells whether it has.
func (s *debugSession) runStep(ctx context.Context, runner step.Runner, st *step.Step, fails func(step.Exit) bool, started func()) (step.Exit, error) {
	in := s.list[s.next]
	st.Mounts = append(st.Mounts, step.Mount{Source: s.dir, Destination: markDir, RW: true})
	live := &liveStep{step: st, runner: runner}
	// Whatever runs in the step has ended when its mounts go.
	defer live.busy.Unlock()
	defer live.busy.Lock()
	if s.inside {
		c, err := s.wait(ctx, s.describeStep(in, st, api.BuildStopBreakpoint), live)
		if err != nil {
			return step.Exit{}, err
		}
		if s.step = c.Verb == api.BuildNext; !s.step && c.Verb != api.BuildContinue {
			return step.Exit{}, &debugTurn{c}
		}
	}
	for {
		exit, cause, err := s.attempt(ctx, live, started)
		if ctx.Err() != nil || err == nil && !fails(exit) {
			return exit, err
		}
		if err != nil { // it could not be executed
			exit, cause = step.Exit{Code: neverRan}, err.Error()
		}
		stop := s.describeStep(in, st, api.BuildStopFailure)
		stop.Exit, stop.Cause = exit.Code, cause
		c, err := s.wait(ctx, stop, live)
		switch {
		case err != nil:
			return exit, err
		case c.Verb == api.BuildRetry:
			if err := s.again(live, c.Clean); err != nil {
				return exit, err
			}
		case c.Verb == api.BuildNext, c.Verb == api.BuildContinue:
			s.step = c.Verb == api.BuildNext
			s.mend()
			return step.Exit{}, nil
		default:
			return exit, &debugTurn{c}
		}
	}
}

// mend notes that the files are not those that the instructions make.
func (s *debugSession) mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repaired = true
}

func (s *debugSession) isRepaired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repaired
}

// attempt runs the step's process once. cause is which of its commands failed,
// and how.
func (s *debugSession) attempt(ctx context.Context, live *liveStep, started func()) (exit step.Exit, cause string, err error) {
	live.busy.Lock()
	defer live.busy.Unlock()
	st := *live.step
	var parts []string
	if args := st.Process.Args; len(args) == 3 && args[1] == "-c" && isShell(args[0]) {
		var script string
		script, parts = markParts(args[2])
		st.Process.Args = []string{args[0], args[1], script}
	}
	if err := os.RemoveAll(filepath.Join(s.dir, markFile)); err != nil {
		return exit, "", err
	}
	exit, err = live.runner.RunStep(ctx, &st, started)
	if err != nil {
		return exit, "", err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(s.left(markFile))))
	if err != nil || n < 0 || n >= len(parts) {
		return exit, howEnded(exit), nil
	}
	return exit, fmt.Sprintf("command %d of %d failed: %s: %s", n+1, len(parts), parts[n], howEnded(exit)), nil
}

// What steps leave in the session's directory.
const (
	markFile    = "at"
	historyFile = "history"
	// mostLeft is the most that is read of a file there.
	mostLeft = 1 << 20
)

// left is what a step has left in a file of the session's directory, and nil if
// that is not a file: a step may put there what it likes, such as a link to a file
// of the host, or a pipe that nobody writes into.
func (s *debugSession) left(name string) []byte {
	dir, err := os.Open(s.dir)
	if err != nil {
		return nil
	}
	defer dir.Close()
	f, err := mount.OpenRegular(dir, name)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := readBounded(f, mostLeft)
	if err != nil {
		return nil
	}
	return data
}

func isShell(program string) bool {
	switch path.Base(program) {
	case "sh", "ash", "bash", "dash":
		return true
	}
	return false
}

// howEnded says how a process ended.
func howEnded(exit step.Exit) string {
	switch {
	case exit.OOMKilled:
		return "the kernel killed it for want of memory (OOM)"
	case exit.Signal != 0:
		return fmt.Sprintf("killed by signal %d (%s)", exit.Signal, exit.Signal)
	case exit.Code == 126:
		return "exit code 126: a command could not be executed"
	case exit.Code == 127:
		return "exit code 127: a command was not found"
	case exit.Code > 128 && exit.Code < 128+65:
		sig := syscall.Signal(exit.Code - 128)
		return fmt.Sprintf("exit code %d, as of signal %d (%s)", exit.Code, sig, sig)
	}
	return fmt.Sprintf("exit code %d", exit.Code)
}

// again prepares another attempt: with the files as they are, or as they were.
func (s *debugSession) again(live *liveStep, clean bool) error {
	live.step.ID = newStepID()
	live.step.LogDir = filepath.Join(s.b.logsDir(), live.step.ID)
	s.classic.running(live.step.ID)
	if !clean {
		s.mend()
		return nil
	}
	entries, err := os.ReadDir(live.step.RootFS.Upper)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(live.step.RootFS.Upper, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// describeStep tells where the build stops inside of a step.
func (s *debugSession) describeStep(in instruction, st *step.Step, reason string) *api.BuildStop {
	stop := s.describe(in, reason)
	stop.Env = append([]string{}, st.Process.Env...)
	stop.User, stop.Cwd = st.Process.User, st.Process.Cwd
	for _, m := range st.Mounts {
		bm := api.BuildMount{Destination: m.Destination, Type: "bind", RW: m.RW}
		switch {
		case m.Destination == markDir:
			continue
		case len(m.Layers.Lower) > 0:
			bm.Type = "overlay"
		case m.Source == "":
			bm.Type = "tmpfs"
		}
		stop.Mounts = append(stop.Mounts, bm)
	}
	return stop
}

// debugPlace is where commands of the debugger run: in a live step, or in a copy of
// the state before an instruction.
type debugPlace struct {
	step   *step.Step
	runner step.Runner
	leave  undo.Stack
}

// enter takes the place where the build has stopped for one command.
func (s *debugSession) enter(ctx context.Context) (_ *debugPlace, err error) {
	s.mu.Lock()
	stop, live, files := s.stop, s.live, s.files0
	if files != nil {
		files = files.Clone()
	}
	s.mu.Unlock()
	p := &debugPlace{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.leave.Run())
		}
	}()
	if files != nil {
		p.leave.Add(func() error { return files.Release(context.WithoutCancel(ctx)) })
	}
	if stop == nil {
		return nil, errBuildRuns()
	}
	x, ok := s.b.worker.WorkerOpt.Executor.(*stepExecutor)
	if !ok {
		return nil, errors.New("steps are run by another executor")
	}
	if live != nil {
		if !live.busy.TryLock() {
			return nil, problem.Errorf(errdefs.ErrConflict, "a command is still running in the step")
		}
		p.leave.AddFunc(live.busy.Unlock)
		copied := *live.step
		p.step, p.runner = &copied, live.runner
		s.mend()
	} else {
		ref, err := s.b.worker.CacheMgr.New(ctx, files, nil, cache.WithDescription("files of a debugger"))
		if err != nil {
			return nil, err
		}
		p.leave.Add(func() error { return ref.Release(context.WithoutCancel(ctx)) })
		p.step = &step.Step{
			Name: "debugger", Hostname: defaultHostname, Network: step.NetworkDefault,
			Process: step.Process{Env: stop.Env, User: stop.User, Cwd: stop.Cwd},
			Mounts:  []step.Mount{{Source: s.dir, Destination: markDir, RW: true}},
		}
		p.runner = x.runner
		if p.step.RootFS, err = x.rootFS(ctx, executor.Mount{Src: writableRoot{ref}}, &p.leave); err != nil {
			return nil, err
		}
	}
	p.step.ID = newStepID()
	p.step.LogDir = filepath.Join(s.b.logsDir(), p.step.ID)
	return p, nil
}

// writableRoot is a record of the cache as the root of a step.
type writableRoot struct{ ref cache.MutableRef }

// Mount mounts it; see [executor.Mountable].
func (w writableRoot) Mount(ctx context.Context, readonly bool) (executor.MountableRef, error) {
	return w.ref.Mount(ctx, readonly, nil)
}

// exec runs a process where the build has stopped.
func (s *debugSession) exec(ctx context.Context, e api.BuildExec, p step.Process, started func()) (exit step.Exit, err error) {
	at, err := s.enter(ctx)
	if err != nil {
		return exit, err
	}
	defer func() { err = errors.Join(err, at.leave.Run()) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-s.ended:
			cancel(errDebugQuit)
		case <-ctx.Done():
		}
	}()
	st := at.step
	p.Args, p.Env, p.User, p.Cwd = e.Command, st.Process.Env, st.Process.User, st.Process.Cwd
	if e.User != "" {
		p.User = e.User
	}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	if len(p.Args) == 0 {
		if p.Args, err = s.shell(st.RootFS); err != nil {
			return exit, err
		}
		// As one layer shows it; what the shell has kept is read when it has ended.
		p.Env = append(append([]string{}, p.Env...), "HISTFILE="+markDir+"/"+historyFile, "HISTSIZE=1000")
	} else if n := len(p.Args); n == 3 && p.Args[1] == "-c" {
		s.remember(p.Args[2])
		if shell, err := s.shell(st.RootFS); err == nil && shell[0] == ourShell {
			p.Args = []string{ourShell, "-c", p.Args[2]}
		}
	}
	if p.Args[0] == ourShell {
		p.Env = withPath(p.Env, path.Dir(ourShell))
		st.Mounts = append(slices.Clip(st.Mounts), step.Mount{Source: s.tools, Destination: toolsDir})
	}
	sizes := make(chan step.Size, 1)
	if e.TTY {
		if e.Height > 0 && e.Width > 0 {
			sizes <- step.Size{Height: e.Height, Width: e.Width}
		}
		p.Resize = sizes
		defer s.setSizes(nil)
		s.setSizes(sizes)
	}
	st.Process = p
	clean, err := stubs(st)
	if err != nil {
		return exit, err
	}
	at.leave.Add(clean)
	exit, err = at.runner.RunStep(ctx, st, started)
	if err != nil {
		return exit, stepError(ctx, err)
	}
	s.readHistory()
	return exit, nil
}

func (s *debugSession) setSizes(sizes chan step.Size) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes = sizes
}

// resize tells the size of the terminal of the process that runs.
func (s *debugSession) resize(size step.Size) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sizes == nil {
		return problem.Errorf(errdefs.ErrFailedPrecondition, "nothing with a terminal runs in the build")
	}
	select {
	case <-s.sizes: // one that nobody has taken yet is old now
	default:
	}
	s.sizes <- size
	return nil
}

// readHistory takes over what a shell has kept of its commands.
func (s *debugSession) readHistory() {
	for line := range strings.SplitSeq(string(s.left(historyFile)), "\n") {
		if line = strings.TrimSpace(line); line != "" && line != "exit" && !strings.HasPrefix(line, "#") {
			s.remember(line)
		}
	}
	_ = os.RemoveAll(filepath.Join(s.dir, historyFile)) // the next shell is told once more then
}

// remember notes a command that somebody ran in the step.
func (s *debugSession) remember(command string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = append(s.history, command)
}

// toolsDir is where a step without a shell sees our tools, and ourShell is the one
// of them.
const (
	toolsDir = "/dev/.porthole-tools"
	ourShell = toolsDir + "/bin/sh"
)

// shell is the command of a shell for a root file system: the most comfortable
// that it has, or ours.
func (s *debugSession) shell(l image.Layers) ([]string, error) {
	root, err := openView(l)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, name := range []string{"/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh", "/bin/ash", "/busybox/sh"} {
		at, err := mount.OpenInRoot(root, name, unix.O_PATH, 0)
		if err != nil {
			continue
		}
		info, err := at.Stat()
		at.Close()
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return []string{name}, nil
		}
	}
	if s.b.tools == nil {
		return nil, problem.WithHint(problem.Errorf(errdefs.ErrNotFound, "the step has no shell"), "look at its files with: files PATH")
	}
	return []string{ourShell}, s.bringTools()
}

// bringTools copies our tools to where the step can see them: where they are may
// be another file system, one that cannot be ID-mapped. Nothing of it is where steps
// can write: we would write where their links lead to.
func (s *debugSession) bringTools() error {
	s.bringing.Lock()
	defer s.bringing.Unlock()
	if _, err := os.Stat(filepath.Join(s.tools, "bin")); err == nil {
		return nil
	}
	from, err := s.b.tools()
	if err != nil {
		return err
	}
	if err := copyTools(s.tools, from); err != nil {
		return errors.Join(err, os.RemoveAll(filepath.Join(s.tools, "bin")))
	}
	return nil
}

// copyTools copies a directory of programs and links to them.
func copyTools(to, from string) error {
	return filepath.WalkDir(from, func(name string, e iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		dest := filepath.Join(to, rel)
		if e.IsDir() {
			return os.MkdirAll(dest, 0o755)
		}
		if e.Type() == os.ModeSymlink {
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			return os.Symlink(target, dest)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(dest, data, 0o755)
	})
}

// withPath adds a directory to the end of PATH.
func withPath(env []string, dir string) []string {
	out := append([]string{}, env...)
	for i, e := range out {
		if value, ok := strings.CutPrefix(e, "PATH="); ok {
			out[i] = "PATH=" + value + ":" + dir
			return out
		}
	}
	return append(out, "PATH="+dir)
}

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// openView opens a root file system for reading, beside what may have it
// mounted: what is written meanwhile is seen or not.
func openView(l image.Layers) (*os.File, error) {
	if l.Upper != "" {
		l.Lower = append([]string{l.Upper}, l.Lower...)
		l.Upper, l.Work = "", ""
	}
	return l.OpenImage()
}

// maxShown is how much of a file the debugger shows.
const maxShown = 1 << 20

// files lists a directory of where the build has stopped, or shows a file.
func (s *debugSession) files(ctx context.Context, name string) (a api.BuildAnswer, err error) {
	layers, leave, err := s.layers(ctx)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, leave.Run()) }()
	inside := path.Join("/", name)
	var root *os.File
	if m, below, ok := s.mountAt(inside); ok {
		inside = below
		root, err = openMount(m)
	} else {
		root, err = openView(layers)
	}
	if err != nil {
		return a, err
	}
	defer root.Close()
	a, err = look(root, inside)
	if errors.Is(err, iofs.ErrNotExist) {
		return a, problem.Errorf(errdefs.ErrNotFound, "%s: no such file or directory", path.Join("/", name))
	}
	return a, err
}

// look lists a directory below root, which may itself be a file, or shows a file.
// Links lead nowhere but below root, whatever a command that runs in the step makes
// of them meanwhile.
func look(root *os.File, name string) (a api.BuildAnswer, err error) {
	at := root
	if name != "/" {
		if at, err = mount.OpenInRoot(root, name, unix.O_PATH, 0); err != nil {
			return a, err
		}
		defer at.Close()
	}
	info, err := at.Stat()
	switch {
	case err != nil:
		return a, err
	case info.IsDir():
		entries, err := os.ReadDir(fdPath(at))
		if err != nil {
			return a, err
		}
		a.Files = []api.BuildFile{}
		for _, e := range entries {
			a.Files = append(a.Files, describeFile(filepath.Join(fdPath(at), e.Name()), e))
		}
		return a, nil
	case !info.Mode().IsRegular():
		a.Files = []api.BuildFile{describeFile("", iofs.FileInfoToDirEntry(info))}
		return a, nil
	}
	f, err := os.Open(fdPath(at)) // that very file
	if err != nil {
		return a, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxShown))
	a.Text = string(data)
	return a, err
}

// mountAt finds the mount of the step that a path is in, and the path below it.
func (s *debugSession) mountAt(name string) (m step.Mount, below string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		return m, "", false
	}
	for _, candidate := range s.live.step.Mounts {
		dest := path.Join("/", candidate.Destination)
		rest, inside := strings.CutPrefix(name, dest)
		if inside && (rest == "" || rest[0] == '/') && len(dest) >= len(m.Destination) {
			m, below, ok = candidate, path.Join("/", rest), true
			m.Destination = dest
		}
	}
	return m, below, ok
}

// openMount opens what a step has mounted, for reading. Another step may change the
// links in a cache meanwhile.
func openMount(m step.Mount) (*os.File, error) {
	switch {
	case len(m.Layers.Lower) > 0:
		root, err := openView(m.Layers)
		if err != nil || m.Part == "" {
			return root, err
		}
		defer root.Close()
		return mount.OpenInRoot(root, m.Part, unix.O_PATH, 0)
	case m.Source == "":
		return nil, problem.WithHint(problem.Errorf(errdefs.ErrFailedPrecondition, "%s is a tmpfs, which begins empty with each command", m.Destination), "look at it with: run ls")
	}
	return mount.OpenSource(m.Source, m.Part)
}

func describeFile(at string, e iofs.DirEntry) api.BuildFile {
	out := api.BuildFile{Name: e.Name()}
	info, err := e.Info()
	if err != nil {
		return out // it went meanwhile
	}
	out.Mode, out.Size = info.Mode().String(), info.Size()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		out.UID, out.GID = st.Uid, st.Gid
	}
	if info.Mode()&os.ModeSymlink != 0 {
		out.Link, _ = os.Readlink(at) // it went meanwhile
	}
	return out
}

// layers are those of where the build has stopped, for reading.
func (s *debugSession) layers(ctx context.Context) (l image.Layers, leave *undo.Stack, err error) {
	s.mu.Lock()
	stop, live, files := s.stop, s.live, s.files0
	if files != nil {
		files = files.Clone()
	}
	s.mu.Unlock()
	leave = &undo.Stack{}
	if files != nil {
		leave.Add(func() error { return files.Release(context.WithoutCancel(ctx)) })
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, leave.Run())
		}
	}()
	x, ok := s.b.worker.WorkerOpt.Executor.(*stepExecutor)
	switch {
	case stop == nil:
		return l, leave, errBuildRuns()
	case live != nil:
		return live.step.RootFS, leave, nil
	case files == nil || !ok:
		return l, leave, problem.Errorf(errdefs.ErrFailedPrecondition, "there are no files yet")
	}
	l, err = x.rootFS(ctx, executor.Mount{Src: readableRoot{files}, Readonly: true}, leave)
	return l, leave, err
}

// readableRoot is a record of the cache that is looked at.
type readableRoot struct{ ref cache.ImmutableRef }

// Mount mounts it; see [executor.Mountable].
func (r readableRoot) Mount(ctx context.Context, _ bool) (executor.MountableRef, error) {
	return r.ref.Mount(ctx, true, nil)
}

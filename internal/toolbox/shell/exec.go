package shell

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	ossignal "os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/sys/signal"
	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// Names under which call hands commands to exec.
const (
	runTraps   = "\x00traps"
	runWait    = "\x00wait"
	runUmask   = "\x00umask"
	runHistory = "\x00history"
	runOutside = "\x00command" // a command that the interpreter would take for its own
	replace    = "\x00exec"
)

// call sees every command before the interpreter does. It takes over what the
// interpreter lacks and runs traps between two commands.
func (sh *shell) call(_ context.Context, args []string) ([]string, error) {
	sh.mu.Lock()
	due := len(sh.pending) > 0
	sh.mu.Unlock()
	if due {
		return append([]string{runTraps}, args...), nil // and comes here again
	}
	return sh.rewrite(args), nil
}

func (sh *shell) rewrite(args []string) []string {
	switch args[0] {
	case "trap":
		return sh.trap(args)
	case "wait":
		return append([]string{runWait}, args[1:]...)
	case "umask":
		return append([]string{runUmask}, args[1:]...)
	case "kill":
		return append([]string{runOutside}, args...)
	case "history":
		if sh.typed != nil {
			return append([]string{runHistory}, args[1:]...)
		}
	}
	return sh.replaceWith(args)
}

// replaceWith marks a command that is to take the place of the shell. Only the
// first command after tail was set can be it.
func (sh *shell) replaceWith(args []string) []string {
	if !sh.tail.Swap(false) {
		return args
	}
	if args[0] == "exec" && len(args) > 1 {
		args = args[1:]
	}
	sh.mu.Lock()
	trapped := len(sh.traps) > 0 || sh.exitTrap
	sh.mu.Unlock()
	if trapped || sh.runner.Funcs[args[0]] != nil || interp.IsBuiltin(args[0]) {
		return args
	}
	return append([]string{replace}, args...)
}

// trap takes the signals out of a trap command; EXIT and ERR are the
// interpreter's.
func (sh *shell) trap(args []string) []string {
	rest := args[1:]
	if len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	}
	if len(rest) < 2 {
		return args
	}
	code := rest[0]
	keep := []string{"trap", code}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, name := range rest[1:] {
		switch {
		case name == "0" || strings.EqualFold(name, "EXIT"):
			keep = append(keep, "EXIT")
			sh.exitTrap = code != "-" && code != ""
			continue
		case name == "ERR":
			keep = append(keep, name)
			continue
		}
		s, err := signal.ParseSignal(name)
		if err != nil {
			keep = append(keep, name) // the interpreter complains
			continue
		}
		if code == "-" {
			delete(sh.traps, s)
		} else {
			sh.traps[s] = code
			ossignal.Notify(sh.signals, s)
		}
	}
	if len(keep) == 2 {
		return []string{"true"}
	}
	return keep
}

// exec runs what is no builtin and no function.
func (sh *shell) exec(ctx context.Context, args []string) error {
	hc := interp.HandlerCtx(ctx)
	switch args[0] {
	case runTraps:
		return sh.runPending(ctx, hc, args[1:])
	case runWait:
		if !sh.beginWait() {
			return sh.runPending(ctx, hc, append([]string{"wait"}, args[1:]...))
		}
		defer sh.waiting.Store(false)
		return hc.Builtin(ctx, append([]string{"wait"}, args[1:]...))
	case runUmask:
		return umask(hc, args[1:])
	case runHistory:
		return sh.typed.builtin(hc.Stdout, hc.Stderr, args[1:])
	case replace:
		return sh.replaceProcess(hc, args[1:])
	case runOutside:
		args = args[1:]
	}
	var err error
	if s, ok := sh.toItself(args); ok {
		sh.signalled(s)
	} else {
		err = sh.start(hc, args)
	}
	sh.mu.Lock()
	codes := sh.pending
	sh.pending = nil
	dying := sh.dying
	sh.mu.Unlock()
	if dying != 0 {
		os.Exit(128 + int(dying))
	}
	for _, code := range codes {
		if trapErr := hc.Builtin(ctx, []string{"eval", code}); trapErr != nil && err == nil {
			err = trapErr
		}
	}
	return err
}

// toItself is the signal of a "kill -SIGNAL $$". The Go runtime would pass it on
// late, after the next command perhaps.
func (sh *shell) toItself(args []string) (syscall.Signal, bool) {
	if len(args) != 3 || args[0] != "kill" || args[2] != strconv.Itoa(os.Getpid()) || !strings.HasPrefix(args[1], "-") {
		return 0, false
	}
	s, err := signal.ParseSignal(args[1][1:])
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return s, err == nil && (sh.traps[s] != "" || slices.Contains(deadly, os.Signal(s)))
}

// beginWait makes traps run at once from now on. It is false when one is due
// already.
func (sh *shell) beginWait() bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.pending) > 0 {
		return false
	}
	sh.waiting.Store(true)
	return true
}

func (sh *shell) runPending(ctx context.Context, hc interp.HandlerContext, args []string) error {
	sh.mu.Lock()
	codes := sh.pending
	sh.pending = nil
	sh.mu.Unlock()
	var quoted []string
	for _, a := range args {
		q, err := syntax.Quote(a, syntax.LangBash)
		if err != nil {
			return err
		}
		quoted = append(quoted, q)
	}
	return hc.Builtin(ctx, []string{"eval", strings.Join(codes, "\n") + "\n" + strings.Join(quoted, " ")})
}

// start runs a program and waits for it. The end of ctx does not end it: it is
// the interpreter's, and a program that the terminal has interrupted decides
// itself what to do.
func (sh *shell) start(hc interp.HandlerContext, args []string) error {
	path, err := sh.resolve(hc, args[0])
	if err != nil {
		return failed(hc, err)
	}
	path, argv, err := sh.foreign.Command(path, args)
	if err != nil {
		return failed(hc, fmt.Errorf("%s: %w", args[0], underlying(err)))
	}
	cmd := exec.CommandContext(context.Background(), path)
	cmd.Args, cmd.Env, cmd.Dir = argv, environ(hc.Env), hc.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = hc.Stdin, hc.Stdout, hc.Stderr
	// A signal comes either before the child is there or finds it.
	sh.mu.Lock()
	err = cmd.Start()
	if err == nil {
		sh.children[cmd.Process] = true
	}
	sh.mu.Unlock()
	if err != nil {
		if errors.Is(err, syscall.ENOEXEC) {
			return sh.start(hc, append([]string{self(), "sh", path}, args[1:]...))
		}
		return failed(hc, fmt.Errorf("%s: %w", args[0], underlying(err)))
	}
	err = cmd.Wait()
	sh.mu.Lock()
	delete(sh.children, cmd.Process)
	sh.mu.Unlock()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return interp.ExitStatus(128 + int(status.Signal()))
	}
	return interp.ExitStatus(exit.ExitCode())
}

// failed prints why a command was not started and gives the usual status.
func failed(hc interp.HandlerContext, err error) error {
	fmt.Fprintf(hc.Stderr, "sh: %v\n", err)
	if errors.Is(err, errNotFound) || errors.Is(err, syscall.ENOENT) {
		return interp.ExitStatus(127)
	}
	return interp.ExitStatus(126)
}

func underlying(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// replaceProcess executes a program in place of the shell. It only returns
// when that is not possible.
func (sh *shell) replaceProcess(hc interp.HandlerContext, args []string) error {
	path, err := sh.resolve(hc, args[0])
	if err != nil {
		return failed(hc, err)
	}
	files := [3]*os.File{}
	for i, f := range []any{hc.Stdin, hc.Stdout, hc.Stderr} {
		file, ok := f.(*os.File)
		if !ok || file == nil {
			return sh.start(hc, args)
		}
		files[i] = file
	}
	// Copies first: a redirection may have crossed them.
	var copies [3]int
	for i, f := range files {
		if copies[i], err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 10); err != nil {
			return failed(hc, fmt.Errorf("%s: %w", args[0], err))
		}
	}
	for i, fd := range copies {
		if err := unix.Dup3(fd, i, 0); err != nil {
			return failed(hc, fmt.Errorf("%s: %w", args[0], err))
		}
		// The Go runtime may have made it non-blocking.
		_ = unix.SetNonblock(i, false)
	}
	if err := os.Chdir(hc.Dir); err != nil {
		return failed(hc, err)
	}
	path, argv, err := sh.foreign.Command(path, args)
	if err != nil {
		return failed(hc, fmt.Errorf("%s: %w", args[0], underlying(err)))
	}
	err = unix.Exec(path, argv, environ(hc.Env))
	if errors.Is(err, syscall.ENOEXEC) {
		err = unix.Exec(self(), append([]string{"sh", path}, args[1:]...), environ(hc.Env))
	}
	return failed(hc, fmt.Errorf("%s: %w", args[0], err))
}

// environ lists the exported variables. Each tells of one that was changed or unset
// again after what it was before, and of two with a name some programs take the first.
func environ(env expand.Environ) []string {
	values := map[string]string{}
	for name, v := range env.Each {
		if v.IsSet() && v.Exported && v.Kind == expand.String && name != nameVariable {
			values[name] = v.String()
		} else {
			delete(values, name)
		}
	}
	list := make([]string, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list = append(list, name+"="+values[name])
	}
	return list
}

func umask(hc interp.HandlerContext, args []string) error {
	if len(args) == 0 {
		old := unix.Umask(0)
		unix.Umask(old)
		fmt.Fprintf(hc.Stdout, "%04o\n", old)
		return nil
	}
	mask, err := strconv.ParseUint(args[0], 8, 12)
	if err != nil {
		fmt.Fprintf(hc.Stderr, "sh: umask: %q is no octal number\n", args[0])
		return interp.ExitStatus(1)
	}
	unix.Umask(int(mask))
	return nil
}

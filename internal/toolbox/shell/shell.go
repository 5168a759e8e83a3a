// Package shell is the shell of the toolbox image: POSIX and most of bash, by
// mvdan.cc/sh, with what a program in a container needs besides: a prompt with
// line editing, signals and traps, and an exec that replaces the process.
//
// It differs from other shells where the interpreter does: jobs cannot be moved
// between foreground and background, and $! is a number of the shell's own.
package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"github.com/portholehq/porthole/internal/toolbox/foreign"
)

// Main runs the shell with the arguments after its name and returns the exit
// status:
//
//	sh [-i] [-l] [-e] [-u] [-x] [-c COMMAND [NAME [ARG...]] | FILE [ARG...] | -s [ARG...]]
//
// isApplet tells which commands the running program has itself; they are found
// even where the file system has no files for them.
func Main(args []string, isApplet func(string) bool) int {
	o, err := parseArgs(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sh:", err)
		return 2
	}
	sh := &shell{isApplet: isApplet, foreign: foreign.Root(os.Getenv(foreign.Variable)), traps: map[os.Signal]string{}, signals: make(chan os.Signal, 16), children: map[*os.Process]bool{}, opts: o}
	return sh.run()
}

type options struct {
	command     *string
	file        string
	interactive bool
	set         []string // options for the interpreter, as of set
	name        string   // $0
	params      []string
}

func parseArgs(args []string) (options, error) {
	o := options{name: "sh"}
	fromStdin, takesCommand := false, false
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		if arg == "--login" {
			continue
		}
		if arg == "-o" || arg == "+o" {
			if len(args) == 0 {
				return o, fmt.Errorf("%s needs an argument", arg)
			}
			o.set = append(o.set, arg, args[0])
			args = args[1:]
			continue
		}
		for _, c := range arg[1:] {
			switch c {
			case 'c':
				takesCommand = true
			case 'i':
				o.interactive = true
			case 's':
				fromStdin = true
			case 'l', 'm':
			case 'e', 'u', 'x', 'n', 'f', 'a':
				o.set = append(o.set, arg[:1]+string(c))
			default:
				return o, fmt.Errorf("invalid option: %s", arg)
			}
		}
	}
	switch {
	case takesCommand:
		if len(args) == 0 {
			return o, errors.New("-c needs an argument")
		}
		o.command = &args[0]
		args = args[1:]
		if len(args) > 0 {
			o.name, args = args[0], args[1:]
		}
	case !fromStdin && len(args) > 0:
		o.file, o.name, args = args[0], args[0], args[1:]
	}
	o.params = args
	return o, nil
}

type shell struct {
	isApplet func(string) bool
	foreign  foreign.Root // whose programs are among those on the PATH; empty: none
	opts     options
	runner   *interp.Runner

	signals       chan os.Signal
	isInteractive bool
	typed         *remembered // nil without a prompt

	waiting atomic.Bool // in the wait builtin
	tail    atomic.Bool // the next command may replace the process

	mu       sync.Mutex
	traps    map[os.Signal]string
	exitTrap bool
	pending  []string // code of traps whose signals have come
	children map[*os.Process]bool
	dying    syscall.Signal     // ends the shell as soon as its children are gone
	cancel   context.CancelFunc // stops what an interactive shell is running
}

func (sh *shell) run() int {
	terminal := sh.opts.command == nil && sh.opts.file == "" && term.IsTerminal(int(os.Stdin.Fd()))
	interactive := sh.opts.interactive || terminal
	sh.isInteractive = interactive
	runner, err := interp.New(
		interp.Interactive(interactive),
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr),
		interp.Env(environment(sh.opts.name)),
		interp.CallHandler(sh.call),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return sh.exec }),
		interp.Params(append(append(sh.opts.set, "--"), sh.opts.params...)...),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sh:", err)
		return 2
	}
	sh.runner = runner
	stop := sh.watchSignals()
	defer stop()
	switch {
	case sh.opts.command != nil:
		return sh.script(strings.NewReader(*sh.opts.command), sh.opts.name, true)
	case sh.opts.file != "":
		return sh.file(sh.opts.file)
	case terminal:
		return sh.prompt(os.Stdin, os.Stdout)
	default:
		return sh.stream(os.Stdin)
	}
}

// environment is the process's, completed with what programs expect.
func environment(name string) expand.Environ {
	env := os.Environ()
	if os.Getenv("PATH") == "" {
		env = append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	if os.Getenv("SHLVL") == "" {
		env = append(env, "SHLVL=1")
	}
	return expand.ListEnviron(append(env, nameVariable+"="+name)...)
}

// nameVariable holds the shell's name. The interpreter knows $0 only while it
// runs a whole file at once, which this shell does not; see nameParameters. It
// is not exported.
const nameVariable = "SHELL_ARGUMENT_0"

// nameParameters makes $0 in a program mean the shell's name.
func nameParameters(node syntax.Node) {
	syntax.Walk(node, func(n syntax.Node) bool {
		if p, ok := n.(*syntax.ParamExp); ok && p.Param != nil && p.Param.Value == "0" {
			p.Param.Value = nameVariable
			p.Short = false // $SHELL_ARGUMENT_0 next to a letter
		}
		return true
	})
}

func (sh *shell) file(path string) int {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) && !strings.Contains(path, "/") {
		if found, lookErr := interp.LookPath(expand.ListEnviron(os.Environ()...), path); lookErr == nil {
			f, err = os.Open(found)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "sh: %v\n", err)
		if errors.Is(err, os.ErrNotExist) {
			return 127
		}
		return 126
	}
	defer f.Close()
	return sh.script(f, path, false)
}

// script runs a whole program. With replace, the last command of it takes the
// place of the shell, so that it gets the signals that are meant for it.
func (sh *shell) script(r io.Reader, name string, replace bool) int {
	file, err := syntax.NewParser().Parse(r, name)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sh:", err)
		return 2
	}
	nameParameters(file)
	sh.runner.Reset()
	// A command in the background may come late, and would be taken for the one
	// that replaces the shell.
	alone := !hasBackground(file)
	for i, stmt := range file.Stmts {
		sh.tail.Store(alone && replaces(stmt, replace && i == len(file.Stmts)-1))
		if code, exited := sh.stmt(context.Background(), stmt); exited {
			return code
		} else if i == len(file.Stmts)-1 {
			return sh.finish(code)
		}
	}
	return sh.finish(0)
}

func hasBackground(file *syntax.File) bool {
	found := false
	syntax.Walk(file, func(n syntax.Node) bool {
		if stmt, ok := n.(*syntax.Stmt); ok && (stmt.Background || stmt.Coprocess) {
			found = true
		}
		return !found
	})
	return found
}

// finish runs the EXIT trap of a program that came to its end.
func (sh *shell) finish(code int) int {
	sh.tail.Store(false)
	exit, err := syntax.NewParser().Parse(strings.NewReader(fmt.Sprintf("exit %d", code)), "")
	if err != nil {
		return code
	}
	code, _ = sh.stmt(context.Background(), exit)
	return code
}

// stmt runs one statement and tells whether the shell is to end.
func (sh *shell) stmt(ctx context.Context, node syntax.Node) (code int, exited bool) {
	err := sh.runner.Run(ctx, node)
	var status interp.ExitStatus
	switch {
	case err == nil:
	case errors.As(err, &status):
		code = int(status)
	case errors.Is(err, context.Canceled):
		code = 130
	default:
		fmt.Fprintln(os.Stderr, "sh:", err)
		code = 1
	}
	return code, sh.runner.Exited()
}

// replaces tells whether a statement is one command that may replace the
// process: `exec COMMAND`, or any plain command when it is the last.
func replaces(stmt *syntax.Stmt, last bool) bool {
	call, ok := stmt.Cmd.(*syntax.CallExpr)
	if !ok || len(call.Args) == 0 || stmt.Background || stmt.Negated || stmt.Coprocess {
		return false
	}
	if call.Args[0].Lit() == "exec" {
		return len(call.Args) > 1
	}
	// Substitutions run commands of their own before the last one.
	plain := true
	syntax.Walk(call, func(n syntax.Node) bool {
		switch n.(type) {
		case *syntax.CmdSubst, *syntax.ProcSubst:
			plain = false
		}
		return plain
	})
	return last && plain
}

// stream runs lines as they come, so that a command can read what follows it
// in the input.
func (sh *shell) stream(r io.Reader) int {
	sh.runner.Reset()
	code := 0
	parser := syntax.NewParser()
	for stmts, err := range parser.InteractiveSeq(byByte{io.MultiReader(r, strings.NewReader("\n"))}) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "sh:", err)
			return 2
		}
		if parser.Incomplete() {
			continue
		}
		for _, stmt := range stmts {
			var exited bool
			nameParameters(stmt)
			sh.tail.Store(replaces(stmt, false))
			if code, exited = sh.stmt(context.Background(), stmt); exited {
				return code
			}
		}
	}
	return sh.finish(code)
}

// byByte reads no further than what is asked for: what comes after belongs to
// the commands.
type byByte struct{ r io.Reader }

func (b byByte) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return b.r.Read(p[:1])
}

// deadly are the signals that end a shell without a trap for them. The Go runtime
// ignores some of these if nobody watches.
var deadly = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM,
}

// watchSignals makes signals traps, or the end of the shell.
func (sh *shell) watchSignals() func() {
	signal.Notify(sh.signals, deadly...)
	go func() {
		for s := range sh.signals {
			sh.signalled(s.(syscall.Signal))
		}
	}()
	return func() {
		signal.Stop(sh.signals)
		close(sh.signals)
	}
}

func (sh *shell) signalled(s syscall.Signal) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if code, ok := sh.traps[s]; ok {
		if code == "" {
			return
		}
		if !sh.waiting.Load() {
			sh.pending = append(sh.pending, code)
			return
		}
		// The interpreter cannot be got out of wait, but it changes nothing
		// while it is there: a copy of it runs the trap.
		go sh.trapWhileWaiting(code)
		return
	}
	if !slices.Contains(deadly, os.Signal(s)) {
		return
	}
	if sh.isInteractive && (s == syscall.SIGINT || s == syscall.SIGQUIT) {
		if sh.cancel != nil {
			sh.cancel()
		}
		return
	}
	if len(sh.children) == 0 {
		os.Exit(128 + int(s))
	}
	sh.dying = s
	// The terminal has told its foreground processes already.
	if (s == syscall.SIGINT || s == syscall.SIGQUIT) && term.IsTerminal(int(os.Stdin.Fd())) {
		return
	}
	for p := range sh.children {
		_ = p.Signal(s)
	}
}

func (sh *shell) trapWhileWaiting(code string) {
	file, err := syntax.NewParser().Parse(strings.NewReader(code), "trap")
	if err != nil {
		fmt.Fprintln(os.Stderr, "sh:", err)
		return
	}
	sub := sh.runner.Subshell()
	err = sub.Run(context.Background(), file)
	if sub.Exited() {
		status := 0
		var s interp.ExitStatus
		if errors.As(err, &s) {
			status = int(s)
		}
		os.Exit(status)
	}
}

// resolve finds the program for a command: a file, or this program itself.
func (sh *shell) resolve(hc interp.HandlerContext, name string) (path string, err error) {
	path, err = interp.LookPathDir(hc.Dir, hc.Env, name)
	if err != nil { // a link of that root may lead nowhere in this one
		if found := sh.foreign.Find(hc.Env.Get("PATH").String(), name); found != "" {
			return found, nil
		}
	}
	if err != nil && sh.isApplet != nil && sh.isApplet(name) && !strings.Contains(name, "/") {
		return self(), nil
	}
	if err != nil && strings.Contains(name, "/") {
		full := name
		if !filepath.IsAbs(full) {
			full = filepath.Join(hc.Dir, full)
		}
		if _, statErr := os.Stat(full); statErr == nil {
			return "", fmt.Errorf("%s: %w", name, syscall.EACCES)
		}
		return "", fmt.Errorf("%s: %w", name, syscall.ENOENT)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, errNotFound)
	}
	return path, nil
}

// self is this program. In a debug session /proc is another pid namespace's.
func self() string {
	const own = "/proc/self/exe"
	if _, err := os.Lstat(own); err == nil {
		return own
	}
	if found, err := interp.LookPath(expand.ListEnviron(os.Environ()...), "porthole-toolbox"); err == nil {
		return found
	}
	return own
}

var errNotFound = errors.New("not found")

// Builtin runs a builtin of the shell as a command of its own.
func Builtin(name string, args []string) int {
	command := `"$@"`
	sh := &shell{traps: map[os.Signal]string{}, signals: make(chan os.Signal, 16), children: map[*os.Process]bool{}, opts: options{
		command: &command, name: name, params: append([]string{name}, args...),
	}}
	return sh.run()
}

// Builtins are the names that [Builtin] knows and an image has files for.
func Builtins() []string {
	return []string{"[", "echo", "false", "printf", "pwd", "test", "true"}
}

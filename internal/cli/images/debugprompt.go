package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	units "github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"
	"golang.org/x/term"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/tty"
)

// debugger is the debugger's side at the terminal.
type debugger struct {
	a       *command.App
	c       *client.Client
	stops   chan *api.BuildStop
	session string
	image   string // ID of the result
	file    string // the Dockerfile
	saved   []byte // what is in it
	edited  string // what it would be after the last edit; empty: that is saved, or there was none
	breaks  []int
	history promptHistory
	stop    *api.BuildStop
}

func imageID(m jsonstream.Message) string {
	var aux struct{ ID string }
	if json.Unmarshal(*m.Aux, &aux) != nil {
		return ""
	}
	return aux.ID
}

// A debugVerb is one command of the prompt. goes tells that the build goes on.
type debugVerb struct {
	names []string
	args  string
	help  string
	do    func(d *debugger, ctx context.Context, args string) (goes bool, err error)
}

// debugVerbs is the prompt's surface.
func debugVerbs() []debugVerb {
	return []debugVerb{
		{[]string{"shell", "sh"}, "", "open a shell in the step", (*debugger).shell},
		{[]string{"run", "!"}, "COMMAND", "run a command in the step", (*debugger).runCommand},
		{[]string{"files", "ls"}, "[PATH]", "list a directory, or show a file", (*debugger).files},
		{[]string{"where", "w"}, "", "tell where the build has stopped, and why", (*debugger).where},
		{[]string{"list", "l"}, "", "show the Dockerfile", (*debugger).list},
		{[]string{"env", "e"}, "", "show environment, user, directory, arguments and mounts", (*debugger).env},
		{[]string{"retry", "r"}, "[--clean]", "do the failed instruction again, with the files as they are, or as they were before it", (*debugger).retry},
		{[]string{"edit"}, "[INSTRUCTION]", "change the instruction, and do that", (*debugger).edit},
		{[]string{"next", "n"}, "", "go on to the next instruction; a failed one is taken as done, with the files as they are", goOn(api.BuildNext)},
		{[]string{"continue", "c"}, "", "go on to the next reason to stop", goOn(api.BuildContinue)},
		{[]string{"back", "b"}, "", "go back to the instruction before", goOn(api.BuildBack)},
		{[]string{"break"}, "[LINE | -LINE]...", "show, set and remove breakpoints", (*debugger).setBreaks},
		{[]string{"save"}, "", "write the Dockerfile with what was edited and run", (*debugger).save},
		{[]string{"help", "h", "?"}, "", "show this", (*debugger).help},
		{[]string{"quit", "q"}, "", "end the build", goOn(api.BuildQuit)},
	}
}

// errQuit ends the program: its build was ended.
var errQuit = &command.StatusError{Code: 1, Text: "the build was ended"}

// stopped tells where the build has stopped, and does what is asked for until it
// goes on.
func (d *debugger) stopped(ctx context.Context, stop *api.BuildStop) error {
	d.stop = stop
	d.tellStop()
	for {
		line, err := d.readLine(ctx)
		if errors.Is(err, io.EOF) {
			line = "quit"
		} else if err != nil {
			return err
		}
		name, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" {
			continue
		}
		if name[0] == '!' && len(name) > 1 {
			name, args = "!", strings.TrimSpace(line)[1:]
		}
		goes, err := d.do(ctx, name, strings.TrimSpace(args))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			d.say("%v\n", err)
			if hint := d.c.Hint(err); hint != "" {
				d.say("Hint: %s\n", hint)
			}
			continue
		}
		if goes {
			if name == "quit" || name == "q" {
				return errQuit
			}
			return nil
		}
	}
}

func (d *debugger) do(ctx context.Context, name, args string) (bool, error) {
	for _, v := range debugVerbs() {
		if slices.Contains(v.names, name) {
			return v.do(d, ctx, args)
		}
	}
	return false, fmt.Errorf("unknown command %q; see: help", name)
}

func (d *debugger) say(format string, args ...any) { _, _ = fmt.Fprintf(d.a.Out, format, args...) }

func (d *debugger) command(ctx context.Context, c api.BuildCommand) (api.BuildAnswer, error) {
	return d.c.BuildCommand(ctx, d.session, c)
}

// tellStop says where and why.
func (d *debugger) tellStop() {
	s := d.stop
	d.say("\nStopped at %s:%d, instruction %d of %d", s.File, s.Line, s.Index, s.Total)
	switch {
	case s.Reason != api.BuildStopFailure:
		d.say(", %s\n", map[bool]string{true: "before its step runs", false: "before it is done"}[s.Live])
	case s.Error != "":
		d.say(": it failed\n")
	default:
		d.say(": it ended with exit code %d\n", s.Exit)
	}
	for i, line := range strings.Split(s.Instruction, "\n") {
		d.say("  %4d  %s\n", s.Line+i, command.VisibleText(line))
	}
	if s.Cause != "" {
		d.say("%s\n", command.VisibleText(s.Cause))
	}
	if s.Error != "" {
		d.say("%s\n", command.VisibleText(s.Error))
	}
	if s.Reason == api.BuildStopFailure && s.Live {
		d.say("You are in the step: its files and mounts are as it left them. See: help\n")
	}
}

func (d *debugger) where(_ context.Context, _ string) (bool, error) {
	d.tellStop()
	return false, nil
}

func (d *debugger) help(_ context.Context, _ string) (bool, error) {
	w := tabwriter.NewWriter(d.a.Out, 0, 1, 2, ' ', 0)
	for _, v := range debugVerbs() {
		_, _ = fmt.Fprintf(w, "  %s %s\t%s\n", strings.Join(v.names, ", "), v.args, v.help)
	}
	return false, w.Flush()
}

func goOn(verb string) func(d *debugger, ctx context.Context, args string) (bool, error) {
	return func(d *debugger, ctx context.Context, args string) (bool, error) {
		if args != "" {
			return false, fmt.Errorf("%s takes no arguments", verb)
		}
		_, err := d.command(ctx, api.BuildCommand{Verb: verb})
		return err == nil, err
	}
}

func (d *debugger) retry(ctx context.Context, args string) (bool, error) {
	if args != "" && args != "--clean" {
		return false, fmt.Errorf("retry takes --clean or nothing")
	}
	_, err := d.command(ctx, api.BuildCommand{Verb: api.BuildRetry, Clean: args != ""})
	return err == nil, err
}

func (d *debugger) env(_ context.Context, _ string) (bool, error) {
	w := tabwriter.NewWriter(d.a.Out, 0, 1, 2, ' ', 0)
	user := d.stop.User
	if user == "" {
		user = "root"
	}
	_, _ = fmt.Fprintf(w, "user\t%s\n", command.Visible(user))
	_, _ = fmt.Fprintf(w, "directory\t%s\n", command.Visible(d.stop.Cwd))
	for _, key := range slices.Sorted(maps.Keys(d.stop.Args)) {
		_, _ = fmt.Fprintf(w, "argument\t%s\n", command.Visible(key+"="+d.stop.Args[key]))
	}
	for _, e := range d.stop.Env {
		_, _ = fmt.Fprintf(w, "environment\t%s\n", command.Visible(e))
	}
	for _, m := range d.stop.Mounts {
		_, _ = fmt.Fprintf(w, "mount\t%s (%s, %s)\n", command.Visible(m.Destination), m.Type, map[bool]string{true: "rw", false: "ro"}[m.RW])
	}
	return false, w.Flush()
}

func (d *debugger) files(ctx context.Context, path string) (bool, error) {
	a, err := d.command(ctx, api.BuildCommand{Verb: api.BuildFiles, Path: path})
	if err != nil {
		return false, err
	}
	if a.Files == nil {
		d.showFile(a.Text)
		return false, nil
	}
	return false, d.showFiles(a.Files)
}

func (d *debugger) showFile(text string) {
	d.say("%s", command.VisibleText(text))
	if !strings.HasSuffix(text, "\n") {
		d.say("\n")
	}
}

func (d *debugger) showFiles(files []api.BuildFile) error {
	w := tabwriter.NewWriter(d.a.Out, 0, 1, 2, ' ', 0)
	for _, f := range files {
		link := ""
		if f.Link != "" {
			link = " -> " + f.Link
		}
		_, _ = fmt.Fprintf(w, "%s\t%d:%d\t%s\t%s%s\n", f.Mode, f.UID, f.GID, units.HumanSize(float64(f.Size)), command.Visible(f.Name), command.Visible(link))
	}
	return w.Flush()
}

func (d *debugger) list(ctx context.Context, _ string) (bool, error) {
	a, err := d.command(ctx, api.BuildCommand{Verb: api.BuildText})
	if err != nil {
		return false, err
	}
	for i, line := range strings.Split(strings.TrimRight(a.Text, "\n"), "\n") {
		mark := "  "
		if i+1 >= d.stop.Line && i+1 <= d.stop.End {
			mark = "->"
		} else if slices.Contains(d.breaks, i+1) {
			mark = "* "
		}
		d.say("%s %3d  %s\n", mark, i+1, line)
	}
	return false, nil
}

func (d *debugger) setBreaks(ctx context.Context, args string) (bool, error) {
	lines := slices.Clone(d.breaks)
	for arg := range strings.FieldsSeq(args) {
		n, err := strconv.Atoi(arg)
		if err != nil || n == 0 {
			return false, fmt.Errorf("%q is not the number of a line", arg)
		}
		if lines = slices.DeleteFunc(lines, func(l int) bool { return l == n || l == -n }); n > 0 {
			lines = append(lines, n)
		}
	}
	slices.Sort(lines)
	a, err := d.command(ctx, api.BuildCommand{Verb: api.BuildBreaks, Lines: lines})
	if err != nil {
		return false, err
	}
	d.breaks = lines
	for i, l := range lines {
		if i < len(a.Lines) && a.Lines[i] > 0 {
			d.say("breakpoint at line %d, in the instruction of line %d\n", l, a.Lines[i])
		} else {
			d.say("breakpoint at line %d, where nothing is done\n", l)
		}
	}
	if len(lines) == 0 {
		d.say("no breakpoints\n")
	}
	return false, nil
}

// edit puts another instruction in the place of the present one: what is given,
// or what an editor makes of it.
func (d *debugger) edit(ctx context.Context, text string) (bool, error) {
	if text == "" {
		var err error
		if text, err = d.editor(ctx, d.stop.Instruction); err != nil {
			return false, err
		}
		if strings.TrimSpace(text) == strings.TrimSpace(d.stop.Instruction) {
			d.say("nothing was changed\n")
			return false, nil
		}
	}
	before, err := d.command(ctx, api.BuildCommand{Verb: api.BuildText})
	if err != nil {
		return false, err
	}
	if _, err = d.command(ctx, api.BuildCommand{Verb: api.BuildEdit, Text: text}); err != nil {
		return false, err
	}
	d.edited = withHistory(withInstruction(before.Text, d.stop.Line, d.stop.Instruction, text), before.History, d.stop.Line)
	d.moveBreaks(text)
	return true, nil
}

// moveBreaks moves the breakpoints behind an instruction in whose place text is
// now, as the daemon does with those that it has.
func (d *debugger) moveBreaks(text string) {
	by := strings.Count(strings.TrimSuffix(text, "\n"), "\n") - (d.stop.End - d.stop.Line)
	for i, l := range d.breaks {
		if l > d.stop.End {
			d.breaks[i] = l + by
		}
	}
}

// withInstruction puts an instruction in the place of the one at a line. If that
// does not stand there, the text stays as it is.
func withInstruction(text string, line int, old, instruction string) string {
	lines := strings.SplitAfter(text, "\n")
	n := strings.Count(strings.TrimSuffix(old, "\n"), "\n") + 1
	if line < 1 || line-1+n > len(lines) || strings.TrimSpace(strings.Join(lines[line-1:line-1+n], "")) != strings.TrimSpace(old) {
		return text
	}
	return strings.Join(slices.Concat(lines[:line-1], []string{strings.TrimRight(instruction, "\n") + "\n"}, lines[line-1+n:]), "")
}

// offerEdits asks at the end of a build that has succeeded whether to keep what
// was edited: the session, and what it knows, is over.
func (d *debugger) offerEdits(ctx context.Context) error {
	if d.edited == "" || d.edited == string(d.saved) {
		return nil
	}
	d.say("\nThe build has succeeded with what was edited, which is not in %s:\n", d.file)
	err := d.offer(ctx, d.edited)
	if errors.Is(err, io.EOF) {
		return nil // no answer
	}
	return err
}

// editor lets somebody edit text in the program that the environment names.
func (d *debugger) editor(ctx context.Context, text string) (string, error) {
	program := os.Getenv("VISUAL")
	if program == "" {
		program = os.Getenv("EDITOR")
	}
	if program == "" {
		program = "vi"
	}
	f, err := os.CreateTemp("", "*.Dockerfile")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	words := append(strings.Fields(program), f.Name())
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = d.a.In, d.a.Out, d.a.Err
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w", program, err)
	}
	edited, err := os.ReadFile(f.Name())
	return string(edited), err
}

// save writes the Dockerfile as it is now, with the commands that were run in
// the present step in front of its instruction.
func (d *debugger) save(ctx context.Context, _ string) (bool, error) {
	a, err := d.command(ctx, api.BuildCommand{Verb: api.BuildText})
	if err != nil {
		return false, err
	}
	text := withHistory(a.Text, a.History, d.stop.Line)
	if text == string(d.saved) {
		d.say("%s is as it was: nothing was edited, and nothing was run in this step\n", d.file)
		return false, nil
	}
	return false, d.offer(ctx, text)
}

// offer shows what a new Dockerfile has different, and writes it if that is
// wanted.
func (d *debugger) offer(ctx context.Context, text string) error {
	d.say("%s", lineDiff(string(d.saved), text))
	answer, err := d.ask(ctx, fmt.Sprintf("Write this to %s? [y/N] ", d.file))
	if err != nil || !strings.EqualFold(answer, "y") && !strings.EqualFold(answer, "yes") {
		return err
	}
	now, err := os.ReadFile(d.file)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, d.saved) {
		return fmt.Errorf("%s was changed by somebody else meanwhile", d.file)
	}
	info, err := os.Stat(d.file)
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.file, []byte(text), info.Mode()); err != nil {
		return err
	}
	d.saved, d.edited = []byte(text), ""
	d.say("Written.\n")
	return nil
}

// withHistory puts commands into a Dockerfile, a RUN for each, in front of a
// line.
func withHistory(text string, history []string, line int) string {
	if len(history) == 0 {
		return text
	}
	lines := strings.SplitAfter(text, "\n")
	var runs []string
	for _, command := range history {
		runs = append(runs, "RUN "+strings.ReplaceAll(command, "\n", " \\\n")+"\n")
	}
	return strings.Join(slices.Concat(lines[:min(line-1, len(lines))], runs, lines[min(line-1, len(lines)):]), "")
}

// lineDiff shows what is different between two texts: the lines from the first
// to the last difference, with two lines around. It is empty when nothing is.
func lineDiff(from, to string) string {
	if from == to {
		return ""
	}
	a, b := strings.SplitAfter(from, "\n"), strings.SplitAfter(to, "\n")
	head := 0
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	var out strings.Builder
	show := func(mark string, lines []string) {
		for _, l := range lines {
			if l != "" {
				out.WriteString(mark + strings.TrimSuffix(l, "\n") + "\n")
			}
		}
	}
	show("  ", a[max(0, head-2):head])
	show("- ", a[head:len(a)-tail])
	show("+ ", b[head:len(b)-tail])
	show("  ", a[len(a)-tail:min(len(a), len(a)-tail+2)])
	return out.String()
}

func (d *debugger) shell(ctx context.Context, _ string) (bool, error) {
	if !d.stop.Live {
		d.say("This is a copy of the files before the instruction: what is changed is thrown away.\n")
	}
	height, width := d.a.Size()
	return false, d.exec(ctx, api.BuildExec{TTY: true, Height: uint16(height), Width: uint16(width)})
}

func (d *debugger) runCommand(ctx context.Context, line string) (bool, error) {
	if line == "" {
		return false, errors.New("run wants a command")
	}
	return false, d.exec(ctx, api.BuildExec{Command: []string{"/bin/sh", "-c", line}})
}

// exec runs a process in the step, with the terminal.
func (d *debugger) exec(ctx context.Context, e api.BuildExec) error {
	stream, err := d.c.BuildExec(ctx, d.session, e)
	if err != nil {
		return err
	}
	defer stream.Close()
	stop := make(chan struct{})
	restore := func() {}
	if e.TTY {
		if restore, err = d.a.MakeRaw(); err != nil {
			return err
		}
		defer restore()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		d.a.Follow(ctx, func(ctx context.Context, h, w uint) error { return d.c.BuildResize(ctx, d.session, h, w) }, d.a.Log, func() {})
	}
	typed := make(chan struct{})
	go func() {
		defer close(typed)
		_, _ = io.Copy(stream, d.a.Keyboard(stop)) // ends with the process
		_ = stream.CloseWrite()
	}()
	err = tty.Demux(d.a.Out, d.a.Err, stream)
	close(stop)
	<-typed
	restore()
	if err != nil {
		return err
	}
	end, err := stream.End()
	if err == nil && end != nil && end.ExitCode != 0 {
		d.say("exit code %d\n", end.ExitCode)
	}
	return err
}

// readLine reads a command.
func (d *debugger) readLine(ctx context.Context) (string, error) {
	return d.ask(ctx, fmt.Sprintf("(build %s:%d) ", d.stop.File, d.stop.Line))
}

// ask reads a line that is typed behind a prompt. The end of input is io.EOF.
func (d *debugger) ask(ctx context.Context, prompt string) (string, error) {
	restore, err := d.a.MakeRaw()
	if err != nil {
		return "", err
	}
	defer restore()
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{d.a.Keyboard(ctx.Done()), d.a.Out}, prompt)
	t.History = &d.history
	if _, width := d.a.Size(); width > 0 {
		_ = t.SetSize(int(width), 1)
	}
	line, err := t.ReadLine()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return line, err
}

// promptHistory is what was typed at the prompt, the newest last.
type promptHistory struct{ lines []string }

// Add notes a line, unless it is the same again.
func (h *promptHistory) Add(line string) {
	if line != "" && (len(h.lines) == 0 || h.lines[len(h.lines)-1] != line) {
		h.lines = append(h.lines, line)
	}
}

// Len is the number of lines.
func (h *promptHistory) Len() int { return len(h.lines) }

// At is a line, the newest is 0.
func (h *promptHistory) At(i int) string { return h.lines[len(h.lines)-1-i] }

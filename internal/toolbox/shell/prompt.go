package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/syntax"

	"github.com/portholehq/porthole/internal/toolbox/history"
	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// prompt is the interactive shell: it edits lines on the terminal and gives
// the terminal back while commands run.
func (sh *shell) prompt(in, out *os.File) int {
	sh.runner.Reset()
	input := &terminalInput{Reader: in}
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{input, out}, "")
	sh.typed = remember(history.Path)
	t.History = sh.typed
	e := &editor{sh: sh, t: t, input: input, out: out}
	t.AutoCompleteCallback = e.key
	code := 0
	var text strings.Builder
	for {
		prompt := sh.ps1()
		if text.Len() > 0 {
			prompt = "> "
		}
		e.prompt = prompt
		line, err := readLine(t, in, out, prompt)
		if err != nil {
			if errors.Is(err, io.EOF) {
				fmt.Fprintln(out) // the prompt stands there yet
			} else {
				fmt.Fprintln(out, "sh:", err)
			}
			return sh.finish(code)
		}
		if input.interrupted {
			input.interrupted = false
			text.Reset()
			code = 130
			continue
		}
		text.WriteString(line + "\n")
		file, err := syntax.NewParser().Parse(strings.NewReader(text.String()), "")
		if syntax.IsIncomplete(err) {
			continue
		}
		text.Reset()
		if err != nil {
			fmt.Fprintln(out, "sh:", err)
			code = 2
			continue
		}
		var exited bool
		nameParameters(file)
		if code, exited = sh.interactive(file); exited {
			return code
		}
	}
}

// interactive runs what was typed; ^C ends it.
func (sh *shell) interactive(file *syntax.File) (code int, exited bool) {
	for _, stmt := range file.Stmts {
		ctx, cancel := context.WithCancel(context.Background())
		sh.mu.Lock()
		sh.cancel = cancel
		sh.mu.Unlock()
		sh.tail.Store(replaces(stmt, false))
		code, exited = sh.stmt(ctx, stmt)
		interrupted := ctx.Err() != nil
		cancel()
		if exited || interrupted {
			return code, exited && !interrupted
		}
	}
	return code, false
}

// editor adds to the terminal's editing of lines what that leaves out.
type editor struct {
	sh     *shell
	t      *term.Terminal
	input  *terminalInput
	out    *os.File
	prompt string
}

// key does what a key asks for that the terminal does not know: Tab completes, ^R
// searches.
func (e *editor) key(line string, pos int, key rune) (string, int, bool) {
	width, _, err := term.GetSize(int(e.out.Fd()))
	if err != nil || width < 1 {
		width = 80
	}
	switch key {
	case '\t':
		newLine, newPos, list, ok := e.sh.complete(line, pos)
		if len(list) > 0 {
			// The line is shown again below them.
			_, _ = io.WriteString(e.t, e.prompt+line+"\n"+columns(list, width))
		}
		return newLine, newPos, ok
	case keySearch:
		s := &search{in: e.input.Reader, out: e.out, lines: e.sh.typed, width: width}
		before := utf8.RuneCountInString(e.prompt)
		found, key, ok := s.below(before+utf8.RuneCountInString(line[:pos]), before+utf8.RuneCountInString(line))
		if !ok {
			return line, pos, true
		}
		e.input.queued = append(e.input.queued, key)
		return found, len(found), true
	}
	return "", 0, false
}

// readLine reads one line with the terminal in raw mode.
func readLine(t *term.Terminal, in, out *os.File, prompt string) (string, error) {
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return "", fmt.Errorf("set terminal: %w", err)
	}
	defer func() { _ = term.Restore(int(in.Fd()), old) }()
	if w, h, err := term.GetSize(int(out.Fd())); err == nil && w > 0 {
		_ = t.SetSize(w, h)
	}
	t.SetPrompt(prompt)
	return t.ReadLine()
}

// terminalInput makes ^C the end of an empty line; the line editor would take
// it for the end of the input.
type terminalInput struct {
	io.Reader
	interrupted bool
	queued      []byte
}

func (t *terminalInput) Read(p []byte) (int, error) {
	if len(t.queued) > 0 {
		n := copy(p, t.queued)
		t.queued = t.queued[n:]
		return n, nil
	}
	buf := make([]byte, 1)
	n, err := t.Reader.Read(buf)
	if n == 0 || len(p) == 0 {
		return 0, err
	}
	const interrupt, endOfLine, killLine = 3, 5, 21
	if buf[0] == interrupt {
		t.interrupted = true
		t.queued = []byte{killLine, '\r'}
		buf[0] = endOfLine
	}
	p[0] = buf[0]
	return 1, err
}

// ps1 is the prompt: where, and whether as root.
func (sh *shell) ps1() string {
	dir := sh.runner.Dir
	if home := os.Getenv("HOME"); home != "" && home != "/" {
		if dir == home {
			dir = "~"
		} else if rest, ok := strings.CutPrefix(dir, home+"/"); ok {
			dir = "~/" + rest
		}
	}
	dir = screen.Visible(dir)
	if os.Geteuid() == 0 {
		return dir + " # "
	}
	return dir + " $ "
}

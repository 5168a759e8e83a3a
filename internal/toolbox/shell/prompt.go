package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/syntax"
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
	t.AutoCompleteCallback = sh.complete
	code := 0
	var text strings.Builder
	for {
		prompt := sh.ps1()
		if text.Len() > 0 {
			prompt = "> "
		}
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
	if os.Geteuid() == 0 {
		return dir + " # "
	}
	return dir + " $ "
}

// complete completes the name of a file, or of a command at the beginning of
// a line, as far as it is unambiguous.
func (sh *shell) complete(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' {
		return "", 0, false
	}
	start := strings.LastIndexAny(line[:pos], " \t;|&<>()=") + 1
	word := line[start:pos]
	var found []string
	if strings.TrimSpace(line[:start]) == "" && !strings.Contains(word, "/") {
		found = commandsWith(word)
	} else {
		found = filesWith(sh.runner.Dir, word)
	}
	if len(found) == 0 {
		return "", 0, false
	}
	common := found[0]
	for _, f := range found[1:] {
		for !strings.HasPrefix(f, common) {
			common = common[:len(common)-1]
		}
	}
	if len(found) == 1 && !strings.HasSuffix(common, "/") {
		common += " "
	}
	return line[:start] + common + line[pos:], start + len(common), true
}

func commandsWith(prefix string) []string {
	var found []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), prefix) {
				found = append(found, e.Name())
			}
		}
	}
	return found
}

func filesWith(cwd, word string) []string {
	dir, base := filepath.Split(word)
	look := dir
	if !filepath.IsAbs(look) {
		look = filepath.Join(cwd, look)
	}
	entries, err := os.ReadDir(look)
	if err != nil {
		return nil
	}
	var found []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), base) || base == "" && strings.HasPrefix(e.Name(), ".") {
			continue
		}
		name := dir + e.Name()
		if info, err := os.Stat(filepath.Join(look, e.Name())); err == nil && info.IsDir() {
			name += "/"
		}
		found = append(found, name)
	}
	return found
}

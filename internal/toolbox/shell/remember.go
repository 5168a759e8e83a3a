package shell

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/interp"

	"github.com/portholehq/porthole/internal/toolbox/history"
)

// remembered is what was typed at the prompt, in this session and in earlier ones;
// it is the line editor's history.
type remembered struct {
	list  []string // the oldest first
	saved *history.Client
}

// remember asks for what was typed in earlier sessions, where there is somebody to
// ask.
func remember(path string) *remembered {
	r := &remembered{}
	r.saved, r.list = history.Dial(path)
	return r
}

// Add takes a line that was typed.
func (r *remembered) Add(line string) {
	last := ""
	if len(r.list) > 0 {
		last = r.list[len(r.list)-1]
	}
	if !history.Keep(line, last) {
		return
	}
	r.list = append(r.list, line)
	r.list = r.list[max(0, len(r.list)-history.Most):]
	r.saved.Add(line)
}

// Len is how many lines there are.
func (r *remembered) Len() int { return len(r.list) }

// At is a line; 0 is the latest.
func (r *remembered) At(i int) string { return r.list[len(r.list)-1-i] }

// find is the place, as of At, of the first line from i on that has a text in it;
// -1: none has.
func (r *remembered) find(text string, i int) int {
	for ; text != "" && i < r.Len(); i++ {
		if strings.Contains(r.At(i), text) {
			return i
		}
	}
	return -1
}

// builtin is the command history: all lines, the last ones, or -c to forget them.
func (r *remembered) builtin(out, stderr io.Writer, args []string) error {
	n := r.Len()
	switch {
	case len(args) == 0:
	case args[0] == "-c":
		r.list = nil
		r.saved.Forget()
		return nil
	default:
		var err error
		if n, err = strconv.Atoi(args[0]); err != nil || n < 0 {
			fmt.Fprintf(stderr, "history: invalid option: %s\n", args[0])
			return interp.ExitStatus(2)
		}
	}
	for i := min(n, r.Len()) - 1; i >= 0; i-- {
		fmt.Fprintf(out, "%5d  %s\n", r.Len()-i, r.At(i))
	}
	return nil
}

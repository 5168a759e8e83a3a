package applet

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	mobysignal "github.com/moby/sys/signal"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// topScreen is top on a terminal.
type topScreen struct {
	*top
	s       *screen.Screen
	first   int    // the row at the top of the list
	message string // in place of the blank line
	ask     string // what is being asked for; empty: nothing
	answer  string
	then    func(answer string)
	help    bool
}

var topHelp = []string{
	"", "  P, M, T, N   sort by processor, memory, time, number     R   the other way round",
	"  c            whole command lines, or names                i   without the idle, or with",
	"  d            time between two pictures                    u   processes of one user",
	"  k            send a signal to a process",
	"  up, down, page up, page down, home   move in the list",
	"  space        now                                          q   end", "", "  any key goes back",
}

func (t *top) interactive() error {
	in, isFile := t.std.In.(*os.File)
	out, isFile2 := t.std.Out.(*os.File)
	if !isFile || !isFile2 {
		return errors.New("no terminal here; -b prints without one")
	}
	s, err := screen.Open(in, out)
	if errors.Is(err, screen.ErrNoTerminal) {
		return errors.New("no terminal here; -b prints without one")
	}
	if err != nil {
		return err
	}
	defer s.Close()
	v := &topScreen{top: t, s: s}
	due := time.NewTimer(firstSample)
	defer due.Stop()
	v.draw()
	for t.left != 0 {
		select {
		case e := <-s.Events():
			if e.Ended {
				return nil
			}
			if !e.Resize {
				if !v.key(e.Key, due) {
					return nil
				}
			}
		case <-due.C:
			v.next()
			v.message = ""
			due.Reset(t.wait)
			t.left--
		}
		v.draw()
	}
	return nil
}

// key does what a key asks for; false ends it.
func (v *topScreen) key(k screen.Key, due *time.Timer) bool {
	if v.ask != "" {
		v.edit(k)
		return true
	}
	if v.help {
		v.help = false
		return true
	}
	sorts := map[screen.Key]string{'P': "%CPU", 'M': "%MEM", 'T': "TIME+", 'N': "PID"}
	rows, _ := v.s.Size()
	page := max(1, rows-8)
	switch k {
	case 'q', screen.Ctrl('c'):
		return false
	case ' ', screen.Enter:
		due.Reset(0)
	case 'P', 'M', 'T', 'N':
		v.sortBy, v.first = sorts[k], 0
	case 'R':
		v.reverse = !v.reverse
	case 'c':
		v.argsToo = !v.argsToo
	case 'i':
		v.idleToo = !v.idleToo
	case 'h', '?':
		v.help = true
	case screen.Down, 'j':
		v.first++
	case screen.Up:
		v.first--
	case screen.PageDown:
		v.first += page
	case screen.PageUp:
		v.first -= page
	case screen.Home:
		v.first = 0
	case 'd', 's':
		v.question(fmt.Sprintf("Change delay from %s to ", v.wait), func(answer string) {
			d, err := seconds(answer)
			if err != nil || d < 100*time.Millisecond {
				v.message = "Unacceptable delay"
				return
			}
			v.wait = d
			due.Reset(d)
		})
	case 'u':
		v.question("Which user (blank for all) ", func(answer string) {
			if v.uid = -1; answer == "" {
				return
			}
			var err error
			if v.uid, err = strconv.Atoi(answer); err != nil {
				if v.uid, err = nameID("/etc/passwd", answer); err != nil {
					v.uid, v.message = -1, "Invalid user"
				}
			}
		})
	case 'k':
		v.kill()
	default:
		v.message = "Unknown key; ? tells which there are"
	}
	return true
}

func (v *topScreen) question(text string, then func(string)) {
	v.ask, v.answer, v.then = text, "", then
}

// edit takes a key of an answer.
func (v *topScreen) edit(k screen.Key) {
	switch {
	case k == screen.Enter:
		v.ask = ""
		v.then(strings.TrimSpace(v.answer))
	case k == screen.Escape || k == screen.Ctrl('c'):
		v.ask = ""
	case k == screen.Backspace:
		if r := []rune(v.answer); len(r) > 0 {
			v.answer = string(r[:len(r)-1])
		}
	case k >= ' ' && k < screen.Up && len(v.answer) < 60:
		v.answer += string(rune(k))
	}
}

func (v *topScreen) kill() {
	v.question("PID to signal ", func(answer string) {
		pid, err := strconv.Atoi(answer)
		if err != nil || pid < 1 {
			v.message = "Invalid pid"
			return
		}
		v.question(fmt.Sprintf("Send pid %d signal [15/sigterm] ", pid), func(answer string) {
			if answer == "" {
				answer = "15"
			}
			s, err := mobysignal.ParseSignal(answer)
			if err == nil {
				err = sendSignal(pid, s)
			}
			v.message = fmt.Sprintf("Signal sent to %d", pid)
			if err != nil {
				v.message = fmt.Sprintf("Signal to %d: %v", pid, err)
			}
		})
	})
}

func (v *topScreen) draw() {
	height, width := v.s.Size()
	lines := v.summary()
	cursor := -1
	note := v.message
	if v.ask != "" {
		cursor, note = len(lines), v.ask+screen.Visible(v.answer)
	}
	column := screen.Width(note)
	lines = append(lines, note)
	if v.help {
		lines = append(lines, topHelp...)
	} else {
		rows := v.rows()
		v.first = max(0, min(v.first, len(rows)-1))
		titles := screen.Cut(topTitles+strings.Repeat(" ", max(0, width-len(topTitles))), width)
		lines = append(lines, screen.Reverse+titles)
		for _, r := range rows[min(v.first, len(rows)):] {
			if len(lines) == height {
				break
			}
			text := screen.Cut(v.line(r), width)
			if r.state == "R" {
				text = screen.Bold + text
			}
			lines = append(lines, text)
		}
	}
	for i, l := range lines {
		if !strings.HasPrefix(l, "\x1b") {
			lines[i] = screen.Cut(l, width)
		}
	}
	v.s.Draw(lines[:min(len(lines), height)], cursor, min(column, width-1))
}

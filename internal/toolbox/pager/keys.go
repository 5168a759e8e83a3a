package pager

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

const help = "j k down, up  space b pages  d u halves  g G ends  /x ?x n N search  F follow  -S -N -R -i options  :n :p files  = where  q end"

// key does what a key asks for; false ends.
func (p *pager) key(k screen.Key) bool {
	p.message = ""
	if p.prompt != "" {
		return p.edit(k)
	}
	if p.follow {
		p.follow = k != screen.Ctrl('c') && k != 'q'
		return true
	}
	if k >= '0' && k <= '9' && len(p.number) < 9 {
		p.number += string(rune(k))
		return true
	}
	n, err := strconv.Atoi(p.number)
	given := err == nil
	if !given || n < 1 {
		n = 1
	}
	p.number = ""
	height, width := p.page()
	switch k {
	case 'q', 'Q', screen.Ctrl('c'):
		return false
	case 'j', 'e', screen.Enter, '\n', screen.Down, screen.Ctrl('n'), screen.Ctrl('e'):
		return p.down(n)
	case 'k', 'y', screen.Up, screen.Ctrl('p'), screen.Ctrl('y'):
		p.backwards(n)
	case ' ', 'f', 'z', screen.PageDown, screen.Ctrl('f'), screen.Ctrl('v'):
		return p.down(height * n)
	case 'b', 'w', screen.PageUp, screen.Ctrl('b'):
		p.backwards(height * n)
	case 'd', screen.Ctrl('d'):
		return p.down(max(1, height/2))
	case 'u', screen.Ctrl('u'):
		p.backwards(max(1, height/2))
	case 'g', '<', screen.Home:
		p.toLine(n - 1)
	case 'G', '>', screen.End:
		if given {
			p.toLine(n - 1)
		} else {
			p.last()
		}
	case '%', 'p':
		if given {
			p.toLine(p.src.count() * min(n, 100) / 100)
		}
	case screen.Right:
		p.chop = true
		p.left += width / 2
	case screen.Left:
		p.left = max(0, p.left-width/2)
	case '/', '?', ':', '-':
		p.prompt, p.typed = string(rune(k)), ""
	case 'n':
		p.search(p.backward)
	case 'N':
		p.search(!p.backward)
	case 'F':
		p.last()
		p.follow = true
	case 'r', 'R', screen.Ctrl('l'):
	case '=', screen.Ctrl('g'):
		total := p.src.count()
		p.message = fmt.Sprintf("%s line %d of %d, %d bytes", p.src.title, min(p.top+1, total), total, p.src.scanned)
	case 'h', 'H':
		p.message = help
	case 'Z':
		p.prompt, p.typed = "Z", ""
	default:
		p.s.Bell()
	}
	return true
}

// down moves on, and ends at the end if that is asked for.
func (p *pager) down(n int) bool {
	if p.end() && p.atEnd && p.src.more == nil {
		if p.at+1 == len(p.files) {
			return false
		}
		p.file(p.at + 1)
		return true
	}
	p.forward(n)
	return true
}

// toLine has line i at the top, or what is nearest to it.
func (p *pager) toLine(i int) {
	if !p.src.has(i) {
		p.last()
		return
	}
	p.top, p.sub = max(0, i), 0
}

// edit takes a key of what is typed in the last row.
func (p *pager) edit(k screen.Key) bool {
	switch {
	case p.prompt == "Z":
		p.prompt = ""
		return k != 'Z'
	case p.prompt == "-":
		p.prompt = ""
		p.toggle(k)
	case k == screen.Enter:
		return p.entered()
	case k == screen.Escape, k == screen.Ctrl('c'), k == screen.Backspace && p.typed == "":
		p.prompt = ""
	case k == screen.Backspace:
		r := []rune(p.typed)
		p.typed = string(r[:len(r)-1])
	case k == screen.Ctrl('u'):
		p.typed = ""
	case k >= ' ' && k < screen.Up && len(p.typed) < 1000:
		p.typed += string(rune(k))
	}
	return true
}

// toggle changes an option.
func (p *pager) toggle(k screen.Key) {
	if !strings.ContainsRune("NSRiI", rune(k)) {
		p.message = "There is no such option to change: -N, -S, -R, -i, -I"
		return
	}
	if err := p.set(byte(k)); err != nil {
		p.message = err.Error()
		return
	}
	p.left, p.sub = 0, 0
	p.message = fmt.Sprintf("-%c is changed", rune(k))
}

// entered does what was typed; false ends.
func (p *pager) entered() bool {
	prompt, typed := p.prompt, p.typed
	p.prompt = ""
	if prompt == ":" {
		switch typed {
		case "q", "Q":
			return false
		case "n":
			p.file(p.at + 1)
		case "p":
			p.file(p.at - 1)
		default:
			p.message = "There is no such command: :" + typed
		}
		return true
	}
	p.backward = prompt == "?"
	if typed != "" {
		fold := p.foldAll || p.foldLower && strings.ToLower(typed) == typed
		text := typed
		if fold {
			text = "(?i)" + text
		}
		re, err := regexp.Compile(text)
		if err != nil {
			re = regexp.MustCompile(regexp.QuoteMeta(typed))
			if fold {
				re = regexp.MustCompile("(?i)" + regexp.QuoteMeta(typed))
			}
		}
		p.pattern = re
	}
	p.search(p.backward)
	return true
}

func (p *pager) file(i int) {
	if i < 0 || i >= len(p.files) {
		p.message = "No previous file"
		if i > 0 {
			p.message = "No next file"
		}
		return
	}
	if err := p.open(i); err != nil {
		p.message = err.Error()
	}
}

// search goes to the next line that matches.
func (p *pager) search(backward bool) {
	if p.pattern == nil {
		p.message = "No previous regular expression"
		return
	}
	step := 1
	if backward {
		step = -1
	}
	first := p.top + step
	if p.first != "" && p.top == 0 && !backward {
		first = 0 // asked for by the command line
	}
	p.first = ""
	for i := first; i >= 0 && p.src.has(i); i += step {
		_, plain, _ := glyphs(p.src.line(i), p.colors)
		if p.pattern.MatchString(plain) {
			p.top, p.sub = i, 0
			return
		}
	}
	p.message = "Pattern not found"
}

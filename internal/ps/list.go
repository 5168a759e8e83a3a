package ps

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/portholehq/porthole/internal/linux/procfile"
)

// List reads processes and shows them. Those that have ended meanwhile are left out. The order is by pid unless the
// options say otherwise.
func (f *Format) List(s Source, pids []int) (titles []string, rows [][]string, err error) {
	if s.Proc == "" {
		s.Proc = "/proc"
	}
	if s.Now.IsZero() {
		s.Now = time.Now()
	}
	if s.Boot.IsZero() {
		if s.Boot, err = bootTime(s.Proc); err != nil {
			return nil, nil, err
		}
	}
	list, err := f.read(s.Proc, pids)
	if err != nil {
		return nil, nil, err
	}
	list = slices.DeleteFunc(list, func(p *process) bool {
		return !f.selects(p, &s) || f.running && p.state != 'R' && p.state != 'D'
	})
	f.order(list, &s)
	for _, c := range f.columns {
		titles = append(titles, c.title)
	}
	rows = make([][]string, 0, len(list))
	for _, p := range list {
		rows = append(rows, f.row(p, &s))
	}
	return titles, rows, nil
}

func (f *Format) row(p *process, s *Source) []string {
	row := make([]string, len(f.columns))
	for i, c := range f.columns {
		row[i] = c.text(p, s)
		if f.forest != flat && (strings.HasPrefix(c.title, "CMD") || strings.HasPrefix(c.title, "COMMAND")) {
			row[i] = f.branch(p) + row[i]
		}
		if command := strings.HasPrefix(c.title, "CMD") || c.title == "COMMAND"; command && f.shortNames {
			row[i] = f.branch(p) + p.name()
		} else if command && f.environment {
			row[i] += p.environ()
		}
	}
	return row
}

// branch shows the depth of a process below the first one.
func (f *Format) branch(p *process) string {
	if p.depth == 0 {
		return ""
	}
	if f.forest == indent {
		return strings.Repeat("  ", p.depth)
	}
	return p.stem + ` \_ `
}

// A list takes so much memory for command lines and environments. However many processes and threads there are, each has
// at least a little of it.
const (
	textMost  = 16 << 20
	textLeast = 1 << 10
)

func (f *Format) read(proc string, pids []int) ([]*process, error) {
	room := textMost
	one := func(dir string, pid int) (*process, error) {
		p, err := readProcess(dir, pid, min(max(room, textLeast), procfile.Longest))
		if err != nil {
			return nil, err
		}
		room -= len(p.argv)
		if f.environment {
			room -= p.most
		}
		return p, nil
	}
	var list []*process
	for _, pid := range pids {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		p, err := one(dir, pid)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !f.threads {
			list = append(list, p)
			continue
		}
		threads, err := readThreads(dir, p, one)
		if err != nil {
			return nil, err
		}
		list = append(list, threads...)
	}
	return list, nil
}

func readThreads(dir string, leader *process, one func(dir string, pid int) (*process, error)) ([]*process, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "task"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return []*process{leader}, nil // it has just ended
	}
	if err != nil {
		return nil, fmt.Errorf("list threads of process %d: %w", leader.pid, err)
	}
	var list []*process
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		t, err := one(filepath.Join(dir, "task", e.Name()), tid)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		t.pid = leader.pid
		list = append(list, t)
	}
	return list, nil
}

// order sorts by pid, by the keys asked for, or as a tree.
func (f *Format) order(list []*process, s *Source) {
	slices.SortFunc(list, func(a, b *process) int {
		return cmp.Or(f.compare(a, b, s), cmp.Compare(a.pid, b.pid), cmp.Compare(a.tid, b.tid))
	})
	if f.forest == flat {
		return
	}
	copy(list, asTree(list))
}

func (f *Format) compare(a, b *process, s *Source) int {
	for _, k := range f.sort {
		n := 0
		if k.number != nil {
			n = cmp.Compare(k.number(a, s), k.number(b, s))
		} else {
			n = cmp.Compare(k.text(a, s), k.text(b, s))
		}
		if k.descending {
			n = -n
		}
		if n != 0 {
			return n
		}
	}
	return 0
}

// asTree puts children behind their parents and sets their depth. A process whose parent is not in the list is a root.
func asTree(list []*process) []*process {
	out := make([]*process, 0, len(list))
	pid, parent := func(p *process) int { return p.pid }, func(p *process) int { return p.ppid }
	descend(list, pid, parent, func(p *process, lasts []bool) {
		p.depth, p.stem = len(lasts), lines(lasts[:max(0, len(lasts)-1)], " |  ", "    ")
		out = append(out, p)
	})
	return out
}

package tty

import (
	"os"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func openTerminal(t *testing.T) (*Terminal, func() unix.Termios) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = master.Close(), slave.Close() })
	if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	return New(slave, slave, slave), func() unix.Termios {
		modes, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return *modes
	}
}

func TestRawModeIsUndone(t *testing.T) {
	for name, undo := range map[string]func(term *Terminal, restore func()){
		"by its function":       func(_ *Terminal, restore func()) { restore() },
		"twice":                 func(term *Terminal, restore func()) { restore(); restore(); term.Restore() },
		"on the way out":        func(term *Terminal, _ func()) { term.Restore() },
		"on the way of a panic": func(term *Terminal, _ func()) { panicAndRestore(term) },
	} {
		t.Run(name, func(t *testing.T) {
			term, modes := openTerminal(t)
			before := modes()
			restore, err := term.MakeRaw()
			if err != nil {
				t.Fatal(err)
			}
			if m := modes(); m.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
				t.Errorf("local modes = %#x in raw mode", m.Lflag)
			}
			undo(term, restore)
			if diff := cmp.Diff(before, modes()); diff != "" {
				t.Errorf("modes (-before +after):\n%s", diff)
			}
		})
	}
}

func panicAndRestore(term *Terminal) {
	defer func() { _ = recover() }()
	defer term.Restore()
	panic("bug")
}

func TestTerminalFacts(t *testing.T) {
	term, _ := openTerminal(t)
	if h, w := term.Size(); h != 24 || w != 80 {
		t.Errorf("size = %d, %d", h, w)
	}
	if !term.InIsTerminal() || !term.OutIsTerminal() || term.Width(1) != 80 {
		t.Error("terminal not recognised")
	}
	if err := term.Check(true, true); err != nil {
		t.Errorf("terminal refused: %v", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	plain := New(null, null, null)
	if h, w := plain.Size(); h != 0 || w != 0 || plain.Width(7) != 7 {
		t.Errorf("size without terminal = %d, %d", h, w)
	}
	for _, c := range []struct{ attach, tty, ok bool }{{true, true, false}, {true, false, true}, {false, true, true}} {
		if err := plain.Check(c.attach, c.tty); (err == nil) != c.ok {
			t.Errorf("Check(%v, %v) = %v", c.attach, c.tty, err)
		}
	}
	restore, err := plain.MakeRaw()
	if err != nil {
		t.Errorf("raw mode without terminal: %v", err)
	}
	restore()
}

func TestCheckDetachKeys(t *testing.T) {
	for keys, ok := range map[string]bool{"": true, "ctrl-p,ctrl-q": true, "a": true, "ctrl-@": true, "ctrl-x,y": true, "foo": false, "ctrl-": false, "a,,": false} {
		if err := CheckDetachKeys(keys); (err == nil) != ok {
			t.Errorf("CheckDetachKeys(%q) = %v, want ok %v", keys, err, ok)
		}
	}
}

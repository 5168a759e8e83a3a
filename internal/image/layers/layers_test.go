package layers

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
)

// stack makes layers, the lowest first, out of lines: "path content", "path/" a
// directory, "path -> target", "path !" a whiteout, "path/ !" an opaque directory,
// "path mode 0600" a change of mode.
func stack(t *testing.T, layers ...string) Stack {
	t.Helper()
	var dirs []string
	for _, text := range layers {
		root := t.TempDir()
		dirs = append(dirs, root)
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				put(t, root, line)
			}
		}
	}
	s, err := Open(dirs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func put(t *testing.T, root, line string) {
	t.Helper()
	name, rest, _ := strings.Cut(line, " ")
	at := filepath.Join(root, name)
	target, isLink := strings.CutPrefix(rest, "-> ")
	of, isHardLink := strings.CutPrefix(rest, "= ")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Dir(at), 0o755))
	switch {
	case isLink:
		must(os.Symlink(target, at))
	case isHardLink:
		must(os.Link(filepath.Join(root, of), at))
	case strings.HasSuffix(name, "/"):
		must(os.MkdirAll(at, 0o755))
		if rest == "!" {
			must(unix.Setxattr(at, "trusted.overlay.opaque", []byte("y"), 0))
		}
	case rest == "!":
		must(unix.Mknod(at, unix.S_IFCHR, 0))
	default:
		must(os.WriteFile(at, []byte(rest), 0o644))
		old := time.Unix(1e9, 0)
		must(os.Chtimes(at, old, old))
		if strings.HasPrefix(rest, "secret") {
			must(os.Chmod(at, 0o600))
		}
	}
}

func TestMeasure(t *testing.T) {
	testenv.NeedsRoot(t) // for whiteouts
	s := stack(t, `
		a 1234567890
		b 12345
		b2 = b
		dir/x 123
		dir/y 1234
		gone/z 123456
		gone/deep/z 1234567
		file 12
		other/q 1
	`, `
		a 1
		dir/x !
		gone/ !
		gone/new 1
		file/ 
		file/in 123
		other !
	`, `
		dir/x 12
		file/in 1234
	`)
	each, worst, err := s.Measure(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	want := []Usage{
		{Files: 9, Bytes: 10 + 5 + 3 + 4 + 6 + 7 + 2 + 1, HiddenFiles: 6, HiddenBytes: 10 + 3 + 6 + 7 + 2 + 1},
		{Files: 3, Bytes: 1 + 1 + 3, HiddenFiles: 1, HiddenBytes: 3},
		{Files: 2, Bytes: 2 + 4},
	}
	if d := cmp.Diff(want, each); d != "" {
		t.Error("usage (-want +got)\n" + d)
	}
	wantWorst := []Hidden{
		{Path: "/a", Layer: 0, By: 1, Bytes: 10},
		{Path: "/gone/deep/z", Layer: 0, By: 1, Bytes: 7, Removed: true},
		{Path: "/gone/z", Layer: 0, By: 1, Bytes: 6, Removed: true},
	}
	if d := cmp.Diff(wantWorst, worst); d != "" {
		t.Error("worst (-want +got)\n" + d)
	}
}

func TestBlame(t *testing.T) {
	testenv.NeedsRoot(t) // for whiteouts
	s := stack(t, `
		etc/conf one
		etc/mode one
		etc/same one
		bin -> usr/bin
		usr/bin/sh -> busybox
		dir/x 1
		loop -> loop
		swap 1
	`, `
		etc/conf two
		etc/mode secret
		etc/same one
		dir !
		swap/ 
		swap/in 1
	`, `
		etc/conf !
		dir/x 2
		usr/bin/sh -> dash
		swap/ !
	`, `
		etc/conf three
	`)
	for _, c := range []struct{ path, real, want string }{
		{"/etc/conf", "/etc/conf", "3 added; 2 removed /etc/conf; 1 changed content; 0 added"},
		{"etc/mode", "/etc/mode", "1 changed content, mode 0644 to 0600; 0 added"},
		{"/etc/same", "/etc/same", "1 touched; 0 added"},
		{"/bin/sh", "/usr/bin/sh", "2 changed target; 0 added"},
		{"/bin", "/bin", "0 added"},
		{"/bin/../etc/./conf", "/etc/conf", "3 added; 2 removed /etc/conf; 1 changed content; 0 added"},
		{"/dir/x", "/dir/x", "2 added; 1 removed /dir; 0 added"},
		{"/dir", "/dir", "2 added; 1 removed /dir; 0 added"},
		{"/swap", "/swap", "2 touched; 1 changed type; 0 added"},
		{"/swap/in", "/swap/in", "2 removed /swap; 1 added"},
		{"/etc", "/etc", "3 touched; 2 touched; 1 touched; 0 added"},
		{"/nothing", "/nothing", ""},
		{"/etc/conf/below", "/etc/conf/below", ""},
		{"/../../etc/same", "/etc/same", "1 touched; 0 added"},
	} {
		real, touches, err := s.Blame(c.path)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		var got []string
		for _, touch := range touches {
			line := string(rune('0'+touch.Layer)) + " " + string(touch.Action)
			if len(touch.What) > 0 {
				line += " " + strings.Join(touch.What, ", ")
			}
			got = append(got, line)
		}
		if real != c.real || strings.Join(got, "; ") != c.want {
			t.Errorf("%s: %s: %s, want %s: %s", c.path, real, strings.Join(got, "; "), c.real, c.want)
		}
	}
	if _, _, err := s.Blame("/loop/x"); !errors.Is(err, errTooManyLinks) {
		t.Errorf("loop: %v", err)
	}
}

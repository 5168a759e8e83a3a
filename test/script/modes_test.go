package script

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

// modeRow is a row of the table in docs/security.md.
type modeRow struct {
	pattern, mode, owner string
}

// matches tells whether a path, as the table writes them, is one of the row's. In a pattern ** at the end is the
// directory and all below it.
func (r modeRow) matches(name string) bool {
	pattern := r.pattern
	if above, ok := strings.CutSuffix(pattern, "/**"); ok {
		pattern = above
		if n, depth := strings.Split(name, "/"), strings.Count(above, "/")+1; len(n) > depth {
			name = strings.Join(n[:depth], "/")
		}
	}
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

// wrong tells what about a file is not as the row says.
func (r modeRow) wrong(info fs.FileInfo, group uint32) string {
	st := info.Sys().(*syscall.Stat_t)
	mode := fmt.Sprintf("%04o", st.Mode&0o7777)
	if info.Mode()&fs.ModeSymlink != 0 {
		mode = "link"
	}
	if r.mode != "any" && r.mode != mode {
		return fmt.Sprintf("mode %s, want %s", mode, r.mode)
	}
	// Ranges of containers begin far above the ids that a machine has otherwise.
	const lowest = 1 << 24
	root, container := st.Uid == 0 && st.Gid == 0, st.Uid >= lowest && st.Gid == st.Uid
	switch {
	case r.owner == "any", r.owner == "root" && root, r.owner == "container" && (root || container):
		return ""
	case r.owner == "group" && st.Uid == 0 && st.Gid == group:
		return ""
	}
	return fmt.Sprintf("owner %d:%d, want %s", st.Uid, st.Gid, r.owner)
}

// modeTable reads the table in docs/security.md. Rows with fewer stars stand before others, and longer ones before shorter.
func modeTable(t *testing.T) []modeRow {
	t.Helper()
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []modeRow
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			continue
		}
		name := strings.Trim(cells[1], " `")
		if strings.HasPrefix(name, "DATA") || strings.HasPrefix(name, "EXEC") {
			rows = append(rows, modeRow{name, strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])})
		}
	}
	slices.SortStableFunc(rows, func(a, b modeRow) int {
		return cmp.Or(strings.Count(a.pattern, "*")-strings.Count(b.pattern, "*"), len(b.pattern)-len(a.pattern))
	})
	return rows
}

// TestModes: what is below the data root and the exec root is for those whom docs/security.md names, and there is nothing
// that it does not name.
func TestModes(t *testing.T) {
	testenv.NeedsRoot(t)
	const group = 54321
	dir := workDir(t)
	exec := filepath.Join(dir, "exec")
	d := startDaemonIn(t, dir, "--group", fmt.Sprint(group), "--pidfile", exec+"/portholed.pid", "--host", "unix://"+exec+"/porthole.sock")
	roots := map[string]string{"DATA": d.DataRoot(), "EXEC": d.ExecRoot()}
	rows := modeTable(t)
	seen := make(map[modeRow]bool)
	d.workingDay(dir)
	compare := func(when string) {
		t.Helper()
		var bad []string
		defer func() {
			if len(bad) > 0 {
				t.Error(strings.Join(bad, "\n"))
			}
		}()
		// What is being written has other names for a moment.
		d.until("all is as docs/security.md says, "+when, func() bool {
			bad = nil
			for name, root := range roots {
				bad = append(bad, unexpected(t, name, root, rows, seen, group)...)
			}
			return len(bad) == 0
		})
	}
	compare("after a working day")

	// What only other tests bring about, or what is there for a moment.
	rare := []string{
		"DATA/cores/*", "DATA/history", "DATA/history/*", "DATA/images/content/ingest/**", "DATA/images/layers/trash/**", "DATA/removed/*", "DATA/trash/**", "EXEC/porthole-cores.sock",
	}
	for _, r := range rows {
		if !seen[r] && !slices.Contains(rare, r.pattern) {
			t.Errorf("docs/security.md has %s, which is not there", r.pattern)
		}
	}

	// As older daemons left them.
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{d.DataRoot(), d.DataRoot() + "/containers", d.DataRoot() + "/volumes", d.ExecRoot()} {
		if err := errors.Join(os.Chmod(name, 0o711), os.Chown(name, 0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	testenv.InNetNS(t, d.net, d.Start)
	compare("after an upgrade")
}

// workingDay makes some of everything. What is compared goes on: files of what has ended are removed at some time.
func (d *ownDaemon) workingDay(dir string) {
	d.t.Helper()
	src := filepath.Join(dir, "context")
	dockerfile := "FROM busybox\nCOPY Dockerfile /f\nRUN --mount=type=cache,target=/c cat /f | tee /c/f\nUSER 1000\nRUN cat /f\n"
	if err := errors.Join(os.Mkdir(src, 0o700), os.WriteFile(filepath.Join(src, "Dockerfile"), []byte(dockerfile), 0o644)); err != nil {
		d.t.Fatal(err)
	}
	for _, args := range [][]string{
		{"load", "-q", "-i", filepath.Join(bed.ImageDir(), "busybox_latest.tar")},
		{"network", "create", "lan"},
		{"run", "-d", "--name", "web", "--network", "lan", "-p", "80", "-v", "data:/data", "-v", "/anonymous", "busybox", "sleep", "1000"},
		{"run", "-d", "--name", "user", "--userns", "host", "--user", "1000", "-v", "data:/data", "busybox", "sh", "-c", "cat /etc/hosts; sleep 1000"},
		{"exec", "web", "sh", "-c", "cp /bin/busybox /data/id; chmod 6755 /data/id; chown 1000 /data/id"},
		{"debug", "web", "--", "true"},
		{"run", "--name", "ended", "busybox", "true"},
		{"run", "--rm", "busybox", "true"},
		{"commit", "ended", "committed"},
		{"build", "-q", "-t", "built", src},
		{"run", "-d", "--name", "built", "--user", "1000", "built", "sh", "-c", "cat /f; sleep 1000"},
		{"restart", "-t", "0", "built"},
		{"cp", "web:/etc/hosts", filepath.Join(dir, "hosts")},
	} {
		d.porthole(args...)
	}
}

// unexpected compares all below a root with the rows, and marks those in seen that it has met.
func unexpected(t *testing.T, name, root string, rows []modeRow, seen map[modeRow]bool, group uint32) (bad []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		shown := name + strings.TrimPrefix(file, root)
		i := slices.IndexFunc(rows, func(r modeRow) bool { return r.matches(shown) })
		if i < 0 {
			bad = append(bad, fmt.Sprintf("%s (%v) is in no row of docs/security.md", shown, info.Mode()))
			return nil
		}
		seen[rows[i]] = true
		if text := rows[i].wrong(info, group); text != "" {
			bad = append(bad, fmt.Sprintf("%s: %s", shown, text))
		}
		if e.IsDir() && rows[i].mode == "any" && rows[i].owner == "any" {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bad
}

package hostile

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/portholehq/porthole/internal/testenv"
)

// as runs the attacker on the host, in the user namespace of a container and as its root: it sees the host's processes
// and files, which no process in the container does. dir is its descriptor 3.
func as(t *testing.T, container string, dir *os.File, args ...string) string {
	t.Helper()
	nsenter := testenv.NeedsProgram(t, "nsenter")
	cmd := exec.CommandContext(t.Context(), nsenter, append([]string{"--user", "--target", container, "--setuid", "0", "--setgid", "0", "--", filepath.Join(attackDir, "attack")}, args...)...)
	if dir != nil {
		cmd.ExtraFiles = []*os.File{dir}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestNeighbour: root of one container is nobody to another, even if he has got out of all namespaces but the user's.
// The control is root of the container itself.
func TestNeighbour(t *testing.T) {
	begin(t)
	victim := start(t, "victim", "busybox", "sh", "-c", "umask 077; echo secret >/secret; sleep 1000")
	thief := start(t, "thief", "busybox", "sleep", "1000")
	var top *os.File
	found, err := filepath.Glob(filepath.Join(daemon.DataRoot(), "images", "layers", "rootfs", "*", "fs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		if _, err := os.Stat(filepath.Join(name, "secret")); err == nil {
			if top, err = os.Open(name); err != nil {
				t.Fatal(err)
			}
			defer top.Close()
		}
	}
	if top == nil {
		t.Fatalf("the victim's file is in none of %q", found)
	}
	own := lines(t, as(t, victim, top, "neighbour", victim, "secret"))
	others := lines(t, as(t, thief, top, "neighbour", victim, "secret"))
	if len(others) < 12 {
		t.Fatalf("the attacker tried little: %v", others)
	}
	for what, got := range others {
		attack(t, what, func(t *testing.T) {
			if got != "EPERM" && got != "EACCES" && !strings.HasSuffix(got, "permission denied") {
				t.Errorf("root of another container: %s", got)
			}
		})
	}
	// To be one's own root is enough for a process; files on the disk are nobody's but the host's.
	for what, want := range map[string]string{
		"signal": "done", "open environ": "done", "link root": "done", "files through /proc": "done", "trace": "done",
		"enter its mounts": "EINVAL", // it may, but not with several threads
	} {
		if own[what] != want {
			t.Errorf("control: its own root: %s: %s, want %s", what, own[what], want)
		}
	}
	attack(t, "file on the disk by its own root", func(t *testing.T) {
		if got := own["file on the disk"]; got != "EACCES" {
			t.Errorf("%s, want EACCES", got)
		}
	})
}

// TestRanges: no two containers have a user of the host in common, nor one with the host's own users.
func TestRanges(t *testing.T) {
	begin(t)
	type span struct {
		name       string
		first, end uint64
	}
	spans := []span{{"the host", 0, 1 << 16}}
	for i := range 5 {
		name := fmt.Sprintf("ranged%d", i)
		pid := start(t, name, "busybox", "sleep", "1000")
		for _, kind := range []string{"uid_map", "gid_map"} {
			text, err := os.ReadFile("/proc/" + pid + "/" + kind)
			if err != nil {
				t.Fatal(err)
			}
			var inside, host, size uint64
			if _, err := fmt.Sscan(string(text), &inside, &host, &size); err != nil || len(strings.Split(strings.TrimSpace(string(text)), "\n")) != 1 {
				t.Fatalf("%s of %s: %q, %v", kind, name, text, err)
			}
			if kind == "uid_map" {
				spans = append(spans, span{name, host, host + size})
			}
		}
	}
	attack(t, "shared users", func(t *testing.T) {
		for i, a := range spans {
			for _, b := range spans[:i] {
				if a.first < b.end && b.first < a.end {
					t.Errorf("%+v and %+v overlap", a, b)
				}
			}
		}
	})
}

// hostUser runs the attacker, or another program, as a user of the host who is in no group of ours.
func hostUser(t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestUserOfTheHost is CVE-2021-41091: a program that a container marks set-user-ID lies on the disk as root's, and a user
// of the host who gets at it is root.
func TestUserOfTheHost(t *testing.T) {
	begin(t)
	porthole(t, run("--name", "maker", "-v", "hostile:/v", "busybox", "sh", "-c", "for d in /v /tmp; do cp /attack/attack $d/id; chmod 4755 $d/id; done")...)
	marked := map[string]string{}
	for where, pattern := range map[string]string{"volume": "volumes/hostile/_data/id", "root filesystem": "images/layers/rootfs/*/fs/tmp/id"} {
		found, err := filepath.Glob(filepath.Join(daemon.DataRoot(), pattern))
		if err != nil || len(found) != 1 {
			t.Fatalf("the program in the %s: %q, %v", where, found, err)
		}
		st, err := os.Stat(found[0])
		if err != nil || st.Mode()&os.ModeSetuid == 0 {
			t.Fatalf("%s: %v, %v: it could do no harm", found[0], st.Mode(), err)
		}
		marked[where] = found[0]
	}
	for where, name := range marked {
		attack(t, "execute from a "+where, func(t *testing.T) {
			out, err := hostUser(t, name, "user")
			if !os.IsPermission(err) {
				t.Errorf("%q, %v; want it denied", out, err)
			}
		})
	}
	// The program itself does what it should where it can be reached.
	open := filepath.Join(daemon.Dir, "id")
	t.Cleanup(func() { _ = os.Remove(open) }) // it is root for everybody
	if out, err := exec.CommandContext(t.Context(), "cp", "--preserve=mode,ownership", marked["volume"], open).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := hostUser(t, open, "user"); err != nil || strings.TrimSpace(out) != "0" {
		t.Errorf("control: where everybody gets, it says %q, %v", out, err)
	}
}

// TestSockets: nobody but root, and who is in the group, gets at a socket of the engine. Root of a container is such a
// nobody, on the host as well.
func TestSockets(t *testing.T) {
	begin(t)
	porthole(t, "run", "-d", "--name", "box", "-p", "127.0.0.1::80", "busybox", "sleep", "1000")
	pid := porthole(t, "inspect", "-f", "{{.State.Pid}}", "box")
	var paths []string
	err := filepath.WalkDir(daemon.Dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type() == fs.ModeSocket {
			paths = append(paths, path)
		}
		return nil // what goes meanwhile is no socket
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < 3 {
		t.Fatalf("sockets %q: want those of the API, of the shim and of the keeper", paths)
	}
	args := append([]string{"connect"}, paths...)
	for who, out := range map[string]string{
		"a user of the host": func() string {
			out, err := hostUser(t, filepath.Join(attackDir, "attack"), args...)
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return out
		}(),
		"root of a container": as(t, pid, nil, args...),
	} {
		for path, got := range lines(t, out) {
			attack(t, who+"/"+filepath.Base(path), func(t *testing.T) {
				if got != "EACCES" {
					t.Errorf("%s: %s, want EACCES", path, got)
				}
			})
		}
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(attackDir, "attack"), "connect", daemon.Socket).CombinedOutput()
	if err != nil || !strings.Contains(string(out), ": done") {
		t.Errorf("control: root of the host: %q, %v", out, err)
	}
}

package script

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

// engine is a daemon that docker's command line speaks to.
type engine struct{ docker, host string }

func (e engine) run(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // clean-up comes after its end
	cmd := exec.CommandContext(ctx, e.docker, append([]string{"-H", e.host}, args...)...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("docker %q: %v\n%s", args, err, said.Bytes())
	}
	return out.Bytes()
}

// startDockerd starts a Docker daemon in a network of its own, which ends with the test.
func startDockerd(t *testing.T, docker string) engine {
	t.Helper()
	dockerd := testenv.NeedsProgram(t, "dockerd")
	testenv.NeedsProgram(t, "containerd")
	dir, err := os.MkdirTemp(bed.WorkRoot(), "archive-docker-") //nolint:usetesting // may be on a tmpfs, where Docker has no overlay
	if err != nil {
		t.Fatal(err)
	}
	e := engine{docker, "unix://" + filepath.Join(dir, "s")}
	cmd := exec.Command(dockerd, "-H", e.host, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--iptables=false", "--bridge=none", "--cgroup-parent", "/"+filepath.Base(dir))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	testenv.InNetNS(t, testenv.NetNS(t), cmd.Start)
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove daemon's directory: %v", err)
		}
		groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(dir))
		for _, g := range append(groups, "/sys/fs/cgroup/"+filepath.Base(dir)) {
			_ = os.Remove(g)
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if exec.CommandContext(t.Context(), docker, "-H", e.host, "version").Run() == nil {
			return e
		}
		if time.Now().After(deadline) {
			t.Fatalf("dockerd does not start:\n%s", log.Bytes())
		}
	}
}

// twoEngines starts a Docker daemon beside ours, and packs an image of one layer for both.
func twoEngines(t *testing.T) (theirs, ours engine, flat []byte) {
	t.Helper()
	testenv.NeedsRoot(t)
	docker := testenv.NeedsProgram(t, "docker")
	theirs, ours = startDockerd(t, docker), engine{docker, daemon.Host()}
	if err := loadImage(t.Context(), "busybox"); err != nil {
		t.Fatal(err)
	}
	ours.run(t, nil, "create", "--name", "flat", "busybox")
	flat = ours.run(t, nil, "export", "flat")
	ours.run(t, nil, "rm", "flat")
	return theirs, ours, flat
}

// entries describes an archive, sorted by name. Docker adds names of users, which depend on the host, and leaves out
// set-user-ID bits in some versions.
func entries(t *testing.T, archive []byte) []string {
	t.Helper()
	var list []string
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if hostFile(h.Name) {
			continue
		}
		line := fmt.Sprintf("%s %c %o %d:%d %d %s", h.Name, h.Typeflag, h.Mode&0o777, h.Uid, h.Gid, h.Size, h.Linkname)
		if h.Typeflag == tar.TypeReg {
			line += " " + h.ModTime.UTC().Format(time.DateTime)
		}
		list = append(list, line)
	}
	slices.Sort(list)
	return list
}

// hostFile tells about what an engine puts into every container.
func hostFile(name string) bool {
	name = strings.Trim(name, "/")
	top, _, _ := strings.Cut(name, "/")
	return slices.Contains([]string{"dev", "proc", "sys", ".dockerenv", "place"}, top) ||
		slices.Contains([]string{"etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"}, name)
}

// TestArchivesLikeDocker does the same with both engines and compares the archives and the changes that come of it.
func TestArchivesLikeDocker(t *testing.T) {
	theirs, ours, flat := twoEngines(t)
	t.Cleanup(func() {
		ours.run(t, nil, "rm", "-f", "box")
		ours.run(t, nil, "rmi", "-f", "flat:v1", "made:v1")
	})
	old := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	in := packed(t,
		tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 5, Gid: 6, ModTime: old},
		tar.Header{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o640, Uid: 1000, Gid: 1001, ModTime: old},
		tar.Header{Name: "d/link", Typeflag: tar.TypeSymlink, Linkname: "f", ModTime: old},
		tar.Header{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "d/f", Mode: 0o640, Uid: 1000, Gid: 1001, ModTime: old},
		tar.Header{Name: "d/pipe", Typeflag: tar.TypeFifo, Mode: 0o600, ModTime: old},
	)
	steps := `rm /bin/awk; rm -r /home; mkdir /new; echo x >/new/f; touch -d '2020-01-01 00:00:00' /new/f; chmod 700 /var; chown 7:8 /etc/passwd; ln -s /etc /lnk; rm -r /root`
	type seen struct {
		Changes, Dir, Contents, Link, Export, Committed []string
	}
	look := func(e engine) (s seen) {
		e.run(t, flat, "import", "-c", `CMD ["sleep", "1000"]`, "-", "flat:v1")
		e.run(t, nil, "run", "-d", "--network", "none", "--name", "box", "-v", "/place", "flat:v1")
		e.run(t, in, "cp", "-", "box:/tmp")
		e.run(t, nil, "exec", "box", "sh", "-c", steps)
		for line := range strings.Lines(string(e.run(t, nil, "diff", "box"))) {
			if _, path, _ := strings.Cut(strings.TrimSpace(line), " "); !hostFile(path) {
				s.Changes = append(s.Changes, line)
			}
		}
		slices.Sort(s.Changes)
		s.Dir = entries(t, e.run(t, nil, "cp", "box:/tmp/d", "-"))
		s.Contents = entries(t, e.run(t, nil, "cp", "box:/tmp/d/.", "-"))
		s.Link = entries(t, e.run(t, nil, "cp", "box:/lnk", "-"))
		s.Export = entries(t, e.run(t, nil, "export", "box"))
		e.run(t, nil, "commit", "box", "made:v1")
		e.run(t, nil, "rm", "-f", "-v", "box")
		e.run(t, nil, "create", "--name", "box", "made:v1")
		s.Committed = entries(t, e.run(t, nil, "export", "box"))
		return s
	}
	if diff := cmp.Diff(look(theirs), look(ours)); diff != "" {
		t.Errorf("differs (-docker +porthole):\n%s", diff)
	}
}

// packed makes an archive in which files have their name as content.
func packed(t *testing.T, heads ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range heads {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		err := w.WriteHeader(&h)
		if err == nil && h.Size > 0 {
			_, err = io.WriteString(w, h.Name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

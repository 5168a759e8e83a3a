package build

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/build/step"
)

func TestImageNames(t *testing.T) {
	got, err := imageNames("web,,team/web:1,localhost:5000/x")
	want := []string{"docker.io/library/web:latest", "docker.io/team/web:1", "localhost:5000/x:latest"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := imageNames("Web"); err == nil {
		t.Error("a name in capitals was taken")
	}
}

func TestExitError(t *testing.T) {
	for _, c := range []struct {
		exit  step.Exit
		valid []int
		fails bool
	}{
		{step.Exit{}, nil, false},
		{step.Exit{Code: 3}, nil, true},
		{step.Exit{Code: 3}, []int{3}, false},
		{step.Exit{}, []int{3}, true},
	} {
		err := exitError(c.exit, c.valid)
		var exit *gatewayapi.ExitError
		if c.fails != (err != nil) || c.fails && (!errors.As(err, &exit) || int(exit.ExitCode) != c.exit.Code) {
			t.Errorf("%+v with %v: %v", c.exit, c.valid, err)
		}
	}
}

func TestBuiltinSyntax(t *testing.T) {
	for source, want := range map[string]bool{
		"docker/dockerfile": true, "docker/dockerfile:1.7-labs": true, "docker.io/docker/dockerfile-upstream:master": true,
		"docker/dockerfile@sha256:" + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": true,
		"example.com/docker/dockerfile": false, "other/frontend": false, "": false,
	} {
		if got := isDockerfileSyntax(source); got != want {
			t.Errorf("%q: %v", source, got)
		}
	}
}

// Stubs go, what a step has put into their place stays.
func TestRemoveStubs(t *testing.T) {
	upper := t.TempDir()
	for _, dir := range []string{"etc", "cache/deep", "used"} {
		if err := os.MkdirAll(filepath.Join(upper, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"etc/hosts": "", "etc/resolv.conf": "mine", "used/file": ""} {
		if err := os.WriteFile(filepath.Join(upper, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(upper, "link")); err != nil {
		t.Fatal(err)
	}
	err := removeStubs(upper, []string{"cache", "cache/deep", "etc/hosts", "etc/resolv.conf", "gone", "link", "used"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"cache": false, "etc/hosts": false, "etc": true, "etc/resolv.conf": true, "used/file": true, "link": true,
	} {
		if _, err := os.Lstat(filepath.Join(upper, name)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", name, err, want)
		}
	}
}

func TestTrimLogs(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	for name, age := range map[string]time.Duration{"new": time.Hour, "old": keepLogs + time.Hour} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now, now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := trimLogs(dir, now); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "new" {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestUseTempDir(t *testing.T) {
	t.Setenv("TMPDIR", os.Getenv("TMPDIR"))
	dir := filepath.Join(t.TempDir(), "build", "tmp")
	left := filepath.Join(dir, "buildkit-secrets1")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", left, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(left, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(left, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := UseTempDir(dir, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left is there: %v", err)
	}
	f, err := os.CreateTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if filepath.Dir(f.Name()) != dir {
		t.Errorf("temporary files are at %s", f.Name())
	}
}

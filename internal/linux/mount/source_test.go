package mount_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
)

// hostileVolume is a directory below another, with links that lead out of it.
func hostileVolume(t *testing.T) (volume, outside string) {
	t.Helper()
	dir := t.TempDir()
	volume, outside = filepath.Join(dir, "volume"), filepath.Join(dir, "outside")
	must(t, os.MkdirAll(filepath.Join(volume, "good", "deep"), 0o755))
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "secret"), nil, 0o644))
	for name, target := range map[string]string{
		"absolute": outside, "relative": "../outside", "chain": "absolute", "self": "/proc/self/root", "loop": "loop",
		"inside": "good", "good/up": "../good/deep",
	} {
		must(t, os.Symlink(target, filepath.Join(volume, name)))
	}
	must(t, os.Symlink(volume, filepath.Join(dir, "link")))
	return volume, outside
}

func TestOpenSource(t *testing.T) {
	volume, _ := hostileVolume(t)
	link := filepath.Join(filepath.Dir(volume), "link")
	for _, tt := range []struct {
		name, source, part string
		want               error
		message            string
	}{
		{name: "all of it", source: volume},
		{name: "by a link of the host", source: link, part: "good"},
		{name: "directory", source: volume, part: "good/deep"},
		{name: "link that stays inside", source: volume, part: "inside/deep"},
		{name: "link with dots that stays inside", source: volume, part: "good/up"},
		{
			name: "absolute link", source: volume, part: "absolute", want: unix.EXDEV,
			message: "path concatenation escapes the base directory, base: " + volume + ", subpath: absolute",
		},
		{name: "absolute link on the way", source: volume, part: "absolute/secret", want: unix.EXDEV},
		{name: "relative link", source: volume, part: "relative", want: unix.EXDEV},
		{name: "link to a link", source: volume, part: "chain/secret", want: unix.EXDEV},
		{name: "link to the host's root", source: volume, part: "self/etc", want: unix.EXDEV},
		{name: "link to itself", source: volume, part: "loop", want: unix.ELOOP},
		{name: "dots", source: volume, part: "../outside", want: unix.EXDEV},
		{
			name: "missing", source: volume, part: "no", want: unix.ENOENT,
			message: "cannot access path " + volume + "/no: lstat " + volume + "/no: no such file or directory",
		},
		{name: "missing source", source: volume + "/no", part: "good", want: unix.ENOENT},
		{name: "magic link", source: "/proc/self/cwd", want: unix.ELOOP},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := mount.OpenSource(tt.source, tt.part)
			if err == nil {
				f.Close()
			}
			if !errors.Is(err, tt.want) || tt.message != "" && err.Error() != tt.message {
				t.Errorf("error is %v, want %v %s", err, tt.want, tt.message)
			}
		})
	}
}

// TestOpenSourceRaced has a directory and a link out of the volume change
// places all the time.
func TestOpenSourceRaced(t *testing.T) {
	volume, outside := hostileVolume(t)
	var secret unix.Stat_t
	must(t, unix.Stat(outside, &secret))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(volume, "good"), unix.AT_FDCWD, filepath.Join(volume, "absolute"), unix.RENAME_EXCHANGE)
			}
		}
	}()
	defer func() { close(stop); <-done }()
	opened := 0
	for range 5000 {
		f, err := mount.OpenSource(volume, "good")
		if err != nil {
			continue
		}
		opened++
		var st unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &st)
		f.Close()
		must(t, err)
		if st.Ino == secret.Ino {
			t.Fatal("it led out of the volume")
		}
	}
	if opened == 0 {
		t.Error("the directory was never found: nothing was tried")
	}
}

package tartree

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
)

// capability2 is cap_net_bind_service+ep, see capabilities(7).
const capability2 = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openDir(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// describe lists what is below a directory, one line each.
func describe(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		var line strings.Builder
		fmt.Fprintf(&line, "%s %o %d:%d @%d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&line, " x%d %q", st.Nlink, text)
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			line.WriteString(" -> " + target)
		case unix.S_IFCHR, unix.S_IFBLK:
			fmt.Fprintf(&line, " dev %d", st.Rdev)
		}
		for _, name := range []string{capability, "user.note", "trusted.overlay.opaque"} {
			buf := make([]byte, 64)
			if n, err := unix.Lgetxattr(path, name, buf); err == nil {
				fmt.Fprintf(&line, " %s=%q", name, buf[:n])
			}
		}
		lines = append(lines, line.String())
		return nil
	})
	must(t, err)
	return lines
}

func pack(t testing.TB, dir string, ids IDs) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, PackContents(t.Context(), w, openDir(t, dir), ids))
	must(t, w.Close())
	return b.Bytes()
}

func TestThereAndBack(t *testing.T) {
	testenv.NeedsRoot(t)
	src, dst := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(src, name) }
	must(t, os.MkdirAll(at("dir/sub"), 0o755))
	must(t, os.WriteFile(at("dir/f"), []byte("text"), 0o600))
	must(t, os.Link(at("dir/f"), at("dir/sub/hard")))
	must(t, os.WriteFile(at("big"), bytes.Repeat([]byte("0123456789abcdef"), 50_000), 0o644))
	must(t, os.WriteFile(at("su"), []byte("x"), 0o755))
	must(t, unix.Chown(at("su"), 12, 34))
	must(t, unix.Chmod(at("su"), 0o6755))
	must(t, os.WriteFile(at("ping"), []byte("x"), 0o755))
	must(t, unix.Setxattr(at("ping"), capability, []byte(capability2), 0))
	must(t, unix.Setxattr(at("ping"), "user.note", []byte("hi"), 0))
	must(t, unix.Setxattr(at("dir"), "trusted.overlay.opaque", []byte("y"), 0))
	must(t, os.Symlink("/etc/passwd", at("abs")))
	must(t, os.Lchown(at("abs"), 5, 6))
	must(t, os.Symlink("nowhere", at("dir/broken")))
	must(t, unix.Mknod(at("null"), unix.S_IFCHR|0o640, int(unix.Mkdev(1, 3))))
	must(t, unix.Mkfifo(at("pipe"), 0o600))
	must(t, os.WriteFile(at("umlaut-ä"), nil, 0))
	must(t, os.Mkdir(at("tmp"), 0o700))
	must(t, unix.Chmod(at("tmp"), 0o1777))
	old := unix.Timespec{Sec: 1_000_000_000}
	for _, name := range []string{"dir/f", "dir/sub", "dir", "abs", "tmp"} {
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at(name), []unix.Timespec{old, old}, unix.AT_SYMLINK_NOFOLLOW))
	}
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(l)
	want := describe(t, src)
	must(t, unix.Bind(l, &unix.SockaddrUnix{Name: at("socket")})) // cannot be packed
	must(t, Unpack(t.Context(), bytes.NewReader(pack(t, src, IDs{})), Target{Root: openDir(t, dst), Dir: "/"}))
	for i, line := range want { // that is overlayfs's business
		want[i] = strings.ReplaceAll(line, ` trusted.overlay.opaque="y"`, "")
	}
	if diff := cmp.Diff(want, describe(t, dst)); diff != "" {
		t.Errorf("copy differs (-source +copy):\n%s", diff)
	}
}

func TestIDs(t *testing.T) {
	shifted := IDs{Host: 100_000, Size: 65536}
	tests := []struct {
		name          string
		ids           IDs
		tree          uint32
		archive, back int
	}{
		{"as they are", IDs{}, 1000, 1000, 1000},
		{"root", shifted, 100_000, 0, 100_000},
		{"user", shifted, 101_000, 1000, 101_000},
		{"last", shifted, 165_535, 65535, 165_535},
		{"not the container's", shifted, 0, 65534, 165_534},
		{"of the next container", shifted, 165_536, 65534, 165_534},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.ids.inside(tt.tree)
			if got != tt.archive || tt.ids.outside(got) != tt.back {
				t.Errorf("inside(%d) = %d, outside of that = %d; want %d and %d", tt.tree, got, tt.ids.outside(got), tt.archive, tt.back)
			}
		})
	}
	for _, id := range []int{-1, 65536, 1 << 31} {
		if got := shifted.outside(id); got != 100_000 {
			t.Errorf("outside(%d) = %d, want root's", id, got)
		}
	}
}

func TestCapabilitiesTravelWithoutTheirRoot(t *testing.T) {
	ids := IDs{Host: 0x01020304, Size: 65536}
	rooted := ids.rootedCapability([]byte(capability2))
	if want := "\x01\x00\x00\x03" + capability2[4:] + "\x04\x03\x02\x01"; string(rooted) != want {
		t.Errorf("rooted = %q, want %q", rooted, want)
	}
	if got := plainCapability(rooted); string(got) != capability2 {
		t.Errorf("plain = %q, want %q", got, capability2)
	}
	if got := (IDs{}).rootedCapability([]byte(capability2)); string(got) != capability2 {
		t.Errorf("without a range = %q, want it unchanged", got)
	}
}

// item is an entry of an archive: "dir/", "link->target", "hard=>target" or a file with its name as content.
func archive(t testing.TB, items ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, item := range items {
		h := &tar.Header{Name: item, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(item))}
		if name, target, ok := strings.Cut(item, "->"); ok {
			h = &tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink}
		} else if name, target, ok := strings.Cut(item, "=>"); ok {
			h = &tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink}
		} else if strings.HasSuffix(item, "/") {
			h = &tar.Header{Name: item, Mode: 0o755, Typeflag: tar.TypeDir}
		}
		must(t, w.WriteHeader(h))
		if h.Size > 0 {
			_, err := io.WriteString(w, item)
			must(t, err)
		}
	}
	must(t, w.Close())
	return b.Bytes()
}

func names(t testing.TB, root string) []string {
	t.Helper()
	var list []string
	for _, line := range describe(t, root) {
		name, _, _ := strings.Cut(line, " ")
		list = append(list, name)
	}
	return list
}

func TestUnpackStaysInside(t *testing.T) {
	testenv.NeedsRoot(t)
	tests := []struct {
		name  string
		items []string
		err   error
		want  []string // below the root
	}{
		{"name that climbs", []string{"a", "../../x"}, ErrOutside, []string{"dst", "dst/a"}},
		{"name that climbs in the middle", []string{"a/../../x"}, ErrOutside, []string{"dst"}},
		{"absolute name", []string{"/x"}, nil, []string{"dst", "dst/x"}},
		{"relative link that climbs", []string{"l->../../../..", "l/x"}, nil, []string{"dst", "dst/l", "x"}},
		{"absolute link", []string{"l->/", "l/x"}, nil, []string{"dst", "dst/l", "x"}},
		{"link through procfs", []string{"l->/proc/self/root", "l/x"}, unix.ENOENT, []string{"dst", "dst/l"}},
		{"hard link that climbs", []string{"h=>../../secret"}, ErrOutside, []string{"dst"}},
		{"hard link through a link", []string{"l->../..", "h=>l/secret"}, unix.ENOENT, []string{"dst", "dst/l"}},
		{"file over a link", []string{"l->/x", "l"}, nil, []string{"dst", "dst/l"}},
		{"directory replaced by a link", []string{"d/", "d/a", "d->/", "d/b"}, nil, []string{"b", "dst", "dst/d"}},
		{"missing parents", []string{"a/b/c"}, nil, []string{"dst", "dst/a", "dst/a/b", "dst/a/b/c"}},
		{"file in the way", []string{"a", "a/b"}, unix.ENOTDIR, []string{"dst", "dst/a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host := t.TempDir()
			root := filepath.Join(host, "root")
			must(t, os.MkdirAll(filepath.Join(root, "dst"), 0o755))
			must(t, os.WriteFile(filepath.Join(host, "secret"), []byte("secret"), 0o600))
			err := Unpack(t.Context(), bytes.NewReader(archive(t, tt.items...)), Target{Root: openDir(t, root), Dir: "/dst"})
			if !errors.Is(err, tt.err) {
				t.Errorf("error = %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, names(t, root)); diff != "" {
				t.Errorf("in the root (-want +got):\n%s", diff)
			}
			entries, err := os.ReadDir(host)
			must(t, err)
			if len(entries) != 2 {
				t.Errorf("outside of the root: %v", entries)
			}
		})
	}
}

func TestKinds(t *testing.T) {
	testenv.NeedsRoot(t)
	for name, c := range map[string]struct {
		items []string
		keep  bool
		text  string
	}{
		"file over directory":      {[]string{"d"}, true, `cannot overwrite directory "/d" with non-directory "/"`},
		"directory over file":      {[]string{"f/"}, true, `cannot overwrite non-directory "/f" with directory "/"`},
		"directory over link":      {[]string{"l/"}, true, `cannot overwrite non-directory "/l" with directory "/"`},
		"directory over directory": {[]string{"d/"}, true, ""},
		"file over file":           {[]string{"f"}, true, ""},
		"all by force":             {[]string{"d", "f/", "l/"}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			must(t, os.MkdirAll(filepath.Join(root, "d/sub/deep"), 0o755))
			must(t, os.WriteFile(filepath.Join(root, "f"), nil, 0o644))
			must(t, os.Symlink("d", filepath.Join(root, "l")))
			err := Unpack(t.Context(), bytes.NewReader(archive(t, c.items...)), Target{Root: openDir(t, root), Dir: "/", KeepKinds: c.keep})
			if text := fmt.Sprint(err); err != nil && text != c.text || err == nil && c.text != "" {
				t.Errorf("error = %v, want %q", err, c.text)
			}
			if errors.Is(err, ErrKind) != (c.text != "") {
				t.Errorf("error %v is not of its kind", err)
			}
		})
	}
}

// What is mounted somewhere, in whichever namespace, keeps its place: the kernel would only ask for mounts of our own.
func TestMountsKeepTheirPlace(t *testing.T) {
	testenv.NeedsRoot(t)
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "d/mnt"), 0o755))
	must(t, unix.Mount("tmpfs", filepath.Join(root, "d/mnt"), "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(filepath.Join(root, "d/mnt"), 0)) })
	for _, items := range [][]string{{"d"}, {"d/mnt"}} {
		err := Unpack(t.Context(), bytes.NewReader(archive(t, items...)), Target{Root: openDir(t, root), Dir: "/"})
		if !errors.Is(err, unix.EBUSY) {
			t.Errorf("unpack %v: error = %v, want EBUSY", items, err)
		}
	}
}

// A sender that breaks off, or a caller that does not want any more, leaves no half file.
func TestInterruptedFileGoes(t *testing.T) {
	testenv.NeedsRoot(t)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Name: "whole", Typeflag: tar.TypeReg, Mode: 0o644}))
	must(t, w.WriteHeader(&tar.Header{Name: "half", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1 << 20}))
	_, err := w.Write(make([]byte, 1<<19))
	must(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	for _, c := range []struct {
		name string
		r    io.Reader
		want error
	}{
		{"broken off", bytes.NewReader(b.Bytes()), ErrArchive},
		{"cancelled", io.MultiReader(bytes.NewReader(b.Bytes()), readerFunc(func([]byte) (int, error) { cancel(gone); return 0, nil })), gone},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			err := Unpack(ctx, c.r, Target{Root: openDir(t, root), Dir: "/"})
			if !errors.Is(err, c.want) {
				t.Errorf("error = %v, want %v", err, c.want)
			}
			if diff := cmp.Diff([]string{"whole"}, names(t, root)); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestPackedArchives(t *testing.T) {
	testenv.NeedsRoot(t)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write(archive(t, "f"))
	must(t, errors.Join(err, z.Close()))
	xz := exec.CommandContext(t.Context(), testenv.NeedsProgram(t, "xz"), "-c")
	xz.Stdin = bytes.NewReader(archive(t, "f"))
	packed, err := xz.Output()
	must(t, err)
	for name, c := range map[string]struct {
		data []byte
		err  error
	}{
		"xz":           {packed, nil},
		"xz, cut off":  {packed[:len(packed)-20], ErrArchive},
		"xz, and more": {append(slices.Clone(packed), "rubbish"...), ErrArchive},
		"gzip":         {zipped.Bytes(), nil},
		"plain":        {archive(t, "f"), nil},
		"garbage":      {[]byte("this is no archive, is it?"), ErrArchive},
		"cut off":      {zipped.Bytes()[:30], ErrArchive},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			err := Unpack(t.Context(), bytes.NewReader(c.data), Target{Root: openDir(t, root), Dir: "/"})
			if !errors.Is(err, c.err) || err == nil && len(names(t, root)) != 1 {
				t.Errorf("error = %v, want %v; files: %v", err, c.err, names(t, root))
			}
		})
	}
}

// Where devices are not wanted there are none afterwards.
func TestNoDevices(t *testing.T) {
	testenv.NeedsRoot(t)
	for kind, name := range map[byte]string{tar.TypeChar: "character", tar.TypeBlock: "block"} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			must(t, w.WriteHeader(&tar.Header{Name: "d", Typeflag: kind, Mode: 0o644, Devmajor: 1, Devminor: 3}))
			must(t, w.Close())
			root := t.TempDir()
			err := Unpack(t.Context(), &b, Target{Root: openDir(t, root), Dir: "/", NoDevices: true})
			if !errors.Is(err, ErrArchive) || len(names(t, root)) > 0 {
				t.Errorf("error = %v; files: %v", err, names(t, root))
			}
		})
	}
}

// A file that shrinks while it is packed must not spoil what follows.
func TestShrinkingFile(t *testing.T) {
	testenv.NeedsRoot(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "a"), bytes.Repeat([]byte("x"), 1<<20), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "b"), []byte("b"), 0o644))
	var b bytes.Buffer
	shrinker := writerFunc(func(p []byte) (int, error) {
		if b.Len() > 0 {
			must(t, os.Truncate(filepath.Join(dir, "a"), 10))
		}
		return b.Write(p)
	})
	w := tar.NewWriter(shrinker)
	must(t, PackContents(t.Context(), w, openDir(t, dir), IDs{}))
	must(t, w.Close())
	r := tar.NewReader(&b)
	var got []string
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		n, err := io.Copy(io.Discard, r)
		must(t, err)
		got = append(got, fmt.Sprint(h.Name, n))
	}
	if diff := cmp.Diff([]string{"a1048576", "b1"}, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// No archive makes or changes files outside of the root, by whichever links, its own
// or those that are there.
// modified is when a file in an archive was, of files and directories by their
// names: nil if it has links, which make other names of them.
func modified(data []byte) map[string]time.Time {
	list := map[string]time.Time{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err != nil {
			return list
		}
		rel, _ := clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeDir:
			list[rel] = h.ModTime
		case tar.TypeSymlink, tar.TypeLink:
			return nil
		case tar.TypeXGlobalHeader:
		default:
			delete(list, rel)
		}
	}
}

// FuzzUnpack holds that nothing outside of the root is touched, that files and
// directories have the time of the last entry for them, and that what cannot be
// unpacked is the archive's fault.
func FuzzUnpack(f *testing.F) {
	odd := func(headers ...tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for i := range headers {
			must(f, w.WriteHeader(&headers[i]))
		}
		must(f, w.Close())
		return b.Bytes()
	}
	f.Add(archive(f, "a", "../x", "l->/", "l/x", "h=>../../x"), uint8(0))
	f.Add(archive(f, "out", "up/x", "h=>up/outside", "in/", "in->..", "in/outside", "dir/file"), uint8(1))
	f.Add(archive(f, "dir->up", "dir/outside", "up=>out", ".wh.dir", "./../a/./b"), uint8(2))
	f.Add(odd(
		tar.Header{Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}, Format: tar.FormatPAX},
		tar.Header{Name: "dev", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o7777},
		tar.Header{Name: strings.Repeat("long/", 60), Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(1, 5), Format: tar.FormatPAX},
	), uint8(0))
	f.Add(odd(tar.Header{Name: "out", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 7}, tar.Header{Name: "up/outside", Typeflag: tar.TypeSymlink, Linkname: "x"}), uint8(4))
	f.Add(odd(
		tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(1, 0)}, tar.Header{Name: "d/d", Typeflag: tar.TypeDir, Mode: 0o700},
		tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(2, 0)},
		tar.Header{Name: "f", Typeflag: tar.TypeReg, ModTime: time.Unix(1<<34, 5), Format: tar.FormatPAX},
	), uint8(0))
	f.Add(archive(f, "h=>"), uint8(0))
	f.Add(archive(f, "dir/", "h=>dir"), uint8(0))
	f.Add(archive(f, strings.Repeat("long", 70)), uint8(0))
	f.Add(archive(f, "a->b", "b->a", "a/x"), uint8(0))
	f.Add(archive(f, "a->"), uint8(0))
	f.Add([]byte{}, uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, flags uint8) {
		if len(data) > 1<<16 || syscall.Geteuid() != 0 {
			return
		}
		data = testenv.TarSums(data)
		host := t.TempDir()
		root, outside := filepath.Join(host, "root"), filepath.Join(host, "outside")
		must(t, os.Mkdir(root, 0o755))
		must(t, os.Mkdir(filepath.Join(root, "dir"), 0o755))
		must(t, os.WriteFile(outside, []byte("as it was"), 0o640))
		must(t, os.Symlink("../outside", filepath.Join(root, "out")))
		must(t, os.Symlink("..", filepath.Join(root, "up")))
		before, err := os.Stat(outside)
		must(t, err)
		dir, err := os.Open(root)
		must(t, err)
		defer dir.Close()
		target := Target{Root: dir, Dir: "/", KeepKinds: flags&1 != 0, NoDevices: flags&2 != 0}
		if flags&4 != 0 {
			target.Owner = &Owner{UID: 5, GID: 6}
		}
		failed := Unpack(t.Context(), bytes.NewReader(data), target)
		entries, err := os.ReadDir(host)
		must(t, err)
		if len(entries) != 2 {
			t.Errorf("outside of the root: %v", entries)
		}
		after, err := os.Lstat(outside)
		must(t, err)
		is, was := after.Sys().(*syscall.Stat_t), before.Sys().(*syscall.Stat_t)
		if is.Ino != was.Ino || is.Ctim != was.Ctim || is.Nlink != 1 || is.Size != was.Size {
			t.Errorf("the file outside was %+v, is %+v", was, is)
		}
		if failed != nil {
			if !Blames(failed) {
				t.Errorf("it is not told to be the archive's fault: %v", failed)
			}
			return
		}
		for name, at := range modified(data) {
			info, err := os.Lstat(filepath.Join(root, name))
			if err != nil || name == "." || at.Unix() < 0 {
				continue
			}
			const latest = 1<<31 - 1 // that all file systems have
			if is := info.ModTime().Unix(); is != at.Unix() && (is > at.Unix() || is < latest) {
				t.Errorf("%s is of %v, its last entry of %v", name, info.ModTime(), at)
			}
		}
	})
}

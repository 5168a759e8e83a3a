package copytar

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/testenv"
)

// FuzzUnpack holds that an archive of a container changes nothing outside of the
// directory and nothing in it that it has no entry for, that the last entry of a
// name is the one that counts, and that what it became is the same after it was
// packed and unpacked again.
func FuzzUnpack(f *testing.F) {
	add := func(flags uint8, headers ...tar.Header) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			if err := w.WriteHeader(&h); err != nil {
				f.Fatal(err)
			}
			_, _ = w.Write(bytes.Repeat([]byte("x"), int(h.Size)))
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes(), flags)
	}
	dir := func(name string, mode int64) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode, ModTime: time.Unix(1e9, 5), Format: tar.FormatPAX}
	}
	file := func(name string, mode int64) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: 3, Uid: 5, Gid: 6}
	}
	link := func(kind byte, name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: kind, Linkname: to}
	}
	add(0, dir("d/", 0o700), file("d/f", 0o6755), link(tar.TypeLink, "d/h", "d/f"), link(tar.TypeSymlink, "d/l", "../../out"), file("d/l/x", 0o644))
	add(1, dir("./", 0o755), dir("./s/", 0o1777), dir("./s/", 0o500), file("./s/f", 0), link(tar.TypeSymlink, "./l", "s"), dir("./l/in/", 0o711))
	add(2, dir("d/", 0o755), file("d/keep", 0o600), link(tar.TypeLink, "d/h", "../../secret"), link(tar.TypeSymlink, "d/keep", "/etc/passwd"))
	add(0, dir("d/s/", 0o1777), dir("d/s/", 0o500), dir("d/", 0o700), file("d/s/f", 0), file("d/s/f", 0o644))
	add(2, file("keep", 0o600), tar.Header{Name: "pax_global_header", Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}, Format: tar.FormatPAX})
	add(4, tar.Header{Name: "d/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, tar.Header{Name: "d/pipe", Typeflag: tar.TypeFifo, Mode: 0o7777})
	names := [][2]string{{"d", "e"}, {".", "e"}, {"d", "."}, {"keep", "keep"}}
	f.Fuzz(func(t *testing.T, data []byte, flags uint8) {
		data = testenv.TarSums(data)
		if len(data) > 1<<16 || os.Geteuid() != 0 || expands(data) {
			return
		}
		base := t.TempDir()
		in, out := filepath.Join(base, "in"), filepath.Join(base, "out")
		for _, err := range []error{
			os.Mkdir(in, 0o755), os.Mkdir(out, 0o755), os.WriteFile(filepath.Join(out, "secret"), []byte("s"), 0o600),
			os.WriteFile(filepath.Join(in, "keep"), []byte("k"), 0o600), os.Symlink("../out", filepath.Join(in, "up")),
			os.WriteFile(filepath.Join(in, "pax_global_header"), []byte("k"), 0o600),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		outside, before := state(t, out), state(t, in)
		as := names[flags%4]
		err := Unpack(bytes.NewReader(data), in, as[0], as[1], Owner(flags&4 != 0))
		if diff := cmp.Diff(outside, state(t, out)); diff != "" {
			t.Errorf("outside (-before +after)\n%s", diff)
		}
		if list, _ := os.ReadDir(base); len(list) != 2 {
			t.Errorf("beside the directory: %v", list)
		}
		last, linked := entriesOf(data, as)
		after := state(t, in)
		for name, was := range before {
			if _, asked := last[name]; !asked && name != "." && !linked && after[name] != was {
				t.Errorf("%s was %s, is %s, without an entry", name, was, after[name])
			}
		}
		if err != nil {
			return
		}
		for name, mode := range last {
			if is := after[name]; !linked && is != "" && name != "." && !strings.HasPrefix(is, mode) {
				t.Errorf("%s is %s, the last entry has %s", name, is, mode)
			}
		}
		again(t, in)
	})
}

// expands tells that an archive has more in it than a test should write: sparse
// files have as much as they say.
func expands(data []byte) bool {
	total := int64(0)
	for r := tar.NewReader(bytes.NewReader(data)); total <= 1<<20; {
		head, err := r.Next()
		if err != nil {
			return false
		}
		total += head.Size
	}
	return true
}

// entriesOf are the names that an archive has entries for, with the mode that the
// last one gives to a file or directory, and whether it has links, which make
// other names of them.
func entriesOf(data []byte, as [2]string) (last map[string]string, linked bool) {
	last = map[string]string{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		head, err := r.Next()
		if err != nil {
			return last, linked
		}
		name := rename(head.Name, as[0], as[1])
		switch head.Typeflag {
		case tar.TypeXGlobalHeader:
			continue
		case tar.TypeSymlink, tar.TypeLink:
			linked = true
		}
		for above := path.Dir(name); above != "."; above = path.Dir(above) {
			if _, known := last[above]; !known {
				last[above] = "" // it is made, with whatever mode
			}
		}
		mode := head.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
		last[name] = fmt.Sprintf("%v ", mode)
	}
}

// state describes a tree: of each name the mode, the kind, the time and what is in it.
func state(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(file string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(file)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		content, at := "", st.Mtim.Sec
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			content = fmt.Sprintf("%q x%d", text, st.Nlink)
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			content, err = os.Readlink(file)
			at = 0 // when it was made
		}
		if err != nil {
			return err
		}
		mode := info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
		name, _ := filepath.Rel(root, file)
		out[name] = fmt.Sprintf("%v %v %d:%d dev %d @%d %s", mode, info.Mode().Type(), st.Uid, st.Gid, st.Rdev, at, content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// again packs a tree and unpacks it, which gives the same.
func again(t *testing.T, dir string) {
	t.Helper()
	var b bytes.Buffer
	if err := Pack(&b, dir, "d"); err != nil {
		t.Fatalf("pack: %v", err)
	}
	to := t.TempDir()
	if err := Unpack(&b, to, "d", "d", Archive); err != nil {
		t.Fatalf("unpack again: %v", err)
	}
	if diff := cmp.Diff(state(t, dir), state(t, filepath.Join(to, "d"))); diff != "" {
		t.Errorf("packed and unpacked (-want +got)\n%s", diff)
	}
}

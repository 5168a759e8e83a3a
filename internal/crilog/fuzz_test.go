package crilog

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/portholehq/porthole/internal/crilog/seekzst"
)

// FuzzRead reads a log whose files hold anything: it must end without a crash,
// and what it hands out must be in the files.
func FuzzRead(f *testing.F) {
	good := "2026-11-24T03:00:00.000000000Z stdout F one\n2026-11-24T03:00:00.000000001Z stderr P two\n2026-11-24T03:00:00.000000001Z stderr F \n"
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, logName(1)), []byte(good), 0o600); err != nil {
		f.Fatal(err)
	}
	if err := compressSegment(f.Context(), openDir(f, dir), 1, 0, seekzst.Pack); err != nil {
		f.Fatal(err)
	}
	packed, err := os.ReadFile(filepath.Join(dir, compressedName(1)))
	if err != nil {
		f.Fatal(err)
	}
	index := indexHeader(7, epoch)
	index = mark{line: 7, time: epoch.UnixNano()}.append(index)
	index = mark{offset: int64(bytes.IndexByte([]byte(good), '\n') + 1), line: 8, open: 2, time: epoch.UnixNano()}.append(index)
	f.Add(packed, index, []byte(good), index, -1, false)
	f.Add(packed, []byte{}, []byte("garbage\n\n2026-11-24T03:00:00+01:00 stdout F:x:y z\n"), index, 2, true)
	f.Add([]byte{}, index, []byte(good+good+"2026"), []byte{}, 1, false)

	f.Fuzz(func(t *testing.T, packed, index1, plain, index2 []byte, tail int, since bool) {
		dir := t.TempDir()
		for name, b := range map[string][]byte{compressedName(1): packed, indexName(1): index1, logName(2): plain, indexName(2): index2} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		o := all
		o.Tail = tail
		if since {
			o.Since = epoch
		}
		size := 0
		err := Read(t.Context(), dir, o, nil, func(e Entry) error {
			if size += len(e.Line); e.Stream > Stderr {
				t.Errorf("entry %+v", e)
			}
			return nil
		})
		if err != nil {
			t.Errorf("read: %v", err)
		}
		if len(packed) == 0 && size > len(plain) {
			t.Errorf("%d bytes out of %d", size, len(plain))
		}
		w, err := OpenWriter(openDir(t, dir), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(Stdout, []byte("new\n"), epoch); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		last := ""
		o = all
		if err := Read(t.Context(), dir, o, nil, func(e Entry) error { last = string(e.Line); return nil }); err != nil || last != "new\n" {
			t.Errorf("after repair the last line is %q, %v", last, err)
		}
	})
}

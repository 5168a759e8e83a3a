package core

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// coreFile is the beginning of a core as the kernel writes it, with size bytes of memory.
func coreFile(t *testing.T, signal uint16, size int) []byte {
	t.Helper()
	const ehsize, phsize, notes = 64, 56, 64
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	put(elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: ehsize, Ehsize: ehsize, Phentsize: phsize, Phnum: 2,
	})
	const at = ehsize + 2*phsize
	put(elf.Prog64{Type: uint32(elf.PT_NOTE), Off: at, Filesz: notes})
	put(elf.Prog64{Type: uint32(elf.PT_LOAD), Off: at + notes, Filesz: uint64(size)})
	note := make([]byte, notes)
	binary.LittleEndian.PutUint32(note, 5)
	binary.LittleEndian.PutUint32(note[4:], 40)
	binary.LittleEndian.PutUint32(note[8:], ntPRStatus)
	copy(note[12:], "CORE")
	binary.LittleEndian.PutUint16(note[32:], signal)
	put(note)
	put(bytes.Repeat([]byte{7}, size))
	return b.Bytes()
}

func open(t *testing.T, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestKeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cores")
	s := open(t, dir, Options{})
	elfFile := coreFile(t, uint16(syscall.SIGBUS), 1<<20)
	for _, tt := range []struct {
		name      string
		limit     int64
		truncated bool
	}{{"whole", 1 << 40, false}, {"exact", int64(len(elfFile)), false}, {"part", 5000, true}} {
		rec := &Record{Container: "c", Name: tt.name, Time: time.Now()}
		if err := s.Keep(rec, bytes.NewReader(elfFile), tt.limit); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		want := elfFile[:min(int64(len(elfFile)), tt.limit)]
		if rec.Signal != syscall.SIGBUS || rec.Truncated != tt.truncated || rec.Bytes != int64(len(want)) || rec.Disk > 5000 {
			t.Errorf("%s: %+v", tt.name, rec)
		}
		s = open(t, dir, Options{}) // as the next daemon does
		f, err := s.Read(rec.ID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: read %d bytes, %v, want %d", tt.name, len(got), err, len(want))
		}
	}
	// A dump that the kernel has broken off is marked.
	rec := &Record{Container: "c", Time: time.Now()}
	if err := s.Keep(rec, bytes.NewReader(elfFile[:9000]), 1<<40); err != nil || !rec.Truncated {
		t.Errorf("%+v, %v", rec, err)
	}
	if n := len(s.List()); n != 4 || s.List()[0] != rec {
		t.Errorf("%d cores", n)
	}
	if err := s.Remove(rec.ID); err != nil {
		t.Error(err)
	}
	if err := s.Remove(rec.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	for _, id := range []string{rec.ID, "../cores/" + s.List()[0].ID, ""} {
		if _, err := s.Read(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("read %q: %v", id, err)
		}
	}
}

// TestRefused has what is no core leave nothing.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{MaxBytes: 2000})
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(uint32(i) * 2654435761 >> 13)
	}
	for name, r := range map[string]io.Reader{
		"empty": strings.NewReader(""), "text": strings.NewReader("#!/bin/sh\n"),
		"broken":    io.MultiReader(bytes.NewReader(coreFile(t, 11, 100)), brokenReader{}),
		"too large": io.MultiReader(bytes.NewReader(coreFile(t, 11, 100)), bytes.NewReader(noise)),
	} {
		if err := s.Keep(&Record{Container: "c", Time: time.Now()}, r, 1<<40); err == nil {
			t.Errorf("%s: kept", name)
		}
		if left := files(t, dir); len(left) > 0 {
			t.Fatalf("%s: left %q", name, left)
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestBounds(t *testing.T) {
	dir := t.TempDir()
	small := coreFile(t, 11, 100)
	s := open(t, dir, Options{MaxPerContainer: 2, MaxCount: 3})
	begin := time.Now()
	for i, container := range []string{"a", "loop", "loop", "loop", "loop", "b"} {
		rec := &Record{Container: container, Time: begin.Add(time.Duration(i) * time.Second)}
		if err := s.Keep(rec, bytes.NewReader(small), 1<<20); err != nil {
			t.Fatal(err)
		}
		if i == 4 && s.List()[2].Container != "a" {
			t.Error("a loop of crashes has pushed out the core of another container")
		}
	}
	var got []string
	for _, r := range s.List() {
		got = append(got, r.Container)
	}
	if want := "b loop loop"; strings.Join(got, " ") != want || len(files(t, dir)) != 6 {
		t.Errorf("kept %q, want %s; files %q", got, want, files(t, dir))
	}
	if s := open(t, dir, Options{MaxBytes: s.List()[0].Disk * 2}); len(s.List()) != 2 {
		t.Errorf("kept %d by bytes", len(s.List()))
	}
	if s := open(t, dir, Options{MaxAge: time.Nanosecond}); len(s.prunedAfter(t, begin.Add(time.Hour))) != 0 {
		t.Errorf("kept what is too old")
	}
}

func (s *Store) prunedAfter(t *testing.T, now time.Time) []*Record {
	t.Helper()
	if err := s.prune(now); err != nil {
		t.Fatal(err)
	}
	return s.List()
}

// TestLeftovers opens a store in which a writer was killed.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	rec := &Record{Container: "a", Time: time.Now()}
	if err := s.Keep(rec, bytes.NewReader(coreFile(t, 11, 100)), 1<<20); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"0123456789abcdef.zst", "1123456789abcdef.json", "." + rec.ID + ".json.tmp1"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s = open(t, dir, Options{}); len(s.List()) != 1 || len(files(t, dir)) != 2 {
		t.Errorf("%d cores, files %q", len(s.List()), files(t, dir))
	}
}

package crilog

import (
	"strings"
	"testing"
	"time"
)

// chunk is what one read of a pipe brings: 60-byte lines.
func chunk() []byte {
	return []byte(strings.Repeat(strings.Repeat("x", 59)+"\n", 64<<10/60))
}

func BenchmarkWrite(b *testing.B) {
	w := openWriter(b, b.TempDir(), Options{MaxFiles: 2})
	p := chunk()
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Write(Stdout, p, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkRead(b *testing.B, packed bool) {
	dir := b.TempDir()
	w := openWriter(b, dir, Options{MaxFiles: 20})
	p := chunk()
	const chunks = 800
	for range chunks {
		if err := w.Write(Stdout, p, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	if packed {
		compressAll(b, dir)
	}
	b.SetBytes(int64(len(p)) * chunks)
	b.ReportAllocs()
	for b.Loop() {
		lines := 0
		err := Read(b.Context(), dir, all, nil, func(Entry) error { lines++; return nil })
		if err != nil || lines != chunks*(64<<10/60) {
			b.Fatal(lines, err)
		}
	}
}

func BenchmarkRead(b *testing.B)           { benchmarkRead(b, false) }
func BenchmarkReadCompressed(b *testing.B) { benchmarkRead(b, true) }

func BenchmarkTail(b *testing.B) {
	dir := b.TempDir()
	w := openWriter(b, dir, Options{MaxSize: -1})
	p := chunk()
	for range 4000 {
		if err := w.Write(Stdout, p, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	o := all
	o.Tail = 100
	b.ReportAllocs()
	for b.Loop() {
		lines := 0
		if err := Read(b.Context(), dir, o, nil, func(Entry) error { lines++; return nil }); err != nil || lines != 100 {
			b.Fatal(lines, err)
		}
	}
}

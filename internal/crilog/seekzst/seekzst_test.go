package seekzst

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// packed returns text that compresses somewhat, and its packed form.
func packed(t testing.TB, size int) (text, file []byte) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	text = make([]byte, size)
	for i := range text {
		text[i] = "abcdefgh\n"[rng.IntN(9)]
	}
	var b bytes.Buffer
	if err := Pack(&b, bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return text, b.Bytes()
}

func TestReadAt(t *testing.T) {
	for _, size := range []int{0, 1, FrameSize, FrameSize + 1, 3*FrameSize + 17} {
		text, file := packed(t, size)
		if size > 100 && len(file) > size*2/3 {
			t.Errorf("%d bytes were packed into %d", size, len(file))
		}
		z, err := Open(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		defer z.Close()
		if z.Size() != int64(size) {
			t.Errorf("size is %d, want %d", z.Size(), size)
		}
		for _, off := range []int{0, size / 2, size - 1, size, max(0, FrameSize-3), max(0, size-FrameSize-3)} {
			if off < 0 || off > size {
				continue
			}
			got, err := io.ReadAll(io.NewSectionReader(z, int64(off), int64(size)))
			if err != nil || !bytes.Equal(got, text[off:]) {
				t.Errorf("%d bytes from %d: got %d bytes, %v", size, off, len(got), err)
			}
		}
	}
}

func TestDamage(t *testing.T) {
	text, file := packed(t, 2*FrameSize)
	for cut := range 64 {
		if _, err := Open(bytes.NewReader(file[:len(file)-1-cut]), int64(len(file)-1-cut)); !errors.Is(err, ErrMalformed) {
			t.Errorf("without the last %d bytes: %v", cut+1, err)
		}
	}
	file[20] ^= 0xff
	z, err := Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	if _, err := z.ReadAt(make([]byte, 10), 0); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a damaged frame gave %v", err)
	}
	got := make([]byte, 10)
	if _, err := z.ReadAt(got, FrameSize); err != nil || !bytes.Equal(got, text[FrameSize:FrameSize+10]) {
		t.Errorf("the frame after the damaged one: %q, %v", got, err)
	}
}

func FuzzOpen(f *testing.F) {
	_, file := packed(f, 1000)
	f.Add(file)
	f.Add(file[:len(file)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		z, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		defer z.Close()
		n, err := io.Copy(io.Discard, io.NewSectionReader(z, 0, z.Size()))
		if err == nil && n != z.Size() {
			t.Errorf("%d bytes came of %d without an error", n, z.Size())
		}
	})
}

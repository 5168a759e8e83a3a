package failpoint

import (
	"errors"
	"testing"
)

func TestFail(t *testing.T) {
	if err := Hit("a.b"); err != nil {
		t.Fatalf("nothing is set, and Hit says %v", err)
	}
	boom := errors.New("boom")
	older := Fail("a.b", errors.New("older"))
	restore := Fail("a.b", boom)
	older() // of one that was replaced
	if err := Hit("a.b"); !errors.Is(err, boom) {
		t.Errorf("Hit says %v, want %v", err, boom)
	}
	if err := Hit("a.c"); err != nil {
		t.Errorf("another point says %v", err)
	}
	restore()
	if err := Hit("a.b"); err != nil {
		t.Errorf("after the end Hit says %v", err)
	}
}

func BenchmarkHit(b *testing.B) {
	for b.Loop() {
		if Hit("a.b") != nil {
			b.Fatal("it fails")
		}
	}
}

package undo_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/undo"
)

func TestRunTakesBackInReverse(t *testing.T) {
	var got []string
	boom := errors.New("boom")
	var s undo.Stack
	s.AddFunc(func() { got = append(got, "first") })
	s.Add(func() error { got = append(got, "second"); return boom })
	s.AddFunc(func() { got = append(got, "third") })

	if err := s.Run(); !errors.Is(err, boom) {
		t.Errorf("Run() = %v, want %v in it", err, boom)
	}
	if diff := cmp.Diff([]string{"third", "second", "first"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if err := s.Run(); err != nil || len(got) != 3 {
		t.Errorf("second Run() = %v and ran %v, want nothing", err, got)
	}
}

func TestKeep(t *testing.T) {
	var s undo.Stack
	s.AddFunc(func() { t.Error("a kept step was taken back") })
	s.Keep()
	if err := s.Run(); err != nil {
		t.Errorf("Run() = %v", err)
	}
}

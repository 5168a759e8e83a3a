package image

import (
	"bytes"
	"fmt"
	"testing"
)

// Images that go while others are listed or measured are left out of the answer, which is no error.
func TestListWhileRemoving(t *testing.T) {
	s := open(t)
	var archives [][]byte
	for n := range 30 {
		archives = append(archives, ociArchive(t, fmt.Sprintf("app:%d", n), small(t, fmt.Sprintf("image %d", n))))
	}
	done := make(chan error, 1)
	go func() {
		for n, a := range archives {
			_, err := s.Load(t.Context(), bytes.NewReader(a), LoadOptions{}, nil)
			if err == nil {
				_, err = s.Remove(t.Context(), fmt.Sprintf("app:%d", n), RemoveOptions{})
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		if _, err := s.List(t.Context(), ListOptions{SharedSize: true, Manifests: true}); err != nil {
			t.Fatalf("list: %v", err)
		}
		if _, err := s.DiskUsage(t.Context()); err != nil {
			t.Fatalf("disk usage: %v", err)
		}
		if _, err := s.Claims(t.Context()); err != nil {
			t.Fatalf("claims: %v", err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

package image

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/api/types/jsonstream"
)

func openTest(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestRealArchives(t *testing.T) {
	files, _ := filepath.Glob("/var/tmp/pimg/*.tar")
	s := openTest(t, t.TempDir())
	for _, f := range files {
		r, err := os.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Load(context.Background(), r, LoadOptions{}, func(m jsonstream.Message) {
			if m.Stream != "" {
				t.Logf("%s", m.Stream)
			}
		})
		r.Close()
		if err != nil {
			t.Errorf("load %s: %v", f, err)
		}
		t.Log(got)
	}
	l, err := s.List(t.Context(), ListOptions{SharedSize: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range l {
		t.Logf("%+v", e)
	}
	img, err := s.Resolve(t.Context(), "nginx")
	if err != nil {
		t.Fatal(err)
	}
	layers, err := s.CreateRootFS(t.Context(), "c1", img)
	t.Logf("%+v %v", layers, err)
	if err := s.RemoveRootFS(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkRootFS(b *testing.B) {
	s, err := Open(context.Background(), Options{Root: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r, err := os.Open("/var/tmp/pimg/nginx_latest.tar")
	if err != nil {
		b.Skip(err)
	}
	if _, err := s.Load(context.Background(), r, LoadOptions{}, nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		img, err := s.Resolve(context.Background(), "nginx")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.CreateRootFS(context.Background(), "c1", img); err != nil {
			b.Fatal(err)
		}
		if err := s.RemoveRootFS(context.Background(), "c1"); err != nil {
			b.Fatal(err)
		}
	}
}

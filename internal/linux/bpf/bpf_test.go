package bpf

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestObjects holds that the committed objects are made of the committed sources.
func TestObjects(t *testing.T) {
	lists, err := filepath.Glob("../*/bpf/sums")
	if err != nil || len(lists) == 0 {
		t.Fatalf("no lists of sums: %v", err)
	}
	for _, list := range lists {
		f, err := os.Open(list)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files := 0
		for lines := bufio.NewScanner(f); lines.Scan(); files++ {
			want, name, _ := strings.Cut(lines.Text(), "  ")
			name = filepath.Join(filepath.Dir(list), "..", name)
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != want {
				t.Errorf("%s is not what the objects were made with: make bpf", name)
			}
		}
		if files < 3 {
			t.Errorf("%s lists %d files", list, files)
		}
	}
}

func TestTime(t *testing.T) {
	now := time.Unix(1000, 0)
	if got := Time(5e9, 8e9, now); !got.Equal(time.Unix(997, 0)) {
		t.Errorf("got %v", got)
	}
}

func TestText(t *testing.T) {
	if got := Text([]int8{'a', 'b', 0, 'c'}); got != "ab" {
		t.Errorf("got %q", got)
	}
}

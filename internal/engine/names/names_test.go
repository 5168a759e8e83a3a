package names

import (
	"slices"
	"testing"
)

func TestValid(t *testing.T) {
	for _, tt := range []struct {
		name string
		want bool
	}{
		{"web", true},
		{"a1", true},
		{"A.b_c-d", true},
		{"9x", true},
		{"a", false},
		{"", false},
		{"-web", false},
		{".web", false},
		{"we b", false},
		{"web/1", false},
		{"wéb", false},
		{"web\n", false},
	} {
		if got := Valid(tt.name); got != tt.want {
			t.Errorf("Valid(%q) = %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestRandomNamesAreValidAndMany(t *testing.T) {
	seen := map[string]bool{}
	for n := range 500 {
		name := Random(n % 2)
		if !Valid(name) {
			t.Errorf("made up %q, which is not allowed", name)
		}
		seen[name] = true
	}
	if len(seen) < 400 {
		t.Errorf("only %d different names in 500", len(seen))
	}
}

func TestWordsAreUnique(t *testing.T) {
	for _, list := range [][]string{adjectives, nouns} {
		sorted := slices.Sorted(slices.Values(list))
		if got := len(slices.Compact(sorted)); got != len(list) {
			t.Errorf("%d of %d words are unique", got, len(list))
		}
	}
}

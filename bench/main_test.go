package main

import (
	"slices"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		of   result
		want float64
	}{
		{result{3}, 3},
		{result{4, 1}, 2.5},
		{result{9, 1, 2}, 2},
		{result{9, 1, 2, 4}, 3},
	} {
		if got := tt.of.median(); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.of, got, tt.want)
		}
	}
}

func TestCells(t *testing.T) {
	b := benchmark{title: "ps", unit: "ms", budget: 8, times: 2}
	for n, title := range map[int]string{4: "ps", 20: "ps (4 of 20)"} {
		want := []string{title, "1, 3 ms", "4, 5 ms", "1.7", "2 times missed"}
		if got := b.cells([]result{{9, 1, 2, 4}, {4, 5, 5, 6}}, n); !slices.Equal(got, want) {
			t.Errorf("cells are %q, want %q", got, want)
		}
	}
}

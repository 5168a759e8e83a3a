package plot

import (
	"fmt"
	"math"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func percent(v float64) string { return fmt.Sprintf("%.0f%%", v) }

func TestDraw(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		name        string
		graph       Graph
		width, rows int
		want        []string
	}{
		{"ramp", Graph{"CPU", []float64{0, 1, 2, 3, 4, 5, 6, 7, 8}, percent, 0}, 15, 2, []string{
			"CPU            ",
			"       8%▕⠀⠀⠀⣠⣾",
			"       0%▕⢀⣠⣾⣿⣿",
		}},
		{"gap is no zero", Graph{"x", []float64{0, 0, nan, nan, 4, 4}, nil, 0}, 13, 1, []string{"x            ", "         ▕⣀⠀⣿"}},
		{"more than there is room for", Graph{"x", []float64{1, 0, 0, 9, nan, nan, 0, 3}, nil, 9}, 12, 1, []string{"x           ", "         ▕⣸⢠"}},
		{"a floor for the scale", Graph{"x", []float64{1, 1}, percent, 100}, 11, 1, []string{"x          ", "     100%▕⣀"}},
		{"nothing", Graph{"empty", nil, percent, 0}, 11, 2, []string{"empty      ", "       1%▕⠀", "       0%▕⠀"}},
		{"title alone", Graph{"a long title", []float64{1}, percent, 0}, 6, 0, []string{"a long"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.graph.Draw(tt.width, tt.rows)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			for _, line := range got {
				if n := utf8.RuneCountInString(line); n != tt.width {
					t.Errorf("%q is %d wide", line, n)
				}
			}
		})
	}
}

func TestBeside(t *testing.T) {
	got := Beside([]string{"ab", "cd"}, []string{"x"}, []string{"1 ", "2 ", "3 "})
	if diff := cmp.Diff([]string{"ab  x  1", "cd     2", "       3"}, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzDraw(f *testing.F) {
	f.Add(1.0, -2.0, 11, 2, 7)
	f.Add(math.Inf(1), math.NaN(), 0, -1, 3)
	f.Fuzz(func(t *testing.T, a, b float64, width, rows, count int) {
		width, rows, count = min(max(width, 0), 300), min(max(rows, -1), 50), min(max(count, 0), 2000)
		values := make([]float64, count)
		for i := range values {
			values[i] = a + b*float64(i)
		}
		for _, line := range (Graph{Title: "t", Values: values, Unit: percent, Min: a}).Draw(width, rows) {
			if utf8.RuneCountInString(line) != width {
				t.Fatalf("%q is not %d wide", line, width)
			}
		}
	})
}

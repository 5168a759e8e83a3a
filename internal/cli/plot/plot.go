// Package plot draws numbers over time with the braille characters of Unicode,
// each of which is two dots wide and four high.
//
//	lines := plot.Graph{Title: "CPU", Values: values, Unit: units.BytesSize}.Draw(40, 4)
package plot

import (
	"math"
	"strings"
	"unicode/utf8"
)

// Graph is one curve. The zero value is an empty one.
type Graph struct {
	Title string
	// Values are in the order of time. Those that are NaN are not known, which
	// leaves a gap.
	Values []float64
	// Unit writes a number for people; nil leaves the scale out.
	Unit func(float64) string
	// Min is what the scale reaches up to at least, so that noise does not look
	// like a peak; 0 for none.
	Min float64
}

// scaleWidth is the room for the numbers at the left edge.
const scaleWidth = 9

// Bars is how many columns of dots a graph of some width has; more values than
// that cannot be told apart.
func Bars(width int) int { return 2 * max(width-scaleWidth-1, 1) }

// Draw returns the graph as lines of exactly width characters: a title, and rows
// of dots with the scale to the left. If there are more values than columns of
// dots the highest of each group is shown; if there are fewer, they stand at the
// right edge. A graph with less than one row is its title alone.
func (g Graph) Draw(width, rows int) []string {
	lines := []string{Fit(g.Title, width)}
	if rows < 1 {
		return lines
	}
	bars := group(g.Values, Bars(width))
	top := g.top(bars)
	for row := range rows {
		label := ""
		switch {
		case g.Unit == nil:
		case row == 0:
			label = g.Unit(top)
		case row == rows-1:
			label = g.Unit(0)
		}
		lines = append(lines, Fit(right(label, scaleWidth)+"▕"+dots(bars, top, rows, row), width))
	}
	return lines
}

// top is the upper end of the scale: the highest value, or a bit above.
func (g Graph) top(bars []float64) float64 {
	top := g.Min
	for _, v := range bars {
		if v > top { // false for NaN
			top = v
		}
	}
	if top <= 0 {
		return 1
	}
	return top
}

// group brings values down to n, and fills up with unknown ones in front.
func group(values []float64, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = math.NaN()
	}
	if len(values) <= n {
		copy(out[n-len(values):], values)
		return out
	}
	for i, v := range values {
		at := i * n / len(values)
		if math.IsNaN(out[at]) || v > out[at] {
			out[at] = v
		}
	}
	return out
}

// Dots of a braille character from the bottom up, by column; 0x2800 is the
// character without any (Unicode, chapter 21.1).
var dotBits = [2][4]rune{{0x40, 0x04, 0x02, 0x01}, {0x80, 0x20, 0x10, 0x08}}

// dots is one row, of which the first is the uppermost.
func dots(bars []float64, top float64, rows, row int) string {
	var b strings.Builder
	below := 4 * (rows - 1 - row) // dots in the rows below
	for i := 0; i+1 < len(bars); i += 2 {
		c := rune(0x2800)
		for side, bits := range dotBits {
			v := bars[i+side]
			if math.IsNaN(v) {
				continue
			}
			// What is there is seen, however little it is; nothing is a dot on the
			// ground, other than a gap.
			height := max(int(math.Ceil(v/top*float64(4*rows))), 1)
			for n, bit := range bits {
				if height > below+n {
					c |= bit
				}
			}
		}
		b.WriteRune(c)
	}
	return b.String()
}

// Fit cuts or fills up text to a width in characters.
func Fit(text string, width int) string {
	n := utf8.RuneCountInString(text)
	if n <= width {
		return text + strings.Repeat(" ", width-n)
	}
	return string([]rune(text)[:max(width, 0)])
}

func right(text string, width int) string {
	return strings.Repeat(" ", max(width-utf8.RuneCountInString(text), 0)) + text
}

// Beside puts blocks of lines next to each other, two characters apart. Blocks
// need not have the same height; each has lines of one width.
func Beside(blocks ...[]string) []string {
	height := 0
	for _, b := range blocks {
		height = max(height, len(b))
	}
	out := make([]string, height)
	for row := range out {
		var parts []string
		for _, b := range blocks {
			line := ""
			if row < len(b) {
				line = b[row]
			} else if len(b) > 0 {
				line = strings.Repeat(" ", utf8.RuneCountInString(b[0]))
			}
			parts = append(parts, line)
		}
		out[row] = strings.TrimRight(strings.Join(parts, "  "), " ")
	}
	return out
}

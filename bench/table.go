package main

import (
	"fmt"
	"io"
	"strings"
)

// A table prints its lines as they come, since a person waits for each: in
// columns, or as Markdown.
type table struct {
	out      io.Writer
	markdown bool
	widths   []int
}

// say prints what is not part of a table.
func (t *table) say(format string, args ...any) { fmt.Fprintf(t.out, format+"\n", args...) }

// begin begins with a line of headings. The columns are as wide as they need to
// be for most of what comes.
func (t *table) begin(head ...string) {
	t.widths = nil
	for i, text := range head {
		width := max(len(text), 20)
		if i == 0 {
			width = max(width, 44)
		}
		t.widths = append(t.widths, width)
	}
	fmt.Fprintln(t.out)
	t.line(head...)
	if t.markdown {
		fmt.Fprintln(t.out, strings.Repeat("| --- ", len(head))+"|")
	}
}

// line prints a line.
func (t *table) line(cells ...string) {
	if t.markdown {
		fmt.Fprintln(t.out, "| "+strings.Join(cells, " | ")+" |")
		return
	}
	var line strings.Builder
	for i, text := range cells {
		fmt.Fprintf(&line, "%-*s  ", t.widths[i], text)
	}
	fmt.Fprintln(t.out, strings.TrimRight(line.String(), " "))
}

// number shows what was measured: three digits, and thousands set apart.
func number(v float64) string {
	switch {
	case v == float64(int(v)) && v < 1000:
		return fmt.Sprintf("%d", int(v))
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	case v < 1000:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%d,%03d", int(v+0.5)/1000, int(v+0.5)%1000)
}

package containers

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// TestPlotFits draws on screens of all sizes: never wider, never higher.
func TestPlotFits(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var b block
	b.title = strings.Repeat("name", 10)
	for i := range 100 {
		b.points.append(point{at: now.Add(time.Duration(i-100) * time.Second), cpu: float64(i), memory: 1e9, read: 3e6})
	}
	for width := 1; width < 230; width += 19 {
		for height := 1; height < 60; height += 4 {
			for _, count := range []int{0, 1, 3, 6} {
				l := lay(width, height, count)
				blocks := make([]block, count)
				for i := range blocks {
					blocks[i] = b
				}
				from, to := l.window(now)
				lines := l.lines(blocks, from, to)
				// A screen that has no room for one container is too small for any rule.
				if least := 4 + 2*len(curves)/l.lanes; len(lines) >= height && height > least {
					t.Fatalf("%dx%d with %d containers: %d lines", width, height, count, len(lines))
				}
				for _, line := range lines[:len(lines)-1] {
					if n := utf8.RuneCountInString(line); n > width && width > 12 && !strings.HasPrefix(line, "…") {
						t.Fatalf("%dx%d with %d containers: %q is %d wide", width, height, count, line, n)
					}
				}
			}
		}
	}
}

func TestPointsFromStats(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var p points
	first := statsEntry{read: at, CPUPercent: 5, Memory: 10, BlockRead: 100, NetworkTx: 50}
	second := statsEntry{read: at.Add(2 * time.Second), CPUPercent: 7, Memory: 20, BlockRead: 300, NetworkTx: 20}
	p.add(statsEntry{}, first)
	p.add(first, second)
	p.add(second, second)
	p.add(second, statsEntry{Stopped: true})
	p.add(second, statsEntry{Invalid: true, read: at.Add(time.Hour)})
	want := points{{at: at, cpu: 5, memory: 10}, {at: at.Add(2 * time.Second), cpu: 7, memory: 20, read: 100}}
	if diff := cmp.Diff(want, p, cmp.AllowUnexported(point{})); diff != "" {
		t.Error(diff)
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	for text, want := range map[string]time.Time{
		"": {}, "10m": now.Add(-10 * time.Minute), "1767323045.5": time.UnixMilli(1767323045500),
		"2026-01-01T02:03:04": time.Date(2026, 1, 1, 2, 3, 4, 0, time.Local), "2026-01-01T02:03:04Z": time.Date(2026, 1, 1, 2, 3, 4, 0, time.UTC),
		"2026-01-01": time.Date(2026, 1, 1, 0, 0, 0, 0, time.Local),
	} {
		if got, err := moment("since", text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	if _, err := moment("since", "yesterday", now); err == nil || !strings.Contains(err.Error(), `"--since"`) {
		t.Error(err)
	}
}

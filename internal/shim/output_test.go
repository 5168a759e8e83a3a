package shim

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	start := time.Unix(1000, 0)
	type read struct {
		at   time.Duration // after the start
		n    int
		want bool
	}
	tests := []struct {
		name  string
		reads []read
	}{
		{"a prompt", []read{{0, 10, false}, {time.Second, 10, false}}},
		{"a line now and then", []read{{0, 60, false}, {time.Millisecond, 60, false}, {2 * time.Millisecond, 60, false}, {5 * time.Millisecond, 60, false}}},
		{"a burst", []read{{0, 40 << 10, false}, {time.Millisecond, 40 << 10, true}, {3 * time.Millisecond, 100, true}, {6 * time.Millisecond, 100, false}}},
		{"a full chunk has more behind it", []read{{0, chunkSize, false}, {time.Millisecond, chunkSize, false}, {time.Millisecond, 100, true}}},
		{"after a pause", []read{{0, chunkSize, false}, {time.Millisecond, 100, true}, {time.Second, 100, false}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p pace
			for i, r := range tt.reads {
				if got := p.hot(r.n, start.Add(r.at)); got != r.want {
					t.Errorf("read %d of %d bytes: hot is %v", i, r.n, got)
				}
			}
		})
	}
}

package sample_test

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/portholehq/porthole/internal/record/sample"
)

// A container that keeps half a processor busy, seen in two columns.
func Example() {
	dir, err := os.MkdirTemp("", "samples")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "samples")
	w, err := sample.OpenWriter(path, sample.Options{})
	if err != nil {
		panic(err)
	}
	defer w.Close()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for n := range 60 {
		at := time.Duration(n) * time.Second
		s := sample.Sample{Time: start.Add(at), Known: sample.KnownCPU, CPUUsage: uint64(at / 2)}
		if err := w.Append(&s); err != nil {
			panic(err)
		}
	}

	r, err := sample.Open(path)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	list, err := r.Range(start, start.Add(time.Minute))
	if err != nil {
		panic(err)
	}
	for _, c := range sample.Downsample(list, start, start.Add(time.Minute), 2, 0) {
		fmt.Printf("%s %.1f processors\n", c.From.Format(time.TimeOnly), c.Mean.CPU)
	}
	// Output:
	// 03:04:05 0.5 processors
	// 03:04:35 0.5 processors
}

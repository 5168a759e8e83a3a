// Package procfile reads what processes say of themselves in /proc.
//
// A process chooses how long its command line and its environment are: by
// PR_SET_MM_MAP (prctl(2)), for which no capability is needed, it makes them any
// of its memory, of which it may have mapped terabytes that are all one page of
// zeros. So nobody reads cmdline or environ without a bound.
package procfile

import (
	"io"
	"os"
)

// Longest is as much of a command line or an environment as ps(1) of procps shows.
const Longest = 128 << 10

// Read returns the beginning of a file, at most so many bytes of it.
func Read(path string, most int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(most)))
}

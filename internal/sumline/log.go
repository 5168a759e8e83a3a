package sumline

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/portholehq/porthole/internal/atomicfile"
	"github.com/portholehq/porthole/internal/failpoint"
)

// Log is a file of lines with checksums, one JSON object each, the oldest first,
// that keeps the last ones. What a crash or a full disk has torn is passed over.
// When there are twice as many as are kept, the file is replaced by one with the
// last of them, so that it is bounded. Only one Log of a file is open at a time, and
// its methods are called by one goroutine; [ReadLog] reads it meanwhile.
type Log[T any] struct {
	path  string
	keep  int
	file  *os.File
	lines int
	torn  bool                                       // the file ends with half a line
	write func(f *os.File, line []byte) (int, error) // File.Write, but in tests
}

// OpenLog opens or creates the log at path, which keeps so many lines at least, and
// returns what it holds. A damaged one is replaced by what is good in it.
func OpenLog[T any](path string, keep int) (*Log[T], []T, error) {
	list, damaged, err := readLog[T](path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	l := &Log[T]{path: path, keep: keep, lines: len(list), write: (*os.File).Write}
	if damaged > 0 {
		if err := l.replace(list); err != nil {
			return nil, nil, fmt.Errorf("mend log %q: %w", path, err)
		}
	}
	if err := l.open(); err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	return l, list, nil
}

func (l *Log[T]) open() (err error) {
	l.file, err = os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	return err
}

// Close closes the file.
func (l *Log[T]) Close() error { return l.file.Close() }

// Append adds lines by one write. They are with the kernel when Append returns.
func (l *Log[T]) Append(list ...T) error {
	var text []byte
	if l.torn {
		text = append(text, '\n')
	}
	text, err := encodeLog(text, list)
	if err != nil {
		return fmt.Errorf("append to log %q: %w", l.path, err)
	}
	if err := failpoint.Hit("sumline.write"); err != nil {
		return fmt.Errorf("append to log: %w", err)
	}
	if n, err := l.write(l.file, text); err != nil {
		l.torn = l.torn || n > 0 // the next one must not join what a full disk has cut
		return fmt.Errorf("append to log: %w", err)
	}
	l.torn = false
	l.lines += len(list)
	if l.lines < 2*l.keep {
		return nil
	}
	if err := l.shrink(); err != nil {
		return fmt.Errorf("shrink log: %w", err)
	}
	return nil
}

// shrink leaves the last lines.
func (l *Log[T]) shrink() error {
	list, _, err := readLog[T](l.path)
	if err != nil {
		return err
	}
	list = list[max(0, len(list)-l.keep):]
	if err := l.replace(list); err != nil {
		return err
	}
	l.lines = len(list)
	old := l.file
	if err := l.open(); err != nil {
		l.file = old
		return err
	}
	return old.Close()
}

func (l *Log[T]) replace(list []T) error {
	text, err := encodeLog(nil, list)
	if err != nil {
		return err
	}
	return atomicfile.Write(l.path, text, 0o600)
}

func encodeLog[T any](b []byte, list []T) ([]byte, error) {
	for _, r := range list {
		object, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		b = Append(b, object)
	}
	return b, nil
}

// ReadLog returns what the log at path holds, the oldest first. The error is
// fs.ErrNotExist if there is none.
func ReadLog[T any](path string) ([]T, error) {
	list, _, err := readLog[T](path)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	return list, nil
}

func readLog[T any](path string) (list []T, damaged int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var r T
			object, bad := Cut(line)
			if bad == nil {
				bad = json.Unmarshal(object, &r)
			}
			if bad == nil {
				list = append(list, r)
			} else {
				damaged++
			}
		}
		if errors.Is(err, io.EOF) {
			return list, damaged, nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
}

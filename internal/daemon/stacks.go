package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// DumpStacks writes the stacks of all goroutines to a new file in dir and
// returns its path.
func DumpStacks(dir string) (string, error) {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	stamp := strings.ReplaceAll(time.Now().Format(time.RFC3339), ":", "")
	path := filepath.Join(dir, "goroutine-stacks-"+stamp+".log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return "", fmt.Errorf("dump goroutine stacks: %w", err)
	}
	_, err = f.Write(buf)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("dump goroutine stacks: %w", err)
	}
	return path, nil
}

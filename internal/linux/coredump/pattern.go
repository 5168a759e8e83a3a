package coredump

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// SocketName is how a socket for cores is called, so that one is known whose daemon
// has gone without putting back what it found.
const SocketName = "porthole-cores.sock"

// patternFile holds what becomes of cores; see core(5).
const patternFile = "/proc/sys/kernel/core_pattern"

// kernelDefault is what it holds if nobody has ever chosen. An empty text is a
// choice: there are no cores then, see core(5).
const kernelDefault = "core"

// longestPattern is what the kernel keeps of the text (CORENAME_MAX_SIZE, with the
// zero at its end).
const longestPattern = 127

// TakenError says that somebody has chosen what becomes of cores.
type TakenError struct{ Pattern string }

func (e *TakenError) Error() string {
	if e.Pattern == "" {
		return fmt.Sprintf("there are to be no cores on this machine (%s is empty), which is respected", patternFile)
	}
	return fmt.Sprintf("cores of this machine go to %q already (%s), which is respected", e.Pattern, patternFile)
}

// Pattern is what the kernel does with cores now.
func Pattern() (string, error) {
	text, err := os.ReadFile(patternFile)
	return strings.TrimSuffix(string(text), "\n"), err
}

func setPattern(text string) error { return os.WriteFile(patternFile, []byte(text), 0) }

// patternOf is what makes the kernel connect to a socket. The kernel follows no
// links on the way.
func patternOf(socket string) (string, error) {
	dir, err := filepath.EvalSymlinks(filepath.Dir(socket))
	if err != nil {
		return "", err
	}
	text := "@@" + filepath.Join(dir, filepath.Base(socket))
	if len(text) > longestPattern || len(text)-len("@@") >= len(syscall.RawSockaddrUnix{}.Path) {
		return "", fmt.Errorf("the path of the socket is too long for the kernel: %q", socket)
	}
	return text, nil
}

// free reports nil if a pattern is nobody's: the kernel's own, that of the socket
// itself, or of one like it behind which nobody is any more.
func free(pattern, own string) error {
	if pattern == kernelDefault || pattern == own || abandoned(pattern) {
		return nil
	}
	return &TakenError{pattern}
}

// abandoned tells whether a pattern was left by a daemon that is gone.
func abandoned(pattern string) bool {
	path, ok := strings.CutPrefix(pattern, "@@")
	if !ok || filepath.Base(path) != SocketName {
		return false
	}
	conn, err := net.Dial("unix", path) //nolint:noctx // a connection to a unix socket does not wait
	if err == nil {
		_ = conn.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// Restore puts the kernel's default back where a daemon with this socket, which must
// not run any more, has left its own; and tells whether it has.
func Restore(socket string) (bool, error) {
	now, err := Pattern()
	if err != nil || !strings.HasPrefix(now, "@@") {
		return false, err
	}
	own, err := patternOf(socket)
	if err != nil {
		return false, err
	}
	if now != own && !abandoned(now) {
		return false, nil
	}
	return true, setPattern(kernelDefault)
}

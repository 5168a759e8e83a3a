package layers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// IsWhiteout tells that overlayfs notes here that a file is gone.
func IsWhiteout(st *unix.Stat_t) bool { return kind(st) == unix.S_IFCHR && st.Rdev == 0 }

// Notes are what overlayfs keeps with a directory of a layer.
type Notes struct {
	Opaque     bool // nothing of the layers below is seen through it
	Redirected bool // it has another name in the layers below
}

// ReadNotes reads them; dir may be open for looking only.
func ReadNotes(dir *os.File) (Notes, error) {
	at := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	buf := make([]byte, 1024)
	size, err := unix.Listxattr(at, buf)
	switch {
	case errors.Is(err, unix.ENOTSUP):
		return Notes{}, nil
	case errors.Is(err, unix.ERANGE):
		buf = make([]byte, 64<<10) // XATTR_LIST_MAX
		size, err = unix.Listxattr(at, buf)
	}
	if err != nil {
		return Notes{}, err
	}
	var n Notes
	for name := range strings.SplitSeq(string(buf[:size]), "\x00") {
		switch name {
		case "trusted.overlay.opaque":
			value := make([]byte, 8)
			k, err := unix.Getxattr(at, name, value)
			// "x" is for directories whose whiteouts are attributes; it does
			// not make them opaque.
			n.Opaque = err == nil && string(value[:k]) == "y"
		case "trusted.overlay.redirect":
			n.Redirected = true
		}
	}
	return n, nil
}

// SameContent compares two files to their ends.
func SameContent(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errX := io.ReadFull(a, x)
		m, errY := io.ReadFull(b, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if errX != nil || errY != nil {
			return errors.Is(errX, errY) || isEnd(errX) && isEnd(errY), ignoreEnd(errX)
		}
	}
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func ignoreEnd(err error) error {
	if isEnd(err) {
		return nil
	}
	return err
}

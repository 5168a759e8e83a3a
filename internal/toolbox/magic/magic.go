// Package magic tells what a file is by its content, in the words of file(1).
//
// It knows what is met in images and containers: programs and libraries, scripts,
// archives and compressed files, pictures, certificates, databases and text. It
// is no library of thousands of patterns: what it does not know is "data".
//
//	k, err := magic.Of(path, false)
package magic

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// A Kind is what a file is, in words and as a MIME type with its encoding:
// "text/plain", "us-ascii".
type Kind struct {
	Text, Type, Encoding string
}

// headSize is how much of a file is looked at, but of ELF files.
const headSize = 1 << 16

// Of tells what a file is. A link is itself, or what it leads to if follow is
// set. Neither a pipe nor a device is read.
func Of(path string, follow bool) (Kind, error) {
	info, err := os.Lstat(path)
	if err == nil && follow && info.Mode()&fs.ModeSymlink != 0 {
		if target, statErr := os.Stat(path); statErr == nil {
			info = target
		}
	}
	if err != nil {
		return Kind{}, err
	}
	if k, special := special(path, info); special {
		return k, nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return Kind{"regular file, no read permission", "application/octet-stream", "binary"}, nil
		}
		return Kind{}, err
	}
	defer f.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return Kind{}, err
	}
	return Content(head[:n], f), nil
}

func special(path string, info fs.FileInfo) (Kind, bool) {
	inode := func(text, kind string) (Kind, bool) { return Kind{text, "inode/" + kind, "binary"}, true }
	mode := info.Mode()
	device := func() string {
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			return ""
		}
		return fmt.Sprintf(" (%d/%d)", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	sticky := ""
	if mode&fs.ModeSticky != 0 {
		sticky = "sticky, "
	}
	switch {
	case mode.IsDir():
		return inode(sticky+"directory", "directory")
	case mode&fs.ModeSymlink != 0:
		to, err := os.Readlink(path)
		if err != nil {
			return inode("unreadable symbolic link", "symlink")
		}
		if _, err := os.Stat(path); err != nil {
			return inode("broken symbolic link to "+to, "symlink")
		}
		return inode("symbolic link to "+to, "symlink")
	case mode&fs.ModeNamedPipe != 0:
		return inode("fifo (named pipe)", "fifo")
	case mode&fs.ModeSocket != 0:
		return inode("socket", "socket")
	case mode&fs.ModeCharDevice != 0:
		return inode("character special"+device(), "chardevice")
	case mode&fs.ModeDevice != 0:
		return inode("block special"+device(), "blockdevice")
	case info.Size() == 0 && mode.IsRegular():
		// Files of /proc have no size, but content.
		if f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			defer f.Close()
			if n, _ := f.Read(make([]byte, 1)); n > 0 {
				return Kind{}, false
			}
		}
		return inode("empty", "x-empty")
	}
	return Kind{}, false
}

// Content tells what content is that begins so. whole is the whole of it, for
// formats that have to be read elsewhere too; nil: there is no more.
func Content(head []byte, whole io.ReaderAt) Kind {
	if whole == nil {
		whole = bytes.NewReader(head)
	}
	if len(head) == 0 {
		return Kind{"empty", "inode/x-empty", "binary"}
	}
	if bytes.HasPrefix(head, []byte("\x7fELF")) {
		return elfKind(whole)
	}
	for _, p := range patterns {
		if len(head) >= p.at+len(p.bytes) && string(head[p.at:p.at+len(p.bytes)]) == p.bytes {
			k := Kind{p.text, p.kind, "binary"}
			if p.more != nil {
				k.Text += p.more(head)
			}
			return k
		}
	}
	if k, ok := textKind(head); ok {
		return k
	}
	return Kind{"data", "application/octet-stream", "binary"}
}

package vi

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// buffer is the text of a file: lines without their ends, always one at least.
type buffer struct {
	lines []string
	// crlf: lines end as on Windows; all of them.
	crlf bool
	// noEnd: the last line has no end.
	noEnd bool
	// wasLine: the file is one empty line, not nothing.
	wasLine bool
	// odd: bytes that are no text stand in the lines as characters from [oddByte] on.
	odd bool
}

// oddByte is the first of 256 characters for private use, which stand for bytes.
const oddByte = 0x10ff00

// sizeMost bounds what is edited; it is all in memory, with what undoes changes.
const sizeMost = 64 << 20

var errTooLarge = errors.New("file is larger than 64 MiB")

func parse(data []byte) buffer {
	b := buffer{noEnd: len(data) > 0 && data[len(data)-1] != '\n', odd: !utf8.Valid(data)}
	if b.odd {
		data = fromOdd(data)
	}
	text := strings.TrimSuffix(string(data), "\n")
	b.wasLine = string(data) == "\n"
	b.lines = strings.Split(text, "\n")
	b.crlf = bytes.Count(data, []byte("\n")) > 0 && bytes.Count(data, []byte("\r\n")) == bytes.Count(data, []byte("\n"))
	if b.crlf {
		for i := range b.lines {
			b.lines[i] = strings.TrimSuffix(b.lines[i], "\r")
		}
	}
	return b
}

// bytes is lines from to (not included) as they are written.
func (b *buffer) bytes(from, to int) []byte {
	end := "\n"
	if b.crlf {
		end = "\r\n"
	}
	text := strings.Join(b.lines[from:to], end)
	if to != len(b.lines) || !b.noEnd && (len(b.lines) > 1 || b.lines[0] != "" || b.wasLine) {
		text += end
	}
	if b.odd {
		return toOdd(text)
	}
	return []byte(text)
}

// fromOdd gives bytes that are no text their characters, and toOdd takes them
// back.
func fromOdd(data []byte) []byte {
	var out []byte
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			r = oddByte + rune(data[0])
		}
		out, data = utf8.AppendRune(out, r), data[n:]
	}
	return out
}

func toOdd(text string) []byte {
	var out []byte
	for _, r := range text {
		if r >= oddByte && r <= oddByte+0xff {
			out = append(out, byte(r-oddByte))
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

// read reads a file; one that is not there is empty.
func read(name string) (b buffer, isNew bool, err error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return parse(nil), true, nil
	}
	switch {
	case err != nil:
		return b, false, err
	case info.IsDir():
		return b, false, &fs.PathError{Op: "edit", Path: name, Err: errors.New("is a directory")}
	case !info.Mode().IsRegular():
		return b, false, &fs.PathError{Op: "edit", Path: name, Err: errors.New("is no regular file")}
	case info.Size() > sizeMost:
		return b, false, errTooLarge
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return b, false, err
	}
	return parse(data), false, nil
}

// write writes a file in its place, so that its owner, its mode and whoever has
// it open or mounted stay. Where the disk is full, what was in it is written
// back as far as there is room.
func write(name string, data []byte) error {
	old, readErr := os.ReadFile(name)
	f, err := os.OpenFile(filepath.Clean(name), os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	} else if readErr == nil {
		_, _ = f.WriteAt(old, 0) // its blocks are there yet
		_ = f.Truncate(int64(len(old)))
	}
	return errors.Join(err, f.Close())
}

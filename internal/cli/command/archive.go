package command

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Archive is where an archive is written: a file that appears whole or not at
// all, or standard output.
type Archive struct {
	w    io.Writer
	file *os.File
	path string
}

// OpenArchive opens path, or standard output if it is empty, which then may
// not be a terminal. doing names the work in an error.
func (a *App) OpenArchive(path, doing string) (*Archive, error) {
	if path == "" {
		if a.OutIsTerminal() {
			return nil, errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
		}
		return &Archive{w: a.Out}, nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		if info.IsDir() {
			return nil, fmt.Errorf("failed to %s: cannot write to a directory", doing)
		}
		// A device or a pipe is written as it is.
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("failed to %s: %w", doing, err)
		}
		return &Archive{w: f, file: f}, nil
	}
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("failed to %s: invalid output path: %w", doing, err)
	}
	f, err := os.CreateTemp(dir, ".porthole-*")
	if err != nil {
		return nil, fmt.Errorf("failed to %s: %w", doing, err)
	}
	return &Archive{w: f, file: f, path: path}, nil
}

// Fill copies r into the archive and puts it in place.
func (o *Archive) Fill(r io.Reader) error {
	if _, err := io.Copy(o.w, r); err != nil {
		return err
	}
	return o.place()
}

// FillWithHoles is Fill for what has much of nothing in it: pages of zeros take no
// room in a file.
func (o *Archive) FillWithHoles(r io.Reader) error {
	if o.path == "" {
		return o.Fill(r)
	}
	in := bufio.NewReaderSize(r, holeSize)
	zeros := make([]byte, holeSize)
	for size := int64(0); ; {
		page, err := in.Peek(holeSize)
		if !bytes.Equal(page, zeros[:len(page)]) {
			if _, err := o.file.WriteAt(page, size); err != nil {
				return err
			}
		}
		size += int64(len(page))
		_, _ = in.Discard(len(page)) // they are there
		if errors.Is(err, io.EOF) {
			if err := o.file.Truncate(size); err != nil {
				return err
			}
			return o.place()
		}
		if err != nil {
			return err
		}
	}
}

// holeSize is the least that becomes a hole.
const holeSize = 4096

// place puts a file in place.
func (o *Archive) place() error {
	if o.file == nil {
		return nil
	}
	if err := o.file.Close(); err != nil {
		return err
	}
	if o.path == "" {
		o.file = nil
		return nil
	}
	if err := os.Rename(o.file.Name(), o.path); err != nil {
		return err
	}
	o.file = nil
	return nil
}

// Discard takes an unfinished archive away. It does nothing after Fill
// has succeeded.
func (o *Archive) Discard() {
	if o.file == nil {
		return
	}
	_ = o.file.Close()
	if o.path != "" {
		_ = os.Remove(o.file.Name())
	}
}

package tartree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// xzMemory bounds what the dictionary of an archive may need: xz -9 makes one of
// 64 MiB, and the format could ask for 1.5 GiB.
const xzMemory = "--memlimit-decompress=100MiB"

// xzStream is what the program xz unpacks. As with Docker there is no library for
// it in this process: the format lets an archive of a few bytes ask for any
// amount of memory.
type xzStream struct {
	io.Reader
	cmd    *exec.Cmd
	cancel context.CancelFunc
	said   bytes.Buffer
}

func unpackXZ(ctx context.Context, packed io.Reader) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &xzStream{cmd: exec.CommandContext(ctx, "xz", "-d", "-c", "-q", xzMemory), cancel: cancel}
	s.cmd.Stdin, s.cmd.Stderr = packed, &s.said
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		cancel()
		if errors.Is(err, exec.ErrNotFound) {
			err = errors.New("it is packed with xz, and this machine has no program of that name")
		}
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	s.Reader = out
	return s, nil
}

// Read reads what was unpacked. At its end it tells whether the whole of it was
// good.
func (s *xzStream) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if bad := s.cmd.Wait(); bad != nil {
		return n, fmt.Errorf("xz: %w: %s", bad, strings.TrimSpace(s.said.String()))
	}
	s.Reader = eof{}
	return n, io.EOF
}

// Close ends the program, if it still runs.
func (s *xzStream) Close() error {
	s.cancel()
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Wait() // it was killed
	}
	return nil
}

// eof is an empty stream, which may be read again at its end.
type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

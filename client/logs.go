package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/api"
)

// LogsOptions select lines of a container's log: Docker's options, and ours.
type LogsOptions struct {
	mobyclient.ContainerLogsOptions
	// Always follows until the container is removed, over all its runs.
	Always bool
	// After leaves out the lines up to this number: where an earlier call ended.
	After uint64
	// Run leaves out what other runs have written; 0: nothing.
	Run int
	// Grep is a regular expression (RE2) that lines must match; empty: all do.
	Grep string
	// OpenStdout and OpenStderr are how many bytes of a line that was not
	// complete the earlier call has brought.
	OpenStdout, OpenStderr uint64
	// Idle is called when nothing more is there to be read at the moment; may be
	// nil.
	Idle func()
}

func (o LogsOptions) path(ctx context.Context, container, format string) (string, error) {
	docker := o.ContainerLogsOptions
	query, err := queryOf(func(lib *mobyclient.Client) error {
		_, err := lib.ContainerLogs(ctx, "x", docker)
		return err
	})
	if err != nil {
		return "", err
	}
	set := func(key, value string, given bool) {
		if given {
			query.Set(key, value)
		}
	}
	set("follow", "always", o.Always)
	set("after", strconv.FormatUint(o.After, 10), o.After > 0)
	set("run", strconv.Itoa(o.Run), o.Run != 0)
	set("grep", o.Grep, o.Grep != "")
	set("open_stdout", strconv.FormatUint(o.OpenStdout, 10), o.OpenStdout > 0)
	set("open_stderr", strconv.FormatUint(o.OpenStderr, 10), o.OpenStderr > 0)
	set("format", format, format != "")
	return "/porthole/containers/" + url.PathEscape(container) + "/logs?" + query.Encode(), nil
}

// LogFrame is a piece of a log: a line, some of one, or a notice.
type LogFrame struct {
	// Stream is 1 or 2; 0 for a notice.
	Stream byte
	// Text is valid until the function that got it returns.
	Text []byte
	// Continued says that it goes on with the last line of the stream.
	Continued bool
	// Number is that of the last line read so far, for LogsOptions.After.
	Number uint64
	// Notice is nil for output.
	Notice *api.LogNotice
}

// maxFrame bounds a frame: most lines come in pieces of 1 MiB, and all of them in
// pieces of less than 40.
const maxFrame = 64 << 20

// Logs calls fn for each piece of a container's log. It returns nil when the log
// has ended, io.ErrUnexpectedEOF when the daemon has gone away, the cause of ctx
// when that ends first, or what fn returned. Of a Docker Engine it is
// [ErrNotPorthole].
func (c *Client) Logs(ctx context.Context, container string, o LogsOptions, fn func(LogFrame) error) error {
	path, err := o.path(ctx, container, "")
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	in := logReader{r: bufio.NewReaderSize(resp.Body, 64<<10), idle: o.Idle, number: o.After}
	for {
		frame, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return streamFailure(ctx, err)
		}
		if err := fn(frame); err != nil {
			return err
		}
	}
}

// logReader reads frames, see [api.LogFramesType].
type logReader struct {
	r      *bufio.Reader
	idle   func()
	number uint64
	buf    []byte
}

// next returns the next frame; io.EOF in the end.
func (l *logReader) next() (LogFrame, error) {
	const head = 8
	if l.r.Buffered() < head && l.idle != nil {
		l.idle()
	}
	var h [head]byte
	if _, err := io.ReadFull(l.r, h[:]); err != nil {
		return LogFrame{}, err
	}
	size := int(binary.BigEndian.Uint32(h[4:]))
	if size > maxFrame {
		return LogFrame{}, fmt.Errorf("log frame of %d bytes", size)
	}
	if cap(l.buf) < size {
		l.buf = make([]byte, size)
	}
	l.buf = l.buf[:size]
	if l.r.Buffered() < size && l.idle != nil {
		l.idle()
	}
	if _, err := io.ReadFull(l.r, l.buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return LogFrame{}, err
	}
	l.number += uint64(binary.BigEndian.Uint16(h[2:]))
	switch h[0] {
	case 1, 2:
		return LogFrame{Stream: h[0], Text: l.buf, Continued: h[1]&api.LogContinued != 0, Number: l.number}, nil
	case api.LogMark:
		n := new(api.LogNotice)
		if err := json.Unmarshal(l.buf, n); err != nil {
			return LogFrame{}, fmt.Errorf("read log notice: %w", err)
		}
		l.number = n.Number
		return LogFrame{Number: l.number, Notice: n}, nil
	case api.LogFailure:
		return LogFrame{}, errors.New("error from daemon in stream: " + string(l.buf))
	}
	return LogFrame{}, fmt.Errorf("log frame of kind %d", h[0])
}

// IsGone tells whether an error of this package means that the daemon is not there,
// or has gone away amidst an answer.
func IsGone(err error) bool {
	_, failed := errors.AsType[*net.OpError](err)
	return failed || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// LogLines is Logs with whole lines as objects; raw is the JSON that line was
// read from, without a newline.
func (c *Client) LogLines(ctx context.Context, container string, o LogsOptions, fn func(raw []byte, line api.LogLine) error) error {
	path, err := o.path(ctx, container, "json")
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	dec := json.NewDecoder(resp.Body)
	for {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return streamFailure(ctx, err)
		}
		var line struct {
			api.LogLine
			api.Error
		}
		if err := json.Unmarshal(raw, &line); err != nil {
			return fmt.Errorf("read log line: %w", err)
		}
		if line.Message != "" {
			return errors.New("error from daemon in stream: " + line.Message)
		}
		if err := fn(raw, line.LogLine); err != nil {
			return err
		}
	}
}

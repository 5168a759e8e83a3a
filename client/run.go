package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	mobyclient "github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/api"
)

// RunOptions say what container [Client.Run] creates, and which of its streams
// are wanted. Its process must not have a terminal.
type RunOptions struct {
	Name     string            // empty: the daemon makes one up
	Platform *ocispec.Platform // nil: the daemon's
	Request  container.CreateRequest

	Stdin, Stdout, Stderr bool
}

// Run creates a container and starts it, by one request where Docker's API
// needs up to five. Without any stream it returns once the container is started
// or that has failed, see [Run.End]; with one once the container is created,
// and the caller closes the Run. An error means that there is no container.
// [ErrNotPorthole] means that the daemon has to be asked in Docker's way.
func (c *Client) Run(ctx context.Context, o RunOptions) (*Run, error) {
	if h := o.Request.HostConfig; h != nil { // as Docker's library does
		normal := *h
		normal.CapAdd, normal.CapDrop = normalCaps(h.CapAdd), normalCaps(h.CapDrop)
		o.Request.HostConfig = &normal
	}
	query := url.Values{}
	if o.Name != "" {
		query.Set("name", o.Name)
	}
	if p := o.Platform; p != nil && p.OS != "" {
		query.Set("platform", path.Join(p.OS, p.Architecture, p.Variant))
	}
	for name, wanted := range map[string]bool{"stdin": o.Stdin, "stdout": o.Stdout, "stderr": o.Stderr} {
		if wanted {
			query.Set(name, "1")
		}
	}
	const endpoint = "/porthole/containers/run"
	if !o.Stdin && !o.Stdout && !o.Stderr {
		return c.runDetached(ctx, endpoint+"?"+query.Encode(), o.Request)
	}
	stream, header, err := c.upgrade(ctx, endpoint+"?"+query.Encode(), o.Request)
	if err != nil {
		return nil, err
	}
	run := &Run{EndedStream: stream}
	var created container.CreateResponse
	if err := json.Unmarshal([]byte(header.Get(api.CreatedHeader)), &created); err != nil {
		return nil, errors.Join(fmt.Errorf("read answer of %s: %w", endpoint, err), stream.Close())
	}
	run.ID, run.Warnings = created.ID, created.Warnings
	return run, nil
}

func (c *Client) runDetached(ctx context.Context, path string, body any) (*Run, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	resp, err := c.send(ctx, http.MethodPost, path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var out api.Started
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out); err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", path, err)
	}
	return &Run{ID: out.ID, Warnings: out.Warnings, EndedStream: &EndedStream{c: c, end: &api.End{Refused: out.Refused}}}, nil
}

// normalCaps writes capabilities in their long form, each once.
func normalCaps(caps []string) []string {
	out := slices.Clone(caps)
	for i, name := range out {
		name = strings.ToUpper(name)
		if name != "ALL" && !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		out[i] = name
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Run is a container that [Client.Run] has created.
type Run struct {
	ID       string
	Warnings []string
	*EndedStream
}

// Exec runs one more process in a running container, by one request where
// Docker's API needs four. The process must not have a terminal. The caller
// closes the stream. [ErrNotPorthole] is as for Run.
func (c *Client) Exec(ctx context.Context, name string, req container.ExecCreateRequest) (*EndedStream, error) {
	stream, _, err := c.upgrade(ctx, "/porthole/containers/"+url.PathEscape(name)+"/exec", req)
	return stream, err
}

// upgrade sends a request that takes its connection over.
func (c *Client) upgrade(ctx context.Context, path string, body any) (*EndedStream, http.Header, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+mobyclient.DummyHost+path, bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	conn, err := c.Dialer()(ctx)
	if err != nil {
		return nil, nil, c.unreachable(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	r := bufio.NewReader(conn)
	resp, err := func() (*http.Response, error) {
		if err := req.Write(conn); err != nil {
			return nil, err
		}
		return http.ReadResponse(r, req)
	}()
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = c.refused(resp)
	} else if err != nil {
		err = c.unreachable(ctx, err)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return &EndedStream{c: c, conn: conn, r: r}, resp.Header, nil
}

// EndedStream is the connection to a process: Docker's frames of output come
// out of it, and what is written to it is the process's input. Once all output
// was read it tells how the process has ended.
type EndedStream struct {
	c    *Client
	conn net.Conn
	r    *bufio.Reader
	left uint64 // bytes of the present frame, its head included, still to be read
	end  *api.End
}

// The head of a frame: the stream, three zero bytes, and the length of what
// follows, big endian.
const frameHead = 8

// Read reads output. io.EOF comes after its end, also if the daemon has ended
// before it could tell the process's.
func (s *EndedStream) Read(p []byte) (int, error) {
	if s.end != nil || len(p) == 0 {
		return 0, io.EOF
	}
	if s.left == 0 {
		head, err := s.r.Peek(frameHead)
		if err != nil {
			return 0, io.EOF
		}
		length := binary.BigEndian.Uint32(head[4:])
		if head[0] == api.EndFrame {
			return 0, s.readEnd(int64(length))
		}
		s.left = frameHead + uint64(length)
	}
	n, err := s.r.Read(p[:min(uint64(len(p)), s.left)])
	s.left -= uint64(n)
	return n, err
}

func (s *EndedStream) readEnd(length int64) error {
	if _, err := s.r.Discard(frameHead); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(s.r, min(length, maxAnswer)))
	if err != nil {
		return err
	}
	end := new(api.End)
	if err := json.Unmarshal(text, end); err != nil {
		return fmt.Errorf("read how the process has ended: %w", err)
	}
	s.end = end
	return io.EOF
}

// Write sends input.
func (s *EndedStream) Write(p []byte) (int, error) { return s.conn.Write(p) }

// CloseWrite ends the input.
func (s *EndedStream) CloseWrite() error {
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// Close ends the connection. The process goes on.
func (s *EndedStream) Close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}

// End tells how the process has ended, nil if that is not known. It is to be
// called after the last Read. An error is why the process was not started.
func (s *EndedStream) End() (*api.End, error) {
	if s.end == nil || s.end.Refused == nil {
		return s.end, nil
	}
	e := s.end.Refused
	s.c.refusals.add(refusal{Error: e.Error, status: e.Status})
	return nil, newDaemonError(e.Message, e.Status)
}

package server

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/problem"
)

// containerRun creates a container, attaches the client, starts and waits, for
// our own command line: in place of five requests.
//
//	client                                server
//	POST /porthole/containers/run?stdout=1&stderr=1
//	Connection: Upgrade, Upgrade: tcp; body as of /containers/create
//	                                   ←  HTTP/1.1 101 UPGRADED
//	                                      Porthole-Created: {"Id": …, "Warnings": […]}
//	stdin bytes                        →
//	                                   ←  {1 or 2,0,0,0, length} output …
//	                                   ←  {4,0,0,0, length} api.End
//
// Without any stream the answer is an api.Started, once the container is started.
func (s *Server) containerRun(r *request) error {
	req, platform, warnings, err := readCreate(r)
	if err != nil {
		return err
	}
	o := engine.RunOptions{Name: r.form.Get("name"), Request: req, Platform: platform, Attach: attachOptions(r)}
	if !o.Attach.Stdin && !o.Attach.Stdout && !o.Attach.Stderr {
		return s.runDetached(r, o, warnings)
	}
	if req.Config.Tty {
		return invalid("a terminal needs the requests of the Engine API")
	}
	h, ctx, err := s.hijack(r)
	if err != nil {
		return err
	}
	defer h.end()
	var out *endedStream
	end, err := s.backend.ContainerRun(ctx, o, func(c container.CreateResponse) (engine.Stream, error) {
		c.Warnings = nonNil(append(c.Warnings, warnings...))
		text, err := json.Marshal(c)
		if err != nil {
			return nil, err
		}
		r.w.Header().Set(api.CreatedHeader, asciiJSON(string(text)))
		out, err = h.openEnded()
		return out, err
	})
	if err != nil {
		return h.ended(ctx, err)
	}
	return out.end(api.End{
		ExitCode: int(end.Exit.StatusCode), WaitError: waitError(end.Exit), Detached: end.Detached,
		Refused: s.refused(r, "/containers/"+r.name+"/start", end.Start),
	})
}

func waitError(w container.WaitResponse) string {
	if w.Error == nil {
		return ""
	}
	return w.Error.Message
}

func (s *Server) runDetached(r *request, o engine.RunOptions, warnings []string) error {
	var out api.Started
	end, err := s.backend.ContainerRun(r.ctx(), o, func(c container.CreateResponse) (engine.Stream, error) {
		out.ID, out.Warnings = c.ID, nonNil(append(c.Warnings, warnings...))
		return nil, nil
	})
	if err != nil {
		return err
	}
	out.Refused = s.refused(r, "/containers/"+out.ID+"/start", end.Start)
	return r.json(http.StatusCreated, out)
}

// refused is err as the answer of a request for path would have it.
func (s *Server) refused(r *request, path string, err error) *api.Refused {
	if err == nil {
		return nil
	}
	status := problem.Status(err)
	return &api.Refused{Error: api.Error{Message: err.Error(), Hint: r.hint(path, status, err)}, Status: status}
}

// containerExec creates and starts an exec and tells its exit code, for our own
// command line: in place of four requests. The conversation is that of
// containerRun; a failure to execute stands in the output, as in Docker's.
func (s *Server) containerExec(r *request) error {
	var req container.ExecCreateRequest
	if err := r.readJSON(&req); err != nil {
		return err
	}
	if req.Tty {
		return invalid("a terminal needs the requests of the Engine API")
	}
	h, ctx, err := s.hijack(r)
	if err != nil {
		return err
	}
	defer h.end()
	id, err := s.backend.ContainerExecCreate(ctx, r.name, req)
	if err != nil {
		return err
	}
	var out *endedStream
	err = s.backend.ContainerExecStart(ctx, id, engine.ExecStartOptions{}, func() (_ engine.Stream, err error) {
		out, err = h.openEnded()
		return out, err
	})
	if err != nil {
		return h.ended(ctx, err)
	}
	info, err := s.backend.ContainerExecInspect(ctx, id)
	if err != nil {
		return h.ended(ctx, err)
	}
	if info.ExitCode == nil {
		return nil // the client has gone
	}
	hint, err := s.backend.ExecHint(id)
	if err != nil {
		return h.ended(ctx, err)
	}
	return out.end(api.End{ExitCode: *info.ExitCode, Hint: hint})
}

// endedStream is a stream behind whose output comes a last frame. The engine
// neither ends nor closes it.
type endedStream struct {
	*stream
	head [frameHead]byte // of the frame that is being written
	have int             // bytes of head
	left uint32          // bytes of that frame still to come
}

// openEnded is open for such a stream.
func (h *hijacker) openEnded() (*endedStream, error) {
	if _, err := h.open(true); err != nil {
		return nil, err
	}
	return &endedStream{stream: h.stream}, nil
}

// Write passes frames on, however they are cut, and keeps count of them.
func (s *endedStream) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	for p := p[:n]; len(p) > 0; {
		if s.left > 0 {
			skip := min(int(s.left), len(p))
			s.left, p = s.left-uint32(skip), p[skip:]
			continue
		}
		got := copy(s.head[s.have:], p)
		s.have, p = s.have+got, p[got:]
		if s.have == frameHead {
			s.have, s.left = 0, binary.BigEndian.Uint32(s.head[4:])
		}
	}
	return n, err
}

// CloseWrite does nothing: the last frame is still to come.
func (s *endedStream) CloseWrite() error { return nil }

// Close does nothing: the hijacker does it.
func (s *endedStream) Close() error { return nil }

// end writes the last frame. After output that broke off amidst a frame it
// would be taken for more of it: then the client has to find out by itself.
func (s *endedStream) end(e api.End) error {
	if s.have > 0 || s.left > 0 {
		return nil
	}
	frame, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode end: %w", err)
	}
	frame = append([]byte{api.EndFrame, 0, 0, 0, 0, 0, 0, 0}, frame...)
	binary.BigEndian.PutUint32(frame[4:], uint32(len(frame)-frameHead))
	_, err = s.Conn.Write(frame)
	return err
}

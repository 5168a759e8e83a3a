package server

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/build/order"
	"github.com/portholehq/porthole/internal/build/step"
)

// BuildDebugger is a [Builder] whose builds can be debugged.
type BuildDebugger interface {
	// Debug is Classic that stops where d says and where an instruction fails. It
	// tells api.BuildDebug by report.
	Debug(ctx context.Context, contextTar io.Reader, o order.Options, d order.Debug, report func(jsonstream.Message)) (imageID string, err error)
	DebugCommand(ctx context.Context, session string, c api.BuildCommand) (api.BuildAnswer, error)
	// DebugExec runs a process where a build has stopped. started is called once
	// it runs.
	DebugExec(ctx context.Context, session string, e api.BuildExec, p step.Process, started func()) (step.Exit, error)
	// DebugResize tells the size of the terminal of the process that runs there.
	DebugResize(session string, size step.Size) error
}

func (s *Server) buildDebugger() (BuildDebugger, error) {
	if d, ok := s.opts.Builder.(BuildDebugger); ok {
		return d, nil
	}
	return nil, invalid("this daemon cannot debug builds")
}

// buildDebug is build with a debugger: the body and the answer are the same, with
// messages that tell where the build has stopped. Its commands come by requests
// of their own:
//
//	client                                        server
//	POST /porthole/build/debug?break=3&step=1  →
//	tar stream                                 →
//	                                           ←  {"stream": …}
//	                                           ←  {"aux": {"debug": {"session": ID, "stop": {…}}}}
//	POST /porthole/build/debug/ID/exec …       →     (another connection)
//	POST /porthole/build/debug/ID              →     {"verb": "retry"}
//	                                           ←  {"aux": {"debug": {"session": ID}}}
//	                                           ←  {"aux": {"ID": "sha256:…"}}
//
// The build ends with the connection.
func (s *Server) buildDebug(r *request) error {
	debugger, err := s.buildDebugger()
	if err != nil {
		return err
	}
	o, err := buildOptions(r)
	if err != nil {
		return err
	}
	d := order.Debug{Step: r.flag("step")}
	for _, text := range r.form["break"] {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return invalid("break is a line of the Dockerfile, got %q", text)
		}
		d.Lines = append(d.Lines, n)
	}
	if text := r.http.Header.Get(api.BuildSecretsHeader); text != "" {
		err := json.NewDecoder(base64.NewDecoder(base64.URLEncoding, strings.NewReader(text))).Decode(&d.Secrets)
		if err != nil {
			return invalid("invalid %s header: not base64url-encoded JSON", api.BuildSecretsHeader)
		}
	}
	_ = http.NewResponseController(r.w).EnableFullDuplex() // HTTP/2 always is
	ctx, cancel := s.endless(r)
	defer cancel()
	var mu sync.Mutex
	err = r.transfer(func(out jsonStream) error {
		_, err := debugger.Debug(ctx, r.http.Body, o, d, func(m jsonstream.Message) {
			mu.Lock()
			defer mu.Unlock()
			_ = out.write(m)
		})
		return failedBuild(r, out, err)
	})
	// net/http wants a body read to its end when the answer has begun before.
	_, _ = io.Copy(io.Discard, r.http.Body)
	return err
}

// buildCommand does what a debugger says.
func (s *Server) buildCommand(r *request) error {
	debugger, err := s.buildDebugger()
	if err != nil {
		return err
	}
	var c api.BuildCommand
	if err := r.readJSON(&c); err != nil {
		return err
	}
	a, err := debugger.DebugCommand(r.ctx(), r.name, c)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, a)
}

// buildResize tells the size of a debugger's terminal.
func (s *Server) buildResize(r *request) error {
	debugger, err := s.buildDebugger()
	if err != nil {
		return err
	}
	height, err := r.size("h", "height")
	if err != nil {
		return err
	}
	width, err := r.size("w", "width")
	if err != nil {
		return err
	}
	if err := debugger.DebugResize(r.name, step.Size{Height: uint16(height), Width: uint16(width)}); err != nil {
		return err
	}
	return r.json(http.StatusOK, struct{}{})
}

// buildExec runs a process where a build has stopped. The body is an
// api.BuildExec, the conversation that of containerExec; a terminal's output
// comes in frames as well.
func (s *Server) buildExec(r *request) error {
	debugger, err := s.buildDebugger()
	if err != nil {
		return err
	}
	var e api.BuildExec
	if err := r.readJSON(&e); err != nil {
		return err
	}
	h, ctx, err := s.hijack(r)
	if err != nil {
		return err
	}
	defer h.end()
	in, feed := io.Pipe()
	defer feed.Close()
	var mu sync.Mutex
	var out *endedStream
	// The connection is taken over with the first output, or once the process
	// runs: until then the answer may be a refusal.
	open := func() error {
		mu.Lock()
		defer mu.Unlock()
		if out != nil {
			return nil
		}
		var err error
		if out, err = h.openEnded(); err != nil {
			return err
		}
		go func() {
			_, err := io.Copy(feed, out)
			_ = feed.CloseWithError(err)
		}()
		return nil
	}
	frames := func(stream byte) io.Writer { return &frameWriter{stream: stream, open: open, mu: &mu, to: &out} }
	exit, err := debugger.DebugExec(ctx, r.name, e, step.Process{
		Terminal: e.TTY, Stdin: in, Stdout: frames(1), Stderr: frames(2),
	}, func() { _ = open() })
	if out == nil {
		if err == nil {
			err = errors.New("the process never ran")
		}
		return err
	}
	if err != nil {
		return out.end(api.End{Refused: s.refused(r, "/build", err)})
	}
	return out.end(api.End{ExitCode: exit.Code})
}

// frameWriter writes one stream of a process into a connection.
type frameWriter struct {
	stream byte
	open   func() error
	mu     *sync.Mutex
	to     **endedStream
}

func (w *frameWriter) Write(p []byte) (int, error) {
	if err := w.open(); err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	frame := make([]byte, frameHead, frameHead+len(p))
	frame[0] = w.stream
	binary.BigEndian.PutUint32(frame[4:], uint32(len(p)))
	if _, err := (*w.to).Write(append(frame, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

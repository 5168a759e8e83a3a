package server

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"unicode/utf8"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
)

// maxPattern bounds the pattern of grep. The engine of RE2 needs time linear in
// the text; its program is as long as the pattern, and repeats are bounded by
// regexp itself.
const maxPattern = 4 << 10

// ownLogs is the log as Porthole's own clients ask for it; see [api.LogFramesType].
//
// Besides the parameters of Docker's endpoint it takes follow=always, which goes
// on over restarts; after=N, to resume behind a line's number; run=N; grep=RE;
// format=json; and open_stdout=N and open_stderr=N, how many bytes of an
// unfinished line are known already when a client resumes.
func (s *Server) ownLogs(r *request) error {
	o, err := ownLogsOptions(r)
	if err != nil {
		return err
	}
	ctx, cancel := s.endless(r)
	defer cancel()
	out := &ownLogWriter{logWriter: logWriter{options: o, frames: true}}
	kind := api.LogFramesType
	if r.form.Get("format") == "json" {
		kind, out.json = "application/x-ndjson", true
	}
	if out.known, err = knownBytes(r); err != nil {
		return err
	}
	out.number = o.After
	out.w = newLazyWriter(r.w, func() { r.w.Header().Set("Content-Type", kind) })
	defer out.w.stop()
	err = s.backend.ContainerLogs(ctx, r.name, o, out.entry)
	switch {
	case errors.Is(err, errClientGone) || r.ctx().Err() != nil:
		return nil
	case ctx.Err() != nil || errors.Is(err, engine.ErrShutdown):
		// An end in order would tell that this was all.
		out.w.stop()
		panic(http.ErrAbortHandler)
	case err != nil && out.w.begun():
		return errors.Join(err, out.failure(err))
	case err != nil:
		return err
	}
	return out.w.flush()
}

func ownLogsOptions(r *request) (engine.LogsOptions, error) {
	o, err := logsOptions(r)
	if err != nil {
		return o, err
	}
	o.Always = r.form.Get("follow") == "always"
	o.Follow = o.Follow || o.Always
	o.Positions = o.Follow
	switch r.form.Get("format") {
	case "", "frames":
	case "json":
		o.Whole = true
	default:
		return o, invalid(`invalid value for "format": %q is neither frames nor json`, r.form.Get("format"))
	}
	if text := r.form.Get("after"); text != "" {
		if o.After, err = strconv.ParseUint(text, 10, 64); err != nil {
			return o, invalid(`invalid value for "after": %w`, err)
		}
	}
	if text := r.form.Get("run"); text != "" {
		if o.Run, err = strconv.Atoi(text); err != nil || o.Run < 1 {
			return o, invalid(`invalid value for "run": %q is not the number of a run, which begin with 1`, text)
		}
	}
	if pattern := r.form.Get("grep"); pattern != "" {
		if len(pattern) > maxPattern {
			return o, invalid(`invalid value for "grep": the pattern is longer than %d bytes`, maxPattern)
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return o, invalid(`invalid value for "grep": %w`, err)
		}
		o.Match = re.Match
	}
	return o, nil
}

// knownBytes reads open_stdout and open_stderr.
func knownBytes(r *request) (known [3]uint64, err error) {
	for kind, name := range map[engine.StreamKind]string{engine.Stdout: "open_stdout", engine.Stderr: "open_stderr"} {
		text := r.form.Get(name)
		if text == "" {
			continue
		}
		if known[kind], err = strconv.ParseUint(text, 10, 64); err != nil {
			return known, invalid("invalid value for %q: %w", name, err)
		}
	}
	return known, nil
}

// ownLogWriter puts entries into our own form.
type ownLogWriter struct {
	logWriter
	json   bool
	placed bool      // the client knows where it is
	number uint64    // of the last line that the client knows of
	known  [3]uint64 // bytes of each stream's next line that the client has
}

func (l *ownLogWriter) entry(e engine.LogEntry) error {
	if e.Dropped > 0 || e.Parts || e.Line == nil || !l.json && e.Number > l.number+0xffff {
		n := api.LogNotice{Number: e.Number, Dropped: e.Dropped, Damaged: e.Damaged, Parts: e.Parts}
		if e.Line != nil && bytes.HasSuffix(e.Line, []byte{'\n'}) && n.Number > 0 {
			n.Number-- // the line itself is still to come
		}
		if err := l.notice(n); err != nil {
			return err
		}
	}
	if e.Line == nil {
		return nil
	}
	if l.json {
		return l.line(e)
	}
	return l.frame(e)
}

func (l *ownLogWriter) notice(n api.LogNotice) error {
	if !n.Gap() && n.Number <= l.number && l.placed {
		return nil
	}
	l.placed = true
	l.number = max(l.number, n.Number)
	text, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode notice: %w", err)
	}
	if l.json {
		_, err = l.w.Write(append(text, '\n'))
		return err
	}
	l.buf = append(l.buf[:0], api.LogMark, 0, 0, 0, 0, 0, 0, 0)
	l.buf = append(l.buf, text...)
	return l.send()
}

func (l *ownLogWriter) frame(e engine.LogEntry) error {
	if k := &l.known[e.Stream]; *k > 0 {
		n := min(*k, uint64(len(e.Line)))
		*k -= n
		e.Line, e.Continued = e.Line[n:], true
	}
	l.begin(e.Stream, e.Time, e.Continued)
	if e.Continued {
		l.buf[1] = api.LogContinued
	} else if l.options.Details {
		l.buf = append(append(l.buf, e.Details...), ' ')
	}
	if e.Number > l.number {
		binary.BigEndian.PutUint16(l.buf[2:], uint16(e.Number-l.number)) // at most that, see entry
		l.number = e.Number
	}
	l.buf = append(l.buf, e.Line...)
	return l.send()
}

// line writes one object.
func (l *ownLogWriter) line(e engine.LogEntry) error {
	text, whole := bytes.CutSuffix(e.Line, []byte{'\n'})
	out := api.LogLine{
		Time: e.Time.UTC(), Stream: "stdout", Run: e.Run, Text: string(text), Continued: e.Continued, Open: !whole,
		LogNotice: api.LogNotice{Number: e.Number},
	}
	if e.Stream == engine.Stderr {
		out.Stream = "stderr"
	}
	if !utf8.Valid(text) {
		out.Bytes = text
	}
	l.number = e.Number
	b, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("encode log line: %w", err)
	}
	_, err = l.w.Write(append(b, '\n'))
	return err
}

// failure tells of an error that came when the answer was under way.
func (l *ownLogWriter) failure(cause error) error {
	if l.json {
		b, err := json.Marshal(api.Error{Message: cause.Error()})
		if err != nil {
			return err
		}
		_, err = l.w.Write(append(b, '\n'))
		return err
	}
	return l.system(fmt.Sprintf("Error grabbing logs: %v\n", cause))
}

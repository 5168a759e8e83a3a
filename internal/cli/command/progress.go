package command

import (
	"context"
	"io"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client/pkg/jsonmessage"
	"github.com/moby/term"
)

// Progress shows a stream of progress messages on w: bars where it is a
// terminal, plain lines elsewhere. It returns the error that the stream ends
// with, if any.
func (a *App) Progress(ctx context.Context, stream io.Reader, w io.Writer) error {
	return a.ProgressAux(ctx, stream, w, nil)
}

// ProgressAux is Progress with aux called for messages that are not for
// display.
func (a *App) ProgressAux(ctx context.Context, stream io.Reader, w io.Writer, aux func(jsonstream.Message)) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	fd, isTerminal := term.GetFdInfo(w)
	if err := jsonmessage.DisplayJSONMessages(c.Messages(&contextReader{ctx: ctx, r: stream}), w, fd, isTerminal, aux); err != nil {
		return err
	}
	return ctx.Err()
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context // lives as long as one call of Progress
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

package containers

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/term"

	"github.com/portholehq/porthole/internal/cli/command"
)

// copyProgress shows how much was copied, on standard error where that is a
// terminal.
type copyProgress struct {
	app  *command.App
	n    atomic.Int64
	end  context.CancelFunc
	done sync.WaitGroup
}

const copyRedraw = 75 * time.Millisecond

func startProgress(ctx context.Context, a *command.App, quiet bool, title string) *copyProgress {
	ctx, cancel := context.WithCancel(ctx)
	p := &copyProgress{app: a, end: cancel}
	if _, isTerminal := term.GetFdInfo(a.Err); quiet || !isTerminal {
		return p
	}
	p.done.Go(func() { p.draw(ctx, title) })
	return p
}

// draw keeps one line up to date and takes it away at the end.
func (p *copyProgress) draw(ctx context.Context, title string) {
	tick := time.NewTicker(copyRedraw)
	defer tick.Stop()
	for {
		_, _ = fmt.Fprint(p.app.Err, "\r"+title+size(p.n.Load())+clearLine)
		select {
		case <-ctx.Done():
			_, _ = fmt.Fprint(p.app.Err, "\r"+clearLine)
			return
		case <-tick.C:
		}
	}
}

// reader counts what is read from r.
func (p *copyProgress) reader(r io.Reader) io.Reader { return &countingReader{r, &p.n} }

// stop ends the display and returns the number of bytes.
func (p *copyProgress) stop() int64 {
	p.end()
	p.done.Wait()
	return p.n.Load()
}

// summary tells how much was sent, the archive's own bytes included.
func (p *copyProgress) summary(n int64, to string) {
	_, _ = fmt.Fprintf(p.app.Err, "Successfully copied %s to %s\n", size(n), to)
}

func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

type countingReader struct {
	r io.Reader
	n *atomic.Int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// errTerminated ends a question that a signal has interrupted.
const errTerminated = Cancelled("prompt terminated")

// Confirm asks a question that is answered by y or n, no when nothing is
// answered. On Windows the console is opened when input is redirected.
func (a *App) Confirm(ctx context.Context, question string) (bool, error) {
	_, _ = fmt.Fprintf(a.Out, "%s [y/N] ", question)
	in := a.In
	if runtime.GOOS == "windows" {
		in = os.Stdin
	}
	answer, err := readLine(ctx, in)
	if err != nil {
		_, _ = fmt.Fprintln(a.Out)
		return false, err
	}
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"), nil
}

// readLine reads one line; the end of input is an empty one.
func readLine(ctx context.Context, r io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(r).ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = nil
		}
		got <- result{strings.TrimSpace(line), err}
	}()
	select {
	case <-ctx.Done():
		return "", errTerminated
	case res := <-got:
		return res.line, res.err
	}
}

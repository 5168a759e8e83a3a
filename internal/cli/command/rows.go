package command

import (
	"io"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/moby/term"
)

// WriteRows prints rows by a format: a table, JSON or a template. header is a
// row whose Header names the columns.
func WriteRows(w io.Writer, format string, header formatter.SubContext, rows []formatter.SubContext) error {
	ctx := formatter.Context{Output: TableWriter(w, format), Format: formatter.Format(format)}
	return ctx.Write(header, func(add func(formatter.SubContext) error) error {
		for _, row := range rows {
			if err := add(row); err != nil {
				return err
			}
		}
		return nil
	})
}

// TableWriter is w for what is printed by a format. On a terminal a table is
// harmless, whatever images, containers and registries have put into it. A
// template is the user's, and may have colors.
func TableWriter(w io.Writer, format string) io.Writer {
	if _, terminal := term.GetFdInfo(w); terminal && formatter.Format(format).IsTable() {
		return visibleWriter{w}
	}
	return w
}

// visibleWriter makes text harmless. No character may be split between two writes.
type visibleWriter struct{ w io.Writer }

func (v visibleWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(v.w, VisibleText(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

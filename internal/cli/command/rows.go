package command

import (
	"io"

	"github.com/docker/cli/cli/command/formatter"
)

// WriteRows prints rows by a format: a table, JSON or a template. header is a
// row whose Header names the columns.
func WriteRows(w io.Writer, format string, header formatter.SubContext, rows []formatter.SubContext) error {
	ctx := formatter.Context{Output: w, Format: formatter.Format(format)}
	return ctx.Write(header, func(add func(formatter.SubContext) error) error {
		for _, row := range rows {
			if err := add(row); err != nil {
				return err
			}
		}
		return nil
	})
}

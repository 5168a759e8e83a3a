package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

// securityOptions are those of "info" that ask for what protects the host.
type securityOptions struct {
	command.ListFlags
	security bool
}

func (o *securityOptions) print(ctx context.Context, a *command.App) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	facts, err := c.Facts(ctx)
	if errors.Is(err, client.ErrNotPorthole) {
		return fmt.Errorf("what protects the host is not told: %w", err)
	}
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, facts.Security); done {
		return err
	}
	return writeSecurity(a.Out, &facts.Security)
}

// writeSecurity prints the protections, those that are off with what would better them, and the containers that have given
// them up.
func writeSecurity(out io.Writer, s *api.InfoSecurity) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "PROTECTION\tSTATE\tWHAT IS FOUND")
	for _, c := range s.Checks {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", command.Visible(c.Name), command.Visible(string(c.State)), command.Visible(c.Text))
		if c.Try != "" {
			_, _ = fmt.Fprintf(w, "\t\ttry: %s\n", command.Visible(c.Try))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(s.Surrendered) == 0 {
		_, err := fmt.Fprintln(out, "\nNo container that runs has given any of it up.")
		return err
	}
	_, _ = fmt.Fprintln(out, "\nContainers that run and have given protection up:")
	w = tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "CONTAINER\tSTATUS\tBY")
	for _, c := range s.Surrendered {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", command.Visible(c.Name), command.Visible(c.Status), command.Visible(strings.Join(c.Options, ", ")))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "\nWho asked for them: porthole events --since 720h --until 0s --filter label=dangerous --actor")
	return err
}

package command

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// StatusError ends the program with Code. Its text may be empty: the code of
// a container is passed on without a word.
type StatusError struct {
	Code int
	// Text is printed in the place of Err's when it is set.
	Text string
	Err  error
}

func (e *StatusError) Error() string {
	if e.Text != "" || e.Err == nil {
		return e.Text
	}
	return e.Err.Error()
}

func (e *StatusError) Unwrap() error { return e.Err }

// Exit returns the error that ends the program with a container's code, or
// nil for code zero.
func Exit(code int) error {
	if code == 0 {
		return nil
	}
	return &StatusError{Code: code}
}

// UsageError is an error in the values of flags, for run and create: code 125
// and the way to the help.
func UsageError(cmd *cobra.Command, err error) error {
	return &StatusError{Code: 125, Text: withHelp(cmd.Root().Name(), cmd.CommandPath(), err), Err: err}
}

// withHelp adds the program's name and the way to the help to an error.
func withHelp(program, path string, err error) string {
	return fmt.Sprintf("%s: %s\n\nRun '%s --help' for more information", program, err, path)
}

// WithHelp is err with the program's name and the way to the help of cmd, and
// code as the exit code.
func WithHelp(cmd *cobra.Command, code int, err error) error {
	return &StatusError{Code: code, Text: withHelp(cmd.Root().Name(), cmd.CommandPath(), err), Err: err}
}

// Cancelled is the end of a command that the user has called off: it is told
// to nobody and the exit code is zero.
type Cancelled string

func (c Cancelled) Error() string { return string(c) }

// ExitCode returns what the program ends with after err.
func ExitCode(err error) int {
	if _, cancelled := errors.AsType[Cancelled](err); err == nil || cancelled {
		return 0
	}
	if s, ok := errors.AsType[*StatusError](err); ok && s.Code != 0 {
		return s.Code
	}
	return 1
}

// Message returns the text of err as people see it: Docker's client library
// speaks of Docker where nothing listens or the socket may not be opened.
func Message(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for n, line := range lines {
		// It may say what comes from a container: the command of the process that
		// holds a port, for one.
		line = strings.ReplaceAll(Visible(line), "permission denied while trying to connect to the docker API", "permission denied while trying to connect to the Porthole daemon")
		before, after, ok := strings.Cut(line, "failed to connect to the docker API at ")
		if !ok {
			lines[n] = line
			continue
		}
		host, rest, checked := strings.Cut(after, "; check if the ")
		if checked && strings.Contains(rest, "daemon is running") {
			lines[n] = before + "Cannot connect to the Porthole daemon at " + host + ". Is the porthole daemon running?"
			continue
		}
		lines[n] = before + "failed to connect to the Porthole daemon at " + after
	}
	return strings.Join(lines, "\n")
}

// Report prints err and what the daemon suggests to try. An error without
// text prints nothing.
func (a *App) Report(err error) {
	if _, cancelled := errors.AsType[Cancelled](err); cancelled || err.Error() == "" {
		return
	}
	_, _ = io.WriteString(a.Err, Message(err)+"\n")
	if !a.Global.connected {
		return
	}
	c, clientErr := a.Client()
	if clientErr != nil {
		return
	}
	if hint := c.Hint(err); hint != "" {
		_, _ = io.WriteString(a.Err, "hint: "+Visible(hint)+"\n")
	}
}

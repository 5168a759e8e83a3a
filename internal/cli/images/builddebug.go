package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

// debugFlags are the flags of "build" for its debugger.
type debugFlags struct {
	on, step bool
	lines    []string
}

func (f *debugFlags) add(set *pflag.FlagSet) {
	set.BoolVar(&f.on, "debug", false, "Stop where an instruction fails, to look into it and go on")
	set.StringSliceVar(&f.lines, "break", nil, "Stop in the instruction of this line of the Dockerfile; implies --debug")
	set.BoolVar(&f.step, "step", false, "Stop before each instruction; implies --debug")
}

// wanted tells whether the build is debugged: where nobody could answer, it is
// built as without. An end of input would end it in the middle.
func (f *debugFlags) wanted(a *command.App) bool {
	if !f.on && !f.step && len(f.lines) == 0 {
		return false
	}
	if a.InIsTerminal() && a.OutIsTerminal() {
		return true
	}
	_, _ = fmt.Fprintln(a.Err, "Not at a terminal: building without a debugger. A step that fails tells how to enter what it has left.")
	return false
}

// numbers are the lines to stop at.
func (f *debugFlags) numbers() ([]int, error) {
	var out []int
	for _, text := range f.lines {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("--break: %q is not the number of a line", text)
		}
		out = append(out, n)
	}
	return out, nil
}

// debug builds with a debugger at the terminal.
func (o *buildOptions) debug(ctx context.Context, a *command.App, where string) error {
	options, err := o.options(a)
	if err != nil {
		return err
	}
	lines, err := o.debugFlags.numbers()
	if err != nil {
		return err
	}
	if err := o.checkDebug(where); err != nil {
		return err
	}
	secrets, err := readSecrets(o.secrets)
	if err != nil {
		return err
	}
	source, err := o.source(ctx, a, where, &options)
	if err != nil {
		return err
	}
	if source == nil {
		return errors.New("--debug: a build from a URL cannot be debugged: fetch the files, and build the directory")
	}
	defer source.Close()
	c, err := a.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &debugger{a: a, c: c, stops: make(chan *api.BuildStop), file: filepath.Join(where, filepath.FromSlash(options.Dockerfile)), breaks: lines}
	if d.saved, err = os.ReadFile(d.file); err != nil {
		return err
	}
	done := make(chan error, 1)
	asking, stopAsking := context.WithCancel(ctx)
	defer stopAsking()
	go func() {
		defer stopAsking()
		done <- c.BuildDebug(ctx, source, client.BuildDebugOptions{Build: options, Lines: lines, Step: o.debugFlags.step, Secrets: secrets}, d.hear(ctx))
	}()
	for {
		select {
		case err := <-done:
			if err == nil && o.iidFile != "" {
				err = os.WriteFile(o.iidFile, []byte(d.image), 0o666)
			}
			if err == nil {
				err = d.offerEdits(ctx)
			}
			return buildFailure(err)
		case stop := <-d.stops:
			err := d.stopped(asking, stop)
			if err != nil && asking.Err() == nil {
				cancel()
				a.Log.Debug("build was ended", "err", <-done)
				return err
			}
		}
	}
}

// hear prints what the build tells and passes its stops on.
func (d *debugger) hear(ctx context.Context) func(jsonstream.Message, *api.BuildDebugEvent) {
	return func(m jsonstream.Message, e *api.BuildDebugEvent) {
		switch {
		case e != nil && e.Stop != nil:
			d.session = e.Session
			select {
			case d.stops <- e.Stop:
			case <-ctx.Done():
			}
		case e != nil:
			d.session = e.Session
		case m.Aux != nil:
			d.image = strings.Trim(imageID(m), `"`)
		default:
			_, _ = io.WriteString(d.a.Out, m.Stream)
		}
	}
}

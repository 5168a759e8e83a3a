package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/template"

	"github.com/docker/cli/templates"
	"github.com/moby/term"
)

// Object is one thing to be inspected.
type Object struct {
	// Value returns it as a Go value; called only where a template wants one.
	Value func() any
	// Raw is the JSON that the daemon has sent.
	Raw []byte
}

// Value returns v as the Value of an Object.
func Value(v any) func() any { return func() any { return v } }

// Inspect fetches what the names stand for and prints it: as an indented JSON
// array, as a compact one for the format "json", or by a template for each.
// Objects that were found are printed even when others were not.
func (a *App) Inspect(names []string, format string, fetch func(name string) (Object, error)) error {
	p, err := newPrinter(format)
	if err != nil {
		return &StatusError{Code: 64, Err: err}
	}
	var errs []error
	for _, name := range names {
		o, err := fetch(name)
		if err == nil {
			err = p.add(o)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if err := p.flush(a.Out); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// printer collects what is printed about objects until all are known.
type printer interface {
	add(Object) error
	flush(io.Writer) error
}

func newPrinter(format string) (printer, error) {
	switch format {
	case "":
		return &jsonPrinter{shape: func(dst *bytes.Buffer, src []byte) error { return json.Indent(dst, src, "", "    ") }}, nil
	case "json":
		return &jsonPrinter{shape: json.Compact}, nil
	}
	tmpl, err := templates.Parse(format)
	if err != nil {
		return nil, fmt.Errorf("template parsing error: %w", err)
	}
	return &templatePrinter{tmpl: tmpl}, nil
}

// jsonPrinter keeps the daemon's JSON as it is, with fields that this program
// does not know.
type jsonPrinter struct {
	shape func(dst *bytes.Buffer, src []byte) error
	raw   [][]byte
}

func (p *jsonPrinter) add(o Object) error {
	raw := o.Raw
	if raw == nil {
		var err error
		if raw, err = json.Marshal(o.Value()); err != nil {
			return err
		}
	}
	p.raw = append(p.raw, raw)
	return nil
}

func (p *jsonPrinter) flush(w io.Writer) error {
	array := append([]byte("["), bytes.Join(p.raw, []byte(","))...)
	var out bytes.Buffer
	if err := p.shape(&out, append(array, ']')); err != nil {
		return err
	}
	out.WriteByte('\n')
	if _, terminal := term.GetFdInfo(w); terminal {
		_, err := io.WriteString(w, visibleJSON(out.String()))
		return err
	}
	_, err := out.WriteTo(w)
	return err
}

// templatePrinter runs the template on the Go value, whose fields are known,
// and where that fails on the JSON, which may have more of them.
type templatePrinter struct {
	tmpl *template.Template
	out  bytes.Buffer
}

func (p *templatePrinter) add(o Object) error {
	var line bytes.Buffer
	if err := p.tmpl.Execute(&line, o.Value()); err != nil {
		if o.Raw == nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
		line.Reset()
		if err := p.executeRaw(&line, o.Raw); err != nil {
			return err
		}
	}
	line.WriteByte('\n')
	_, err := line.WriteTo(&p.out)
	return err
}

func (p *templatePrinter) executeRaw(w io.Writer, raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return fmt.Errorf("unable to read inspect data: %w", err)
	}
	if err := p.tmpl.Option("missingkey=error").Execute(w, value); err != nil {
		return fmt.Errorf("template parsing error: %w", err)
	}
	return nil
}

func (p *templatePrinter) flush(w io.Writer) error {
	if p.out.Len() == 0 {
		p.out.WriteByte('\n')
	}
	_, err := p.out.WriteTo(w)
	return err
}

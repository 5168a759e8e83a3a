package applet

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/portholehq/porthole/internal/toolbox/magic"
	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// fileCommand tells what files are: -b without their names, -i as MIME types, -L
// follows links, -f LIST reads names, "-" is the input.
func fileCommand(std IO, args []string) error {
	long := map[string]byte{"brief": 'b', "mime": 'i', "dereference": 'L', "no-dereference": 'h', "mime-type": 1, "mime-encoding": 2}
	o, err := parse(args, "biLhN", "f", long)
	if err != nil {
		return err
	}
	names := o.args
	for _, list := range o.values['f'] {
		err := eachFile(std, "file", []string{list}, func(_ string, r io.Reader) error {
			scan := bufio.NewScanner(r)
			for scan.Scan() {
				names = append(names, scan.Text())
			}
			return scan.Err()
		})
		if err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return usageError("a file is missing")
	}
	widest := 0
	for _, n := range names {
		widest = max(widest, screen.Width(screen.Visible(n)))
	}
	failed := false
	for _, n := range names {
		text, err := fileText(std, n, o)
		if err != nil {
			text, failed = "cannot open `"+n+"' ("+reasonOf(err)+")", true
		}
		shown := screen.Visible(n)
		if n == "-" {
			shown = "/dev/stdin"
		}
		if !o.has('b') {
			fmt.Fprint(std.Out, shown+": ")
			if !o.has('N') {
				fmt.Fprint(std.Out, strings.Repeat(" ", max(0, widest-screen.Width(shown))))
			}
		}
		fmt.Fprintln(std.Out, screen.Visible(text))
	}
	if failed {
		return exitStatus(1)
	}
	return nil
}

// reasonOf is the cause of a failure alone, with a capital.
func reasonOf(err error) string {
	if pe, ok := err.(*os.PathError); ok { //nolint:errorlint // it comes straight from os
		err = pe.Err
	}
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

func fileText(std IO, name string, o options) (string, error) {
	var k magic.Kind
	var err error
	if name == "-" {
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(std.In, 32<<20)); err == nil {
			k = magic.Content(data, nil)
		}
	} else {
		k, err = magic.Of(name, o.has('L') && !o.has('h'))
	}
	switch {
	case err != nil:
		return "", err
	case o.has('i'):
		return k.Type + "; charset=" + k.Encoding, nil
	case o.has(1):
		return k.Type, nil
	case o.has(2):
		return k.Encoding, nil
	}
	return k.Text, nil
}

// Command generate writes the pages of package manual to a directory, and removes
// the pages there of commands that are no more.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/portholehq/porthole/internal/cli"
	"github.com/portholehq/porthole/internal/cli/manual"
)

func main() {
	markdown := flag.String("markdown", "", "write the pages of the documentation to this `directory`")
	man := flag.String("man", "", "write the pages for man(1) to this `directory`")
	flag.Parse()
	// What is preset must not depend on who generates.
	os.Clearenv()
	err := os.Setenv("HOME", "~")
	if *markdown != "" {
		err = errors.Join(err, write(*markdown, "*.md", manual.Markdown(cli.Tree())))
	}
	if *man != "" {
		err = errors.Join(err, write(*man, "porthole*.1", manual.Man(cli.Tree())))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// write makes the files that match pattern in a directory those of pages.
func write(dir, pattern string, pages map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return err
	}
	for _, path := range old {
		if pages[filepath.Base(path)] == nil {
			err = errors.Join(err, os.Remove(path))
		}
	}
	for name, page := range pages {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), page, 0o644))
	}
	return err
}

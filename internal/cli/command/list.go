package command

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/spf13/pflag"
)

// FormatHelp describes --format of commands that print lists.
const FormatHelp = `Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates`

// InspectFormatHelp describes --format of commands that inspect.
const InspectFormatHelp = `Format output using a custom template:
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates`

// ListFlags are --format and --json of a command that prints a list.
type ListFlags struct {
	Format string
	json   bool
}

// Add declares the flags.
func (f *ListFlags) Add(set *pflag.FlagSet) {
	set.StringVar(&f.Format, "format", "", FormatHelp)
	f.AddJSON(set)
}

// AddJSON declares --json alone.
func (f *ListFlags) AddJSON(set *pflag.FlagSet) {
	set.BoolVar(&f.json, "json", false, "Print the daemon's answer as a JSON array, for machines")
}

// WantsJSON tells whether --json was given.
func (f *ListFlags) WantsJSON() bool { return f.json }

// JSON prints items whole, as the daemon has sent them, when --json was given,
// and tells whether it did.
func (f *ListFlags) JSON(w io.Writer, items any) (done bool, err error) {
	if !f.json {
		return false, nil
	}
	if f.Format != "" {
		return true, fmt.Errorf("conflicting options: cannot specify both --format and --json")
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "    ")
	enc.SetEscapeHTML(false)
	return true, enc.Encode(items)
}

// Or returns the format that was asked for, or else what the configuration
// says, or else a table.
func (f *ListFlags) Or(configured string) string {
	switch {
	case f.Format != "":
		return f.Format
	case configured != "":
		return configured
	}
	return formatter.TableFormatKey
}

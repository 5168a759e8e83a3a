// Package debug is what Porthole is for: it looks at containers that misbehave,
// and tells why.
//
// Debug/diagnose explains from files why a program cannot be executed, debug/why
// brings all records and the live state of a container together and names the
// cause, debug/look shows what they have and do at this moment. All of them only
// look: nothing in here changes a container.
//
// [Preflight] is what the engine asks when a start has failed.
package debug

import (
	"github.com/portholehq/porthole/internal/debug/diagnose"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/record/death"
)

// Preflight tells what in a container's files keeps a program from being
// executed; nil: nothing was found.
func Preflight(r engine.Refused) *death.Finding {
	list := diagnose.Explain(diagnose.Dir(r.Root, r.Owner), diagnose.Command{
		Args: r.Args, Env: r.Env, Dir: r.Dir, User: r.User, Hidden: r.Hidden, NoExec: r.NoExec, Denied: r.Denied,
	})
	if len(list) == 0 {
		return nil
	}
	found := record(list[0])
	return &found
}

func record(f diagnose.Finding) death.Finding {
	return death.Finding{Kind: string(f.Kind), Path: f.Path, Line: f.Line, Text: f.Text, Fix: f.Fix}
}

package why

import (
	"strings"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/debug/mounted"
)

// mounts are those that are not what was asked for, or what their sources have.
func mounts(e *evidence) []api.Verdict {
	found, err := mounted.Look(e.ctx, e.src, mounted.Options{Container: e.id})
	if err != nil {
		e.unknown = append(e.unknown, "what is mounted in it: "+err.Error())
		return nil
	}
	var out []api.Verdict
	for _, m := range found.Mounts {
		if !m.Trouble() {
			continue
		}
		out = append(out, verdict(mountCause(m.State), api.Certain, m.Destination+": "+m.Note, nil, append(m.Next, "porthole mounts "+e.name)...)...)
	}
	return out
}

// mountCause is what a trouble with a mount is called.
func mountCause(state string) string { return "mount-" + strings.ReplaceAll(state, " ", "-") }

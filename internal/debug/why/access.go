package why

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	mobymount "github.com/moby/moby/api/types/mount"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/debug/diagnose"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
)

// absolute finds paths in a line.
var absolute = regexp.MustCompile(`/[\w.@%+~,=/-]+`)

// deniedPath is a path that it may not use, checked against the files as they
// are now.
func deniedPath(e *evidence, line string) []api.Verdict {
	paths := absolute.FindAllString(line, -1)
	slices.Reverse(paths) // a script's own name comes first
	cause, text := "permission-denied", "it was denied something"
	if saysRO.MatchString(line) {
		cause, text = "read-only-path", "it wanted to write where it may only read"
	}
	if len(paths) == 0 {
		e.unknown = append(e.unknown, "which path it was about: the line names none")
		return verdict(cause, api.Possible, text, nil)
	}
	if e.sub == nil {
		e.unknown = append(e.unknown, "owners and modes of the path: the container was removed")
		return verdict(cause, api.Likely, text+": "+paths[0], nil)
	}
	var found []api.Verdict
	err := e.src.LookIntoFiles(e.ctx, e.id, func(f engine.OpenFiles) {
		root := diagnose.Dir(f.Root, f.Owner)
		for _, p := range paths {
			if found = e.checkPath(root, f.Hidden, p); len(found) > 0 {
				return
			}
		}
	})
	switch {
	case err != nil:
		e.unknown = append(e.unknown, "owners and modes of the path: "+err.Error())
	case len(found) == 0:
		e.unknown = append(e.unknown, "why: mode, owner and mount of "+paths[0]+", as they are now, would allow it; a security module, seccomp or a capability may have denied it")
	default:
		return found
	}
	return verdict(cause, api.Likely, text+": "+paths[0], nil)
}

// checkPath follows a path as its user would, to write there.
func (e *evidence) checkPath(root diagnose.Root, hidden []string, p string) []api.Verdict {
	if diagnose.Covered(p, hidden) {
		return nil
	}
	id, err := diagnose.LookUpUser(root, e.sub.Config.User)
	if err != nil {
		return nil
	}
	for _, dir := range parents(p) {
		info, err := root.Stat(dir)
		if err != nil {
			return nil
		}
		if info.Mode.IsDir() && !id.May(info, diagnose.Search) {
			return e.denied(p, dir, info, id, "may not enter")
		}
	}
	at, what := p, "may not write"
	info, err := root.Stat(p)
	if errors.Is(err, fs.ErrNotExist) {
		at, what = path.Dir(p), "may not make a file in"
		info, err = root.Stat(at)
	}
	switch {
	case err != nil:
		return nil
	case info.ReadOnly:
		return e.readOnly(p)
	case !id.May(info, diagnose.Write):
		return e.denied(p, at, info, id, what)
	}
	return nil
}

// parents are the directories on the way to a path, the root first.
func parents(p string) []string {
	var list []string
	for d := path.Dir(path.Clean(p)); ; d = path.Dir(d) {
		list = append(list, d)
		if d == "/" || d == "." {
			slices.Reverse(list)
			return list
		}
	}
}

// mountOf is the mount that a path is on; ok is false for the root filesystem.
func (e *evidence) mountOf(p string) (m state.Mount, ok bool) {
	for _, x := range e.sub.Mounts {
		if diagnose.Covered(p, []string{x.Destination}) && len(x.Destination) > len(m.Destination) {
			m, ok = x, true
		}
	}
	return m, ok
}

func (e *evidence) denied(p, at string, info diagnose.Info, id diagnose.Identity, what string) []api.Verdict {
	text := fmt.Sprintf("the process (%s) %s %s: that is %s", id, what, at, diagnose.Owner(info))
	evidence := []string{"checked with the files as they are now"}
	m, mounted := e.mountOf(at)
	if !mounted {
		fix := fmt.Sprintf("in the Dockerfile: RUN chown %s %s (or chmod)", id, at)
		if at != p && at == path.Dir(p) {
			fix = fmt.Sprintf("in the Dockerfile: RUN touch %s && chown %s %s; or have it write elsewhere", p, id, p)
		}
		return verdict("permission-denied", api.Certain, text, evidence, fix, fmt.Sprintf("porthole run --user %d:%d …   # as the owner of %s", info.UID, info.GID, at))
	}
	evidence = append(evidence, fmt.Sprintf("%s is on the mount %s", at, mountText(m)))
	chown := fmt.Sprintf("chown %s %s   # on the host", id, m.Source)
	if m.Subpath != "" || at != m.Destination { // what is below may be a link by now
		chown = fmt.Sprintf("give it to %s, from inside: porthole run --user 0 -v …:%s … chown %s %s", id, m.Destination, id, at)
	}
	return verdict("permission-denied", api.Certain, text, evidence,
		chown, fmt.Sprintf("porthole run --user %d:%d …   # as its owner", info.UID, info.GID))
}

func (e *evidence) readOnly(p string) []api.Verdict {
	m, mounted := e.mountOf(p)
	if !mounted {
		return verdict("read-only-path", api.Certain, p+" is in the root filesystem, which is read-only", []string{fmt.Sprintf("--read-only: %t", e.sub.HostConfig.ReadonlyRootfs)},
			"porthole run --tmpfs "+path.Dir(p)+" …, or a volume there", "leave --read-only out")
	}
	return verdict("read-only-path", api.Certain, p+" is on a mount that is read-only: "+mountText(m), nil, "mount it without :ro, or write elsewhere")
}

func mountText(m state.Mount) string {
	if m.Type == mobymount.TypeTmpfs {
		return strings.TrimSpace(fmt.Sprintf("tmpfs %s %s", m.Destination, strings.Join(m.Options, ",")))
	}
	source := m.Source
	if m.Subpath != "" {
		source += ", in it " + m.Subpath
	}
	if m.Type == mobymount.TypeVolume {
		source = "volume " + m.Name
	}
	text := fmt.Sprintf("%s (%s)", m.Destination, source)
	if !m.RW {
		text += ", read-only"
	}
	return text
}

// diskFull is a write for which there was no room.
func diskFull(e *evidence, line string) []api.Verdict {
	text := "it could not write: no space left"
	var evidence []string
	if paths := absolute.FindAllString(line, -1); len(paths) > 0 && e.sub != nil {
		p := paths[len(paths)-1]
		text += " for " + p
		if m, ok := e.mountOf(p); ok {
			evidence = append(evidence, "it is on the mount "+mountText(m))
		} else {
			evidence = append(evidence, "it is in the container's own layer, below the daemon's data root")
		}
	}
	return verdict("disk-full", api.Likely, text, evidence, "porthole system df -v", "df -h; df -i")
}

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

var (
	// absolute finds paths in a line.
	absolute = regexp.MustCompile(`/[\w.@%+~,=/-]+`)
	// saysExec is said of what was to be executed.
	saysExec = regexp.MustCompile(`(?i)\bexec\b|\bspawn\b|cannot execute`)
	// saysNothing is a shell that tells a path and not what it wanted there: to
	// execute it, or to open it for a redirection.
	saysNothing = regexp.MustCompile(`^[\w./-]*sh: (?:(?:line )?\d+: )?/\S+: `)
	// saysEACCES is what the kernel says by a mode. EPERM has other reasons.
	saysEACCES = regexp.MustCompile(`(?i)permission denied|\bEACCES\b`)
)

// notExecutable is the code by which shells tell of a command that they may not
// execute.
const notExecutable = 126

// attempt is what a process was denied.
type attempt struct {
	path string
	// exec: to execute it. unclear: that, or to open it.
	exec, unclear bool
	readOnly      bool // the kernel said EROFS
	// sure: it is about this path, and about its mode or mount.
	sure bool
}

func (e *evidence) attempt(line string) attempt {
	a := attempt{readOnly: saysRO.MatchString(line)}
	a.sure = a.readOnly || saysEACCES.MatchString(line)
	a.exec = !a.readOnly && (e.death != nil && e.death.Exit.Code == notExecutable || saysExec.MatchString(line))
	a.unclear = !a.readOnly && !a.exec && saysNothing.MatchString(line)
	return a
}

// deniedPath is a path that it may not use, checked against the files as they
// are now.
func deniedPath(e *evidence, line string) []api.Verdict {
	paths := absolute.FindAllString(line, -1)
	slices.Reverse(paths) // a script's own name comes first
	cause, text := "permission-denied", "it was denied something"
	a := e.attempt(line)
	if a.readOnly {
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
		for i, p := range paths {
			a.path, a.sure = p, a.sure && i == 0
			if found = e.checkPath(root, f.Hidden, a); len(found) > 0 {
				return
			}
		}
	})
	switch {
	case err != nil:
		e.unknown = append(e.unknown, "owners and modes of the path: "+err.Error())
	case len(found) == 0:
		module, next := "a security module", []string(nil)
		if r := e.rights(); r != nil && r.AppArmor != "" {
			module, next = "AppArmor profile "+r.AppArmor, profileCommands
		}
		e.unknown = append(e.unknown, "why: mode, owner and mount of "+paths[0]+", as they are now, would allow it to its user; it may have become another one, or "+module+", seccomp or a want of capabilities denied it")
		return verdict(cause, api.Likely, text+": "+paths[0], nil, next...)
	default:
		return found
	}
	return verdict(cause, api.Likely, text+": "+paths[0], nil)
}

// checkPath follows a path as its user would.
func (e *evidence) checkPath(root diagnose.Root, hidden []string, a attempt) []api.Verdict {
	if diagnose.Covered(a.path, hidden) {
		return e.onTmpfs(a)
	}
	id, err := diagnose.LookUpUser(root, e.sub.Config.User)
	if err != nil {
		return nil
	}
	for _, dir := range parents(a.path) {
		info, err := root.Stat(dir)
		if err != nil {
			return nil
		}
		if info.Mode.IsDir() && !id.May(info, diagnose.Search) {
			return e.denied(a, dir, info, id, "may not enter")
		}
	}
	info, err := root.Stat(a.path)
	if errors.Is(err, fs.ErrNotExist) {
		dir := path.Dir(a.path)
		if info, err = root.Stat(dir); err == nil && !a.readOnly {
			if id.May(info, diagnose.Write) {
				return nil
			}
			return e.denied(a, dir, info, id, "may not make a file in")
		}
	}
	mayRead, mayWrite := id.May(info, diagnose.Read), id.May(info, diagnose.Write)
	switch {
	case err != nil:
	case a.readOnly:
		if info.ReadOnly {
			return e.readOnly(a.path)
		}
	case a.exec && info.NoExec:
		m, _ := e.mountOf(a.path)
		return verdict("noexec-mount", a.confidence(), a.path+" is on a mount with the option noexec: "+mountText(m), nil, "mount it without noexec, or copy the program elsewhere")
	case a.exec:
		if !id.May(info, diagnose.Execute) {
			return e.noExecute(a, info, id)
		}
	case a.unclear && !info.Mode.IsDir() && !id.May(info, diagnose.Execute):
		v := e.noExecute(a, info, id)
		if !mayRead || !mayWrite {
			v[0].Text += "; it may not be written, or read, either"
			v[0].Confidence = api.Likely
		}
		return v
	case !mayRead && !mayWrite:
		return e.denied(a, a.path, info, id, "may neither read nor write")
	case !mayRead:
		return e.denied(a, a.path, info, id, "may not read")
	case !mayWrite:
		return e.denied(a, a.path, info, id, "may not write")
	}
	return nil
}

// onTmpfs is a program on a tmpfs that has gone with the run: how it was mounted is
// known, and what it held is not.
func (e *evidence) onTmpfs(a attempt) []api.Verdict {
	m, ok := e.mountOf(a.path)
	if !ok || !a.exec || m.Type != mobymount.TypeTmpfs || slices.Contains(m.Options, "exec") {
		return nil
	}
	return verdict("noexec-mount", api.Likely, a.path+" was on a mount with the option noexec, as tmpfs has it unless told otherwise: "+mountText(m),
		[]string{"its mode is not known: the tmpfs has gone with the run"}, "porthole run --tmpfs "+m.Destination+":exec …")
}

// noExecute is a file without the right to execute it.
func (e *evidence) noExecute(a attempt, info diagnose.Info, id diagnose.Identity) []api.Verdict {
	return verdict("not-executable", a.confidence(), fmt.Sprintf("%s may not be executed: it is %s, the process is %s", a.path, diagnose.Owner(info), id),
		[]string{checked}, "in the Dockerfile: RUN chmod a+rx "+a.path, "name its interpreter: sh "+a.path)
}

// checked is the evidence of what files tell.
const checked = "checked with the files as they are now"

// confidence is how sure it is that the modes explain it.
func (a attempt) confidence() string {
	if a.sure {
		return api.Certain
	}
	return api.Likely
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

func (e *evidence) denied(a attempt, at string, info diagnose.Info, id diagnose.Identity, what string) []api.Verdict {
	text := fmt.Sprintf("the process (%s) %s %s: that is %s", id, what, at, diagnose.Owner(info))
	evidence := []string{checked}
	p := a.path
	m, mounted := e.mountOf(at)
	if !mounted {
		fix := fmt.Sprintf("in the Dockerfile: RUN chown %s %s (or chmod)", id, at)
		if at != p && at == path.Dir(p) {
			fix = fmt.Sprintf("in the Dockerfile: RUN touch %s && chown %s %s; or have it write elsewhere", p, id, p)
		}
		return verdict("permission-denied", a.confidence(), text, evidence, fix, fmt.Sprintf("porthole run --user %d:%d …   # as the owner of %s", info.UID, info.GID, at))
	}
	evidence = append(evidence, fmt.Sprintf("%s is on the mount %s", at, mountText(m)))
	chown := fmt.Sprintf("chown %s %s   # on the host", id, m.Source)
	if m.Type == mobymount.TypeImage {
		return verdict("permission-denied", a.confidence(), text, evidence,
			fmt.Sprintf("in the Dockerfile of %s: RUN chown %s %s (or chmod)", m.Name, id, at), asOwner(info))
	}
	if m.Subpath != "" || at != m.Destination { // what is below may be a link by now
		chown = fmt.Sprintf("give it to %s, from inside: porthole run --user 0 -v …:%s … chown %s %s", id, m.Destination, id, at)
	}
	next := []string{chown, asOwner(info)}
	if at == m.Destination && m.Subpath == "" && !m.SwapOwner {
		source := m.Source
		if m.Type == mobymount.TypeVolume {
			source = m.Name
		}
		next = append(next, fmt.Sprintf("porthole run -v %s:%s:idmap …   # %s owns it in the container, and %d:%d still does on the host", source, at, id, info.UID, info.GID))
	}
	return verdict("permission-denied", a.confidence(), text, evidence, next...)
}

func asOwner(info diagnose.Info) string {
	return fmt.Sprintf("porthole run --user %d:%d …   # as its owner", info.UID, info.GID)
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
	switch m.Type {
	case mobymount.TypeVolume:
		source = "volume " + m.Name
	case mobymount.TypeImage:
		source = "image " + m.Name
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

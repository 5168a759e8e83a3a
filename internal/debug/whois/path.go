package whois

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/ledger"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/patient"
)

var processPath = regexp.MustCompile(`^/proc/([0-9]+)(/|$)`)

// path tells who has a path of the host.
func (s *search) path(ctx context.Context, asked string) error {
	asked = filepath.Clean(asked)
	forms, err := lookAt(ctx, asked)
	late := errors.Is(err, patient.ErrLate)
	if late { // then what the name says has to do
		forms, err = []form{{path: asked, exists: true}}, nil
	}
	if err != nil {
		return err
	}
	for _, f := range forms {
		if err := s.placeOnDisk(ctx, f); err != nil {
			return err
		}
		if len(s.out.Found) > 0 {
			return nil
		}
	}
	last := forms[len(forms)-1]
	if !last.exists {
		return s.found("", "%s is not there, and belongs to nothing of ours", asked)
	}
	on, err := mountOf(last.path)
	switch {
	case late:
		s.add(host("a path that no container mounts by this name; it was not looked at, since a file system on the way to it does not answer"))
	case err != nil:
		s.add(host("a path of the host that no container mounts"))
	default:
		s.add(host("a path of the host, on %s, that no container mounts", on))
	}
	return nil
}

// form is a path as it was given, or without links.
type form struct {
	path   string
	exists bool
	// namespace is what it is of, as in /proc/PID/ns: net:[4026532467], and kind the
	// first word of that; empty: it is none.
	namespace, kind string
}

// patience is how long is waited for what may be stuck: a file system, a process.
const patience = time.Second

// lookAt finds the forms of a path. It gives up on a file system that does not
// answer, with [patient.ErrLate].
func lookAt(ctx context.Context, asked string) ([]form, error) {
	return patient.Within(ctx, "path "+asked, patience, func() ([]form, error) {
		real, err := filepath.EvalSymlinks(asked)
		if err != nil {
			real = asked
		}
		var forms []form
		for _, p := range slices.Compact([]string{asked, real}) {
			f := form{path: p, exists: err == nil || !errors.Is(err, fs.ErrNotExist)}
			f.kind, f.namespace = nsLink(p)
			forms = append(forms, f)
		}
		return forms, nil
	})
}

// placeOnDisk looks for who has one form of a path.
func (s *search) placeOnDisk(ctx context.Context, f form) error {
	if s.inCgroup(f.path) {
		return nil
	}
	if f.kind != "" {
		return s.namespace(ctx, f.namespace, f.kind)
	}
	if m := processPath.FindStringSubmatch(f.path + "/"); m != nil {
		return s.process(ctx, m[1])
	}
	s.mounted(f.path)
	return s.kept(ctx, f.path)
}

// inCgroup tells whose a directory of a cgroup hierarchy is.
func (s *search) inCgroup(p string) bool {
	tree, err := cgroup.Current()
	if err != nil {
		return false
	}
	roots := []string{tree.Unified()}
	for _, h := range tree.Hierarchies() {
		roots = append(roots, h.Dir)
	}
	parent := s.src.Places().CgroupParent
	for _, root := range roots {
		rest, below := strings.CutPrefix(p, root+"/")
		if root == "" || !below {
			continue
		}
		group := "/" + rest
		if id, sub := inGroup(group, parent); id != "" {
			s.add(s.owner(id, groupText(sub)))
			return true
		}
		if group == parent || strings.HasPrefix(group, parent+"/") {
			s.add(api.Owner{Kind: kindDaemon, Detail: "the control group that containers are in"})
			return true
		}
	}
	return false
}

func groupText(sub string) string {
	switch cgroup.Sub(sub) {
	case cgroup.App:
		return "control group of its processes"
	case cgroup.Debug:
		return "control group of ours for processes that look into it"
	case cgroup.Shim:
		return "control group of its shim"
	case cgroup.Shims:
	}
	return "its control group"
}

// nsLink tells which namespace a path is: /proc/PID/ns/net, /run/netns/NAME; empty:
// none.
func nsLink(p string) (kind, name string) {
	if link, err := os.Readlink(p); err == nil {
		if m := namespace.FindStringSubmatch(link); m != nil {
			return m[1], link
		}
	}
	if !strings.HasPrefix(p, "/run/") && !strings.HasPrefix(p, "/var/run/") {
		return "", ""
	}
	var st unix.Statfs_t
	if err := unix.Statfs(p, &st); err != nil || st.Type != unix.NSFS_MAGIC {
		return "", ""
	}
	var file unix.Stat_t
	if err := unix.Stat(p, &file); err != nil {
		return "", ""
	}
	return "net", fmt.Sprintf("net:[%d]", file.Ino)
}

// namespace tells who is in a namespace.
func (s *search) namespace(ctx context.Context, name, kind string) error {
	if link, _ := os.Readlink("/proc/self/ns/" + kind); link == name {
		s.add(host("the daemon's own %s namespace, and so the host's to it", kind))
	}
	for i := range s.residents {
		r := &s.residents[i]
		if r.Pid == 0 {
			continue
		}
		if link, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", r.Pid, kind)); link == name {
			s.add(ownerOf(r, fmt.Sprintf("its %s namespace, %s", kind, name)))
		}
	}
	if len(s.out.Found) > 0 {
		return nil
	}
	if pid := processIn(kind, name); pid > 0 {
		o, _ := s.processOwner(ctx, pid)
		o.Detail = fmt.Sprintf("%s namespace of %s", kind, o.Detail)
		s.add(o)
	}
	return s.found("", "no process is in %s", name)
}

// processIn finds a process in a namespace; 0 if there is none.
func processIn(kind, name string) int {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/" + kind)
	for _, l := range links {
		if link, err := os.Readlink(l); err == nil && link == name {
			pid, _ := strconv.Atoi(strings.Split(l, "/")[2])
			return pid
		}
	}
	return 0
}

// mounted finds the containers that have a path mounted, whole or in part.
func (s *search) mounted(p string) {
	for i := range s.residents {
		r := &s.residents[i]
		for _, m := range r.Mounts {
			source := filepath.Join(m.Source, m.Subpath)
			rest, within := strings.CutPrefix(p, source)
			if m.Source == "" || source == "/" || !within || rest != "" && rest[0] != '/' {
				continue
			}
			mode := "read-only"
			if m.RW {
				mode = "writable"
			}
			what := fmt.Sprintf("mounts it at %s, %s", filepath.Join(m.Destination, rest), mode)
			if m.Name != "" {
				what += ", as part of volume " + m.Name
			}
			s.add(ownerOf(r, what))
		}
	}
}

// kept tells whose a path below the data root or the exec root is.
func (s *search) kept(ctx context.Context, p string) error {
	places := s.src.Places()
	if rel, err := filepath.Rel(places.ExecRoot, p); err == nil && filepath.IsLocal(rel) {
		id, _, _ := strings.Cut(rel, "/")
		if wholeID.MatchString(id) {
			s.add(s.owner(id, "what its shim keeps while it runs"))
		} else {
			s.add(api.Owner{Kind: kindDaemon, Detail: "what the daemon keeps while the machine runs"})
		}
		return nil
	}
	claim, err := s.src.Claim(ctx, p)
	if err != nil {
		return err
	}
	switch claim.Owner {
	case ledger.Container:
		s.layerOf(claim)
	case ledger.Image:
		o := api.Owner{Kind: kindImage, ID: claim.ID, Name: claim.Name, Detail: "its " + claim.Part}
		if len(claim.Users) > 0 {
			o.Detail = claim.Part + " of " + strings.Join(claim.Users, ", ")
		}
		o.Detail += s.runOn(claim)
		s.add(o)
	case ledger.Volume:
		s.add(api.Owner{Kind: kindVolume, ID: claim.ID, Name: claim.Name, Detail: "the files of the volume"})
	case "":
		if rel, err := filepath.Rel(places.DataRoot, p); err == nil && filepath.IsLocal(rel) {
			s.add(api.Owner{Kind: kindDaemon, Detail: "below the data root, and nobody's: see porthole system df -v"})
		}
	default:
		s.add(api.Owner{Kind: kindDaemon, Name: claim.Name, ID: claim.ID, Detail: keptText(claim)})
	}
	return nil
}

// layerOf tells of what containers keep.
func (s *search) layerOf(claim ledger.Claim) {
	text := map[string]string{
		"layer": "its writable layer", "state": "its record and files", "log": "its log", "samples": "its samples",
	}[claim.Part]
	if text == "" {
		text = claim.Part
	}
	if claim.ID != "" {
		s.add(s.owner(claim.ID, text))
		return
	}
	for _, id := range claim.Users {
		s.add(s.owner(id, text))
	}
}

// runOn names the containers that were made from the images that a layer is of.
func (s *search) runOn(claim ledger.Claim) string {
	var names []string
	for _, r := range s.residents {
		of := claim.ID != "" && r.ImageID == claim.ID ||
			r.Config != nil && slices.Contains(claim.Users, r.Config.Image)
		if of {
			names = append(names, r.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; containers on it: " + strings.Join(names, ", ")
}

// mountOf is the mount point that a path is on, with the type of its file system.
func mountOf(p string) (string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	best, kind := "", ""
	for line := range strings.Lines(string(text)) {
		front, back, _ := strings.Cut(line, " - ")
		f, b := strings.Fields(front), strings.Fields(back)
		const point = 4
		if len(f) <= point || len(b) == 0 {
			continue
		}
		at := f[point]
		if (p == at || at == "/" || strings.HasPrefix(p, at+"/")) && len(at) >= len(best) {
			best, kind = at, b[0]
		}
	}
	return fmt.Sprintf("%s (%s)", best, kind), nil
}

// keptText tells what of the daemon's a file is.
func keptText(claim ledger.Claim) string {
	switch claim.Owner {
	case ledger.Database:
		return "the database of " + claim.Part
	case ledger.Daemon:
		return "the daemon's own " + claim.Part
	case ledger.Journal:
		return "the journal of events"
	case ledger.Removing:
		return "on its way out"
	case ledger.Image, ledger.Container, ledger.Volume, ledger.BuildCache, ledger.Deaths, ledger.Cores, ledger.Network, ledger.Unfinished, ledger.Orphan:
	}
	return strings.TrimSuffix(strings.ReplaceAll(string(claim.Owner), "-", " ")+", "+claim.Part, ", ")
}

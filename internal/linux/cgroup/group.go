package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/waits"
)

// Sub is one of the groups inside a container's group.
type Sub string

// The groups inside a container's group.
const (
	App   Sub = "app"
	Debug Sub = "debug"
	Shim  Sub = "shim"

	// Shims is Shim on the v2 tree and, where there is one, PARENT/shims on the
	// v1 hierarchies: the shims of all containers are charged together, and
	// starting one does not make a group in each hierarchy, which takes longer
	// than starting it. Without a v2 tree it is Shim.
	Shims Sub = "shims"
)

var subs = []Sub{App, Debug, Shim}

// Warning tells of a setting that was left out, where Docker does so as well.
type Warning string

// Group is the place of one container in every hierarchy. Its methods may be
// called by several goroutines at once, except that Create and Destroy exclude
// each other and everything else.
type Group struct {
	tree *Tree
	path string
	// whole says that app is the group itself, and that there are no others.
	whole bool
	err   error // why the group cannot be used at all
}

// New returns the group at an absolute path from the root of each hierarchy,
// for example /porthole/ID. Nothing is made yet, and the group need not exist.
// A path that cannot be a container's, or a host without cgroups, shows as the
// error of every method.
func New(path string) *Group {
	tree, err := Current()
	if err != nil {
		return &Group{path: path, err: err}
	}
	return tree.Group(path)
}

// Group is [New] for this tree.
func (t *Tree) Group(path string) *Group {
	short, err := clean(path)
	return &Group{tree: t, path: short, err: err}
}

// Whole is a group without sub-groups: app is the group itself. It is for containers
// of which somebody else says, and later looks up, what group they are in. There is
// no debug and no shim in it.
func (t *Tree) Whole(path string) *Group {
	g := t.Group(path)
	g.whole = true
	return g
}

// Path returns the group's path from the root of each hierarchy.
func (g *Group) Path() string { return g.path }

// Dir returns the directory of a sub-group on the v2 tree, or an empty string
// where there is none. Its inode number is the cgroup id that the kernel
// reports.
func (g *Group) Dir(sub Sub) string {
	if g.err != nil || g.tree.v2 == "" {
		return ""
	}
	if sub == Shims {
		sub = Shim
	}
	return filepath.Join(g.tree.v2, g.path, g.name(sub))
}

// DirIn returns the directory of a sub-group in a v1 hierarchy.
func (g *Group) DirIn(h Hierarchy, sub Sub) string { return g.dirV1(h.Dir, sub) }

// name is the directory of a sub-group below the group's.
func (g *Group) name(sub Sub) string {
	if g.whole && sub == App {
		return ""
	}
	return string(sub)
}

// dirV1 returns the directory of a sub-group in a v1 hierarchy.
func (g *Group) dirV1(root string, sub Sub) string {
	if sub == Shims && g.tree.v2 != "" {
		return filepath.Join(root, filepath.Dir(g.path), string(Shims))
	}
	if sub == Shims {
		sub = Shim
	}
	return filepath.Join(root, g.path, g.name(sub))
}

// Create makes the group and its sub-groups and sets the limits on app. On
// error nothing is left behind. A group left over by an earlier attempt is
// taken over if nothing runs in it.
//
// A limit that cannot be given is an [*UnavailableError] naming the controller.
func (g *Group) Create(r *Resources) ([]Warning, error) {
	if g.err != nil {
		return nil, g.err
	}
	if err := g.vacant(); err != nil {
		return nil, err
	}
	warnings, err := g.create(r)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("create cgroup %q: %w", g.path, err), g.Destroy(ctx))
	}
	return warnings, nil
}

func (g *Group) create(r *Resources) ([]Warning, error) {
	if err := g.place(); err != nil {
		return nil, err
	}
	if r == nil {
		return nil, nil
	}
	return g.set(r)
}

// placeTries is how often somebody else may remove the parent in the middle, as the end of another container does where that
// was the last one.
const placeTries = 100

// place makes the group in its parent, which it makes where that is missing.
func (g *Group) place() error {
	parent := filepath.Dir(g.path)
	for tries := 1; ; tries++ {
		err := g.tree.Prepare(parent)
		if err == nil {
			err = g.makeDirs()
		}
		// A file of a group that was removed since it was opened is no device.
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) || tries == placeTries {
			return err
		}
		g.tree.forget(parent)
	}
}

// makeDirs makes what every container needs: app everywhere, and all of the
// sub-groups on the v2 tree, where making them later would need the rights of
// whoever is in them. The others follow on v1 when they are first entered.
func (g *Group) makeDirs() error {
	if g.whole {
		return g.makeWhole()
	}
	for _, h := range g.tree.v1 {
		if err := g.makeGroup(h.dir, App); err != nil {
			return err
		}
	}
	if g.tree.v2 == "" {
		return nil
	}
	if err := makeEmpty(filepath.Join(g.tree.v2, g.path), keepIfExists); err != nil {
		return err
	}
	if g.tree.mode == V2 {
		if err := enableControllers(filepath.Join(g.tree.v2, g.path)); err != nil {
			return err
		}
	}
	for _, sub := range subs {
		if err := makeEmpty(filepath.Join(g.tree.v2, g.path, string(sub)), replaceIfExists); err != nil {
			return err
		}
	}
	return nil
}

// vacant makes sure that a whole group is nobody's who could be hurt by what
// becomes of it. It may exist: others prepare it at times.
func (g *Group) vacant() error {
	if !g.whole {
		return nil
	}
	for _, root := range g.tree.roots() {
		dir := filepath.Join(root, g.path)
		pids, err := cgroups.GetAllPids(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("look into cgroup %q: %w", g.path, err)
		case len(pids) > 0:
			return fmt.Errorf("cgroup %q is in use: %w", g.path, busyError(dir, unix.EBUSY))
		}
	}
	return nil
}

func (g *Group) makeWhole() error {
	for _, h := range g.tree.v1 {
		if err := g.makeOuter(h.dir, filepath.Join(h.dir, g.path)); err != nil {
			return err
		}
	}
	if g.tree.v2 == "" {
		return nil
	}
	return makeEmpty(filepath.Join(g.tree.v2, g.path), keepIfExists)
}

// makeGroup makes the group and one sub-group in a v1 hierarchy.
func (g *Group) makeGroup(root string, sub Sub) error {
	dir := g.dirV1(root, sub)
	if sub == Shims && g.tree.v2 != "" {
		return g.makeOuter(root, dir)
	}
	if err := g.makeOuter(root, filepath.Join(root, g.path)); err != nil {
		return err
	}
	return makeEmpty(dir, replaceIfExists)
}

// makeOuter makes a group right below the parent in a v1 hierarchy. What is
// made below a prepared group inherits its processors; the root is not ours to
// prepare.
func (g *Group) makeOuter(root, dir string) error {
	if err := makeEmpty(dir, keepIfExists); err != nil {
		return err
	}
	if cpuset, ok := g.tree.controller("cpuset"); ok && root == cpuset && filepath.Dir(g.path) == "/" {
		return inheritCpuset(dir)
	}
	return nil
}

type existing int

const (
	keepIfExists existing = iota
	replaceIfExists
)

// makeEmpty makes a directory. One that exists is replaced when asked, so that
// no limit or counter of an earlier user remains; one in which something runs
// is an error.
func makeEmpty(dir string, e existing) error {
	err := unix.Mkdir(dir, 0o755)
	if err == unix.EEXIST {
		if e == keepIfExists {
			return nil
		}
		if err = unix.Rmdir(dir); err == nil {
			err = unix.Mkdir(dir, 0o755)
		}
	}
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return nil
}

// Delegate lets a user of the host put its children directly into app and
// debug on the v2 tree: a shim inside a user namespace clones with
// CLONE_INTO_CGROUP, for which the kernel wants write access to cgroup.procs of
// the target and of the common ancestor. It gives no right over limits. Nothing
// is to be done for user 0 or without a v2 tree.
func (g *Group) Delegate(uid, gid uint32) error {
	if g.err != nil || g.tree.v2 == "" || uid == 0 {
		return g.err
	}
	for _, sub := range []Sub{"", App, Debug} {
		if err := os.Chown(filepath.Join(g.Dir(sub), "cgroup.procs"), int(uid), int(gid)); err != nil {
			return fmt.Errorf("delegate cgroup %q: %w", g.path, err)
		}
	}
	return nil
}

// Entrance holds what a process needs to be born inside a sub-group.
//
// Moving a whole process by cgroup.procs makes the kernel wait until no thread
// of the machine is between two steps of a fork or an exit: 5 ms and more,
// measured on an idle machine with Linux 6.18. Neither way here does: a thread
// moves only itself into the v1 hierarchies (see package enter) and forks, and
// clone3 puts the child into the v2 group (CLONE_INTO_CGROUP).
type Entrance struct {
	Tasks []*os.File // `tasks` of each v1 hierarchy, opened for writing
	Dir   *os.File   // the directory on the v2 tree, or nil where there is none
}

// Entrance opens a sub-group's entrance; the caller closes it.
func (g *Group) Entrance(sub Sub) (*Entrance, error) {
	if g.err != nil {
		return nil, g.err
	}
	e := &Entrance{}
	for _, h := range g.tree.v1 {
		file, err := g.openTasks(h.dir, sub)
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("open entrance of cgroup %q: %w", g.path, err)
		}
		e.Tasks = append(e.Tasks, file)
	}
	if g.tree.v2 != "" {
		dir, err := os.OpenFile(g.Dir(sub), unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("open entrance of cgroup %q: %w", g.path, err)
		}
		e.Dir = dir
	}
	return e, nil
}

// openTasks opens a v1 `tasks` file, making the sub-group if it is not there.
func (g *Group) openTasks(root string, sub Sub) (*os.File, error) {
	name := filepath.Join(g.dirV1(root, sub), "tasks")
	file, err := OpenTasks(name)
	if !errors.Is(err, fs.ErrNotExist) || sub == App {
		return file, err
	}
	if err := g.makeGroup(root, sub); err != nil {
		return nil, err
	}
	return OpenTasks(name)
}

// OpenTasks opens a v1 `tasks` file for writing. Unlike [os.OpenFile] it leaves
// the file blocking: the network pollers of this process, and of those that the
// file is handed to, need not look after it.
func OpenTasks(name string) (*os.File, error) {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Files returns the open files: Tasks, then Dir if there is one.
func (e *Entrance) Files() []*os.File {
	files := slices.Clone(e.Tasks)
	if e.Dir != nil {
		files = append(files, e.Dir)
	}
	return files
}

// Close closes the files.
func (e *Entrance) Close() error {
	var errs []error
	for _, file := range e.Files() {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// Add moves a process with all its threads into a sub-group. It takes several
// milliseconds (see [Entrance] for what does not).
func (g *Group) Add(pid int, sub Sub) error {
	if g.err != nil {
		return g.err
	}
	for _, h := range g.tree.v1 {
		if sub != App {
			if err := g.ensureSub(h.dir, sub); err != nil {
				return err
			}
		}
		if err := join(g.dirV1(h.dir, sub), pid); err != nil {
			return err
		}
	}
	if g.tree.v2 == "" {
		return nil
	}
	return join(g.Dir(sub), pid)
}

func (g *Group) ensureSub(root string, sub Sub) error {
	if _, err := os.Stat(g.dirV1(root, sub)); err == nil {
		return nil
	}
	return g.makeGroup(root, sub)
}

// join writes a pid to one group. EINVAL can mean that the task is still being
// born; it is tried again for a moment.
func join(dir string, pid int) error {
	name := filepath.Join(dir, "cgroup.procs")
	var err error
	for range 5 {
		if err = writeFile(name, strconv.Itoa(pid)); !errors.Is(err, unix.EINVAL) {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("move process %d into cgroup: %w", pid, err)
	}
	return nil
}

// Destroy removes the group with everything below it from every hierarchy. A
// group in which something still runs is busy; that is tried again until ctx
// ends. A group that does not exist is removed already.
func (g *Group) Destroy(ctx context.Context) error {
	if g.err != nil {
		return g.err
	}
	var errs []error
	for _, root := range g.tree.roots() {
		dir := filepath.Join(root, g.path)
		if removeKnown(dir) {
			continue
		}
		if err := remove(ctx, dir); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("remove cgroup %q: %w", g.path, errors.Join(errs...))
	}
	return nil
}

// removeKnown removes a group that has no children but those that we make, which
// is the usual case and twice as fast as looking what there is.
func removeKnown(dir string) bool {
	for _, sub := range subs {
		if err := unix.Rmdir(filepath.Join(dir, string(sub))); err != nil && err != unix.ENOENT {
			return false
		}
	}
	err := unix.Rmdir(dir)
	return err == nil || err == unix.ENOENT
}

// remove removes a group and its children, children first.
func remove(ctx context.Context, dir string) error {
	delay := time.Millisecond
	for {
		err := removeOnce(dir)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return busyError(dir, err)
		case <-time.After(delay):
			delay = min(2*delay, 50*time.Millisecond)
		}
	}
}

func removeOnce(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	children, readErr := os.ReadDir(dir)
	if readErr != nil {
		if errors.Is(readErr, fs.ErrNotExist) {
			return nil
		}
		return readErr
	}
	for _, child := range children {
		if !child.IsDir() {
			continue
		}
		if err := removeOnce(filepath.Join(dir, child.Name())); err != nil {
			return err
		}
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// busyError names a process that keeps a group alive.
func busyError(dir string, err error) error {
	var pids []string
	walkGroups(dir, func(group string) {
		if text, err := os.ReadFile(filepath.Join(group, "cgroup.procs")); err == nil {
			pids = append(pids, strings.Fields(string(text))...)
		}
	})
	if len(pids) == 0 {
		return err
	}
	const most = 5
	var list []string
	for _, pid := range pids[:min(len(pids), most)] {
		list = append(list, member(pid))
	}
	if n := len(pids) - most; n > 0 {
		list = append(list, fmt.Sprintf("%d more", n))
	}
	return fmt.Errorf("%w (still in it: %s)", err, strings.Join(list, "; "))
}

// member names a process, and what it waits for if no signal reaches it.
func member(pid string) string {
	text := "process " + pid
	if comm, err := os.ReadFile("/proc/" + pid + "/comm"); err == nil {
		text += fmt.Sprintf(" (%q)", strings.TrimSpace(string(comm)))
	}
	n, err := strconv.Atoi(pid)
	if err != nil {
		return text
	}
	if thread := waits.Uninterruptible(n); thread != 0 {
		w := waits.Look(context.Background(), n, thread)
		text += ", which cannot be killed: " + w.Text()
	}
	return text
}

// walkGroups calls fn for a group and every group below it.
func walkGroups(dir string, fn func(group string)) {
	fn(dir)
	children, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, child := range children {
		if child.IsDir() {
			walkGroups(filepath.Join(dir, child.Name()), fn)
		}
	}
}

// Exists tells whether the group's app is there.
func (g *Group) Exists() bool {
	if g.err != nil {
		return false
	}
	_, err := os.Stat(g.dirV1(g.tree.roots()[0], App))
	return err == nil
}

// writeFile writes to a file that exists. A group's files take each write as
// one order.
func writeFile(name, text string) error {
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

package diagnose

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/portholehq/porthole/internal/linux/shellword"
)

// Explain returns what keeps a command from being executed; the first is what the
// kernel meets first. Nothing: nothing was found, which is no proof that there is
// nothing.
func Explain(r Root, c Command) []Finding {
	x := &explainer{root: r, c: c}
	if x.c.Arch == "" {
		x.c.Arch = runtime.GOARCH
	}
	if x.c.Dir == "" {
		x.c.Dir = "/"
	}
	x.user()
	x.workdir()
	if len(c.Args) == 0 || c.Args[0] == "" {
		return x.found
	}
	if p, ok := x.lookUp(c.Args[0]); ok {
		x.program(p, nil)
	}
	return x.found
}

// explainer is one Explain under way.
type explainer struct {
	root   Root
	c      Command
	id     Identity
	nobody bool // the user is not known
	found  []Finding
}

func (x *explainer) add(f Finding) {
	f.Text, f.Fix = printable(f.Text), printable(f.Fix)
	x.found = append(x.found, f)
}

// hidden reports whether nothing can be said of a path.
func (x *explainer) hidden(p string) bool { return Covered(p, x.c.Hidden) }

// Covered reports whether a path is one of the mounts, or below one.
func Covered(p string, mounts []string) bool {
	return slices.ContainsFunc(mounts, func(m string) bool { return p == m || strings.HasPrefix(p, strings.TrimSuffix(m, "/")+"/") })
}

func (x *explainer) user() {
	id, err := LookUpUser(x.root, x.c.User)
	var unknown *UnknownError
	if errors.As(err, &unknown) {
		x.nobody = true
		f := Finding{Kind: BadUser, Path: unknown.File, Text: fmt.Sprintf("there is no user %s in the container's %s", quoted(unknown.Name), unknown.File)}
		f.Fix = "give a number (--user 1000), a name that the file has, or add the user to the image"
		if unknown.Group {
			f.Kind, f.Text = BadGroup, fmt.Sprintf("there is no group %s in the container's %s", quoted(unknown.Name), unknown.File)
			f.Fix = "give a number (--user 1000:1000), a name that the file has, or add the group to the image"
		}
		if unknown.Near != "" {
			f.Fix = fmt.Sprintf("did you mean %s? Or %s", quoted(unknown.Near), f.Fix)
		}
		x.add(f)
	}
	x.nobody = x.nobody || err != nil
	x.id = id
}

func (x *explainer) workdir() {
	d := x.c.Dir
	if x.hidden(d) {
		return
	}
	info, err := x.root.Stat(d)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.add(Finding{Kind: NoWorkdir, Path: d, Text: "the working directory " + d + " does not exist", Fix: "make it in the image (WORKDIR " + d + "), or choose another with --workdir"})
	case errors.Is(err, syscall.ENOTDIR), err == nil && !info.Mode.IsDir():
		text := "the working directory " + d + " is not a directory"
		if err != nil {
			text = "the working directory " + d + " has a file on its way where a directory is wanted"
		}
		x.add(Finding{Kind: WorkdirDenied, Path: d, Text: text, Fix: "choose another with --workdir"})
	case err != nil:
	case !x.nobody && !x.id.May(info, Search):
		x.add(Finding{
			Kind: WorkdirDenied, Path: d,
			Text: fmt.Sprintf("the working directory %s may not be entered: it is %s, the process is %s", d, Owner(info), x.id),
			Fix:  "change its mode or owner in the image, or choose another with --workdir",
		})
	}
}

// lookUp finds the program as execvp(3) does; without success it says why.
func (x *explainer) lookUp(name string) (string, bool) {
	if strings.Contains(name, "/") {
		p := name
		if !path.IsAbs(p) {
			p = path.Join(x.c.Dir, p)
		}
		return p, x.exists(p)
	}
	var dirs, plain []string
	for d := range strings.SplitSeq(envOf(x.c.Env, "PATH"), ":") {
		if !path.IsAbs(d) {
			d = path.Join(x.c.Dir, d)
		}
		dirs = append(dirs, d)
		p := path.Join(d, name)
		if x.hidden(p) {
			continue
		}
		info, err := x.root.Stat(p)
		switch {
		case err != nil || info.Mode.IsDir():
		case x.nobody || x.id.May(info, Execute):
			return p, true
		default:
			plain = append(plain, p)
		}
	}
	if len(plain) > 0 {
		return plain[0], true // what is wrong with it is found later
	}
	x.add(Finding{
		Kind: Missing, Path: name,
		Text: fmt.Sprintf("no file %s is in any directory of PATH (%s)", quoted(name), strings.Join(dirs, ":")),
		Fix:  "check the spelling, give the full path, or use an image that has it" + x.shellHint(name),
	})
	return "", false
}

// shellHint tells of a command line that was meant for a shell.
func (x *explainer) shellHint(name string) string {
	if strings.ContainsAny(name, " \t;|&$<>") {
		return "; it looks like a line for a shell: sh -c " + shellword.Quote(name)
	}
	return ""
}

// exists reports whether there is a file at a path; without one it says so.
func (x *explainer) exists(p string) bool {
	if x.hidden(p) {
		if x.c.Denied && Covered(p, x.c.NoExec) {
			x.add(Finding{Kind: NoExecMount, Path: p, Text: p + " is on a tmpfs with the option noexec, which is the default, or is not executable", Fix: "mount it with exec: --tmpfs DIR:exec, and look at the mode"})
		}
		return false
	}
	_, err := x.root.Stat(p)
	if errors.Is(err, fs.ErrNotExist) {
		f := Finding{Kind: Missing, Path: p, Text: p + " does not exist in the container", Fix: "check ENTRYPOINT, CMD and COPY of the image, or what is mounted over it"}
		if parent := x.missingParent(p); parent != path.Dir(p) {
			f.Text = fmt.Sprintf("%s does not exist in the container: there is no directory %s", p, parent)
		}
		f.Fix += x.shellHint(p)
		x.add(f)
	}
	return err == nil
}

// missingParent is the first directory on the way to a path that is not there,
// or the path's own directory.
func (x *explainer) missingParent(p string) string {
	dir := path.Dir(p)
	missing := dir
	for d := dir; d != "/" && d != "."; d = path.Dir(d) {
		if _, err := x.root.Stat(d); err == nil {
			return missing
		}
		missing = d
	}
	return missing
}

// maxDepth is how often a #! line may name a script again, as in the kernel.
const maxDepth = 5

// program looks at a file that is there. Through are the scripts that lead to it.
func (x *explainer) program(p string, through []string) {
	if len(through) > maxDepth || x.hidden(p) {
		return
	}
	info, err := x.root.Stat(p)
	if err != nil {
		return
	}
	what := p
	if n := len(through); n > 0 {
		what = p + ", the interpreter of " + through[n-1] + ","
	}
	switch {
	case info.Mode.IsDir():
		x.add(Finding{Kind: Directory, Path: p, Text: what + " is a directory", Fix: "name the program in it"})
		return
	case info.NoExec:
		x.add(Finding{Kind: NoExecMount, Path: p, Text: what + " is on a mount with the option noexec", Fix: "mount it without noexec, or copy the program elsewhere"})
		return
	case x.nobody:
	case !x.id.May(info, Execute):
		x.notExecutable(what, p, info)
		return
	}
	head, err := readHead(x.root, p, headBytes)
	if err != nil {
		return
	}
	x.format(p, head, through)
}

func (x *explainer) notExecutable(what, p string, info Info) {
	f := Finding{Kind: NotExecutable, Path: p, Text: fmt.Sprintf("%s is not executable: its mode is %#o", what, info.Mode.Perm()), Fix: "RUN chmod +x " + shellword.Quote(p) + " in the Dockerfile, or COPY --chmod=755"}
	if info.Mode.Perm()&0o111 != 0 {
		f.Text = fmt.Sprintf("%s may not be executed: it is %s, the process is %s", what, Owner(info), x.id)
		f.Fix = "RUN chmod a+rx " + shellword.Quote(p) + " in the Dockerfile, or run as its owner with --user"
	} else if head, err := readHead(x.root, p, headBytes); err == nil {
		if line, ok := shebang(head); ok {
			if interpreter := strings.TrimSpace(strings.TrimSuffix(line, "\r")); shellword.Quote(interpreter) == interpreter {
				f.Fix += fmt.Sprintf("; without a new image: %s %s", interpreter, shellword.Quote(p))
			}
		}
	}
	x.add(f)
}

// envOf is a variable's value in an environment, the last one.
func envOf(env []string, key string) string {
	for _, e := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(e, key+"="); ok {
			return v
		}
	}
	return ""
}

package engine

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/container"
	mobymount "github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/record/death"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

// Refused is a program that could not be executed, and the files of its container.
type Refused struct {
	OpenFiles
	Args, Env []string
	Dir, User string // of the process; User as it was asked for
	// Denied tells that the kernel said EACCES.
	Denied bool
}

// OpenFiles are a container's files, open for somebody to look at. They are the container's: nothing in them may be
// followed out of Root, and nothing written.
type OpenFiles struct {
	Root *os.File
	// Owner turns an id that a file has in Root into the container's.
	Owner func(id uint32) uint32
	// Hidden are places where the container has something that is not in Root, as a tmpfs.
	Hidden []string
	// NoExec are those of them that nothing can be executed on.
	NoExec []string
}

// hinted adds to an error of a start what was found.
func hinted(err error, f *death.Finding) error {
	if f == nil {
		return err
	}
	return problem.WithHint(err, f.Hint())
}

// aboutProgram tells that an error of a start is about the program, whom it runs as, or where.
func aboutProgram(err error) bool {
	se, ok := errors.AsType[*runtime.StartError](err)
	if !ok {
		return false
	}
	switch se.Op { //nolint:exhaustive // all others are about what we do ourselves
	case plan.OpExec, plan.OpUser, plan.OpWorkdir, plan.OpDirectory:
		return true
	}
	return false
}

// diagnoseStart looks at the files after a start that has failed and was taken back. The caller has the container's turn.
func (e *Engine) diagnoseStart(ctx context.Context, s *starting, err error) *death.Finding {
	if e.deps.Diagnose == nil || s.document == nil || !aboutProgram(err) {
		return nil
	}
	f := &containerFS{}
	if failure := e.merge(ctx, f, s.v, fsUse{}); failure != nil {
		e.log.Warn("files were not looked at after a start that failed", "container", s.c.id, "err", failure)
		return nil
	}
	defer f.Close()
	return e.deps.Diagnose(refused(f, s.v, s.document.Process, err))
}

// diagnoseExec is diagnoseStart for an exec in a container that runs.
func (e *Engine) diagnoseExec(v *view, req container.ExecCreateRequest, failure error) *death.Finding {
	if e.deps.Diagnose == nil || !aboutProgram(failure) {
		return nil
	}
	p, err := e.execProcess(v, req)
	if err != nil {
		return nil
	}
	f, err := e.openLive(v, fsUse{})
	if err != nil {
		e.log.Debug("files were not looked at after an exec that failed", "container", v.ID, "err", err)
		return nil
	}
	defer f.Close()
	return e.deps.Diagnose(refused(f, v, p, failure))
}

func refused(f *containerFS, v *view, p *specs.Process, err error) Refused {
	se, ok := errors.AsType[*runtime.StartError](err)
	return Refused{
		OpenFiles: f.files(v), Args: p.Args, Env: p.Env, Dir: p.Cwd, User: p.User.Username, Denied: ok && se.Errno == syscall.EACCES,
	}
}

// files are those of f for others.
func (f *containerFS) files(v *view) OpenFiles {
	o := OpenFiles{Root: f.root, Hidden: []string{"/proc", "/sys", "/dev"}}
	ids := f.ids
	o.Owner = func(id uint32) uint32 {
		switch {
		case ids.Size == 0:
			return id
		case id < ids.Host || id-ids.Host >= ids.Size:
			const nobody = 65534 // as the kernel shows strangers inside
			return nobody
		}
		return id - ids.Host
	}
	tmpfs := func(dst string, options []string) {
		o.Hidden = append(o.Hidden, dst)
		if !slices.Contains(options, "exec") { // noexec is the default
			o.NoExec = append(o.NoExec, dst)
		}
	}
	for _, m := range v.Mounts {
		if m.Type == mobymount.TypeTmpfs {
			tmpfs(m.Destination, m.Options)
		}
	}
	for dst, options := range v.HostConfig.Tmpfs {
		tmpfs(dst, strings.Split(options, ","))
	}
	return o
}

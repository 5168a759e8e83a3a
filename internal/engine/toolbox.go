package engine

import (
	"context"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/toolbox/foreign"
)

// resolveToolbox finds the image whose programs a session is to have; nil if none was asked for.
func (e *Engine) resolveToolbox(ctx context.Context, ref string) (*image.Image, error) {
	if ref == "" {
		return nil, nil //nolint:nilnil // none was asked for
	}
	img, err := e.deps.Images.Resolve(ctx, ref)
	if errdefs.IsNotFound(err) {
		return nil, problem.WithHint(notFound("toolbox: No such image: %s", ref), "porthole pull "+ref)
	}
	if err != nil {
		return nil, err
	}
	if warning := e.deps.Images.PlatformWarning(img); warning != "" {
		return nil, invalid("toolbox %s cannot run here: %s", ref, warning)
	}
	return &img, nil
}

// openToolbox holds the files of the image whose programs a session has, if it has one.
func (e *Engine) openToolbox(ctx context.Context, x *execution) error {
	d := x.debug
	if d.toolbox == nil {
		return nil
	}
	id := randomID()
	name := "toolbox_" + id[:12]
	if _, err := e.registry.reserve(name, id); err != nil { // so that what is its is nobody's leftover
		return err
	}
	layers, err := e.deps.Images.CreateRootFS(ctx, id, *d.toolbox)
	if err != nil {
		e.registry.release(name, id)
		return err
	}
	d.onClose(func(ctx context.Context) {
		if err := e.deps.Images.RemoveRootFS(ctx, id); err != nil {
			e.log.Error("debug session left something behind", "session", x.id, "err", err)
		}
		e.registry.release(name, id)
	})
	if len(layers.Lower) == 0 {
		return invalid("toolbox %s has no files", d.facts.Toolbox)
	}
	d.view.Toolbox = runtime.Layers{Base: layers.Base, Lower: layers.Lower}
	return nil
}

// useToolbox has a process find the programs of the toolbox. Its shell is ours, which starts those, too, that are linked to
// libraries which the target does not have; so it starts any other command.
func (d *debugging) useToolbox(p *specs.Process) {
	const shell = toolsPath + "/sh"
	if dirs := toolboxPath(d.toolbox.Config.Config.Env); dirs != "" {
		p.Env = withTools(p.Env, dirs)
	}
	p.Env = append(p.Env, foreign.Variable+"="+plan.ToolboxDir)
	if p.Args[0] == "sh" {
		p.Args = append([]string{shell}, p.Args[1:]...)
		return
	}
	p.Args = append([]string{shell, "-c", `exec "$@"`, "sh"}, p.Args...)
}

// toolboxPath are the directories of an image's programs, as they are seen in a session.
func toolboxPath(env []string) string {
	dirs := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs = value
		}
	}
	var list []string
	for dir := range strings.SplitSeq(dirs, ":") {
		if path.IsAbs(dir) {
			list = append(list, path.Join(plan.ToolboxDir, dir))
		}
	}
	return strings.Join(list, ":")
}

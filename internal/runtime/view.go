package runtime

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

// View is how a tool sees a container that runs: by a copy of its mounts, in
// which the tools and its own terminal are. The container sees nothing of that.
type View struct {
	// Tools is a directory of the host that is mounted at [plan.ToolsDir]; nil: as
	// in the bundle.
	Tools *os.File
	// Toolbox are the layers of an image that is mounted read-only at
	// [plan.ToolboxDir]; none: nothing is.
	Toolbox Layers
	// Inside puts the tool into the container's pid namespace, where it is seen.
	// Outside of it, it sees the container's processes by the container's /proc,
	// under the numbers that they have there, but has none of these itself.
	Inside bool
	// Root are the layers to have in place of the container's root filesystem,
	// none: the very one that the container has. With a root of one's own, the
	// files that are mounted in it, the host's and the container's, are read-only.
	Root Layers
}

// view compiles the way into a copy of the container's mounts.
func (ex *execution) view(c *compiler) {
	c.step(plan.Step{Name: "copy mounts", Op: plan.OpCopyMounts})
	v := ex.o.View
	if len(v.Root.Lower) > 0 {
		c.step(plan.Step{Name: "root", Op: plan.OpRoot, File: c.file("root filesystem", source{kind: sourceRoot})})
		for _, m := range ex.carried {
			step := plan.Step{Name: "carry " + m.target, Op: plan.OpCarry, Path: m.target}
			if !m.kernel { // and all that is below it
				step.Flags = unix.MOUNT_ATTR_RDONLY
				m.readOnly = nil
			}
			c.step(step)
			for i, p := range m.readOnly { // several mounts may be at a path
				c.step(plan.Step{Name: fmt.Sprintf("read-only %d %s", i, p), Op: plan.OpReadonlyPath, Path: p})
			}
		}
		c.step(plan.Step{Name: "pivot", Op: plan.OpPivot})
	}
	if v.Tools != nil {
		c.step(plan.Step{Name: "tools", Op: plan.OpTools, File: c.file("tools", source{kind: sourceTools})})
	}
	if len(v.Toolbox.Lower) > 0 {
		c.step(plan.Step{Name: "toolbox", Op: plan.OpTools, Path: plan.ToolboxName, File: c.file("toolbox", source{kind: sourceTools})})
	}
	if pts := ex.c.devpts(); pts != nil && ex.o.Process.Terminal {
		c.step(plan.Step{Name: "terminals", Op: plan.OpMount, Mount: pts})
	}
}

// devpts is the mount of the container's terminals; nil if it has none.
func (c *Container) devpts() *plan.Mount {
	if c.plan == nil {
		return nil
	}
	for _, s := range c.plan.Steps {
		if s.Op == plan.OpMount && s.Mount.FS == "devpts" {
			return s.Mount
		}
	}
	return nil
}

// viewMounts makes the mounts of the view.
func (ex *execution) viewMounts() (files []*os.File, err error) {
	v := ex.o.View
	if v == nil {
		return nil, nil
	}
	defer func() {
		if err != nil {
			closeFiles(files)
			files = nil
		}
	}()
	if len(v.Root.Lower) > 0 {
		root, err := ex.merge(v.Root)
		if err != nil {
			return files, fmt.Errorf("root filesystem: %w", err)
		}
		files = append(files, root)
	}
	if v.Tools != nil {
		tools, err := toolsMount(v.Tools)
		if err != nil {
			return files, err
		}
		files = append(files, tools)
	}
	if len(v.Toolbox.Lower) > 0 {
		toolbox, err := ex.toolbox()
		if err != nil {
			return files, fmt.Errorf("toolbox: %w", err)
		}
		files = append(files, toolbox)
	}
	return files, nil
}

// toolbox is a read-only mount of the toolbox's layers.
func (ex *execution) toolbox() (*os.File, error) {
	m, err := ex.merge(ex.o.View.Toolbox)
	if err != nil {
		return nil, err
	}
	attr := mount.Attr{Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE}
	if err := mount.SetAttr(m, attr, mount.Single); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// toolsMount is a read-only mount of the directory with the tools.
func toolsMount(dir *os.File) (*os.File, error) {
	m, err := mount.Clone(dir, mount.Single)
	if err != nil {
		return nil, fmt.Errorf("mount tools: %w", err)
	}
	attr := mount.Attr{
		Set:         unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV,
		Clear:       unix.MOUNT_ATTR_NOEXEC, // many hosts have it on /run
		Propagation: unix.MS_PRIVATE,
	}
	if err := mount.SetAttr(m, attr, mount.Single); err != nil {
		m.Close()
		return nil, fmt.Errorf("mount tools: %w", err)
	}
	return m, nil
}

// merge merges layers as the container's are.
func (ex *execution) merge(l Layers) (*os.File, error) {
	p := &preparer{r: ex.c.r, bundle: &Bundle{ID: ex.c.id, IDs: ex.c.ids}}
	if ex.c.ids.Size > 0 {
		user, err := ex.c.namespace(ns.User)
		if err != nil {
			return nil, err
		}
		defer user.Close()
		p.userns = user
	}
	return p.merge(l)
}

// carriedMount is one of the mounts right below the container's root mount.
type carriedMount struct {
	target string
	// kernel says that it has no files, neither of the host nor of the
	// container. readOnly are the mounts somewhere below it that may have some.
	kernel   bool
	readOnly []string
}

// carriedMounts lists the mounts right below the root mount of the container's
// first process, in the order in which they were made.
func (c *Container) carriedMounts() ([]carriedMount, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", c.pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("read mounts of pid %d: %w", c.pid, err)
	}
	kernel := c.kernelMounts()
	var list []carriedMount
	root := -1
	below := map[int]int{} // the index in list of the mount that one is below, by its ID
	for _, m := range all {
		target := path.Clean(m.Mountpoint)
		at, nested := below[m.Parent]
		switch {
		case m.Mountpoint == "/":
			root = m.ID
		case m.Parent == root:
			below[m.ID] = len(list)
			list = append(list, carriedMount{target: target, kernel: kernel[target] == m.FSType})
		case nested:
			below[m.ID] = at
			if kernel[target] != m.FSType && !slices.Contains(strings.Split(m.Options, ","), "ro") {
				list[at].readOnly = append(list[at].readOnly, target)
			}
		}
	}
	return list, nil
}

// kernelMounts are the filesystems that were made for the container and have no
// files, by what they are mounted at, and /dev. What was bound somewhere has
// files of the host, of whatever type it is: many a directory of the host is on
// a tmpfs.
func (c *Container) kernelMounts() map[string]string {
	kernel := map[string]string{"/dev": "tmpfs"}
	if c.plan == nil { // not known any more: what every container has
		kernel["/proc"], kernel["/sys"] = "proc", "sysfs"
		return kernel
	}
	for _, s := range c.plan.Steps {
		if s.Op == plan.OpMount && s.Mount.FS != "" && s.Mount.FS != "tmpfs" {
			kernel[path.Clean(s.Mount.Target)] = s.Mount.FS
		}
	}
	return kernel
}

// EndTools ends everything in the container's group for tools.
func (c *Container) EndTools(ctx context.Context) error {
	return c.group.EndTools(ctx)
}

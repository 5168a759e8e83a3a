package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OverlayOptions describe an overlay.
type OverlayOptions struct {
	// Base is a directory, or a detached and perhaps ID-mapped mount of one,
	// below which all layers are.
	Base *os.File
	// Lower are the read-only layers, the topmost first, as paths below Base.
	Lower []string
	// Upper and Work are the writable layer and the scratch directory beside
	// it. Both empty: the overlay is read-only and needs two layers at least.
	Upper, Work string
	// Attributes are MOUNT_ATTR_*.
	Attributes uint64
	// Volatile omits all syncing of the upper layer.
	Volatile bool
}

// ErrNeedsAttached means that this kernel takes layers from attached mounts
// only: Base has to be attached somewhere until the overlay exists.
var ErrNeedsAttached = errors.New("overlay layers must be on an attached mount")

// MaxLower is how many read-only layers Linux merges (OVL_MAX_STACK in
// fs/overlayfs/params.h), whatever its version.
const MaxLower = 500

// tooDeep is nil, or says that there are too many layers. The kernel itself says
// EINVAL, as it does for much else. The first words are Docker's.
func (o OverlayOptions) tooDeep() error {
	if len(o.Lower) <= MaxLower {
		return nil
	}
	return fmt.Errorf("max depth exceeded: Linux merges up to %d layers, and these are %d: %w", MaxLower, len(o.Lower), unix.E2BIG)
}

// Overlay makes a detached overlay mount. The filesystem ids and capabilities
// of the calling thread become those with which the kernel works in the layers
// ever after; with an ID-mapped Base they must be those of the namespace's root.
//
// Index and metacopy are off: both would write extended attributes that make
// the upper layer useless for anything but exactly these lower ones.
func Overlay(o OverlayOptions) (*os.File, error) {
	if err := o.tooDeep(); err != nil {
		return nil, err
	}
	paths := layerPaths{base: o.Base}
	defer paths.Close()
	c, err := open("overlay")
	if err != nil {
		return nil, err
	}
	defer c.Close()

	if err := c.set("source", "overlay"); err != nil {
		return nil, err
	}
	if err := setLower(c, &paths, o.Lower); err != nil {
		return nil, err
	}
	if o.Upper != "" {
		for _, kv := range [][2]string{{"upperdir", o.Upper}, {"workdir", o.Work}} {
			p, err := paths.plain(kv[1])
			if err != nil {
				return nil, err
			}
			if err := c.set(kv[0], p); err != nil {
				return nil, needsAttached(err)
			}
		}
	}
	for _, kv := range [][2]string{{"index", "off"}, {"metacopy", "off"}} {
		// A kernel built without the feature does not know its option either.
		if err := c.set(kv[0], kv[1]); err != nil && !errors.Is(err, unix.EINVAL) {
			return nil, err
		}
	}
	if o.Volatile {
		if err := c.flag("volatile"); err != nil {
			return nil, err
		}
	}
	m, err := c.mount(o.Attributes)
	if err != nil {
		return nil, needsAttached(err)
	}
	return m, nil
}

// needsAttached recognises what kernels before 6.15 say to a layer on a mount
// of no namespace: EINVAL from clone_private_mount.
func needsAttached(err error) error {
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: %w", ErrNeedsAttached, err)
	}
	return err
}

// setLower gives the lower layers one by one with "lowerdir+" (Linux 6.7), or
// else as a single string.
func setLower(c *context, paths *layerPaths, lower []string) error {
	for i, name := range lower {
		p, err := paths.plain(name)
		if err != nil {
			return err
		}
		err = c.set("lowerdir+", p)
		if i == 0 && errors.Is(err, unix.EINVAL) {
			return setLowerString(c, paths, lower)
		}
		if err != nil {
			return needsAttached(err)
		}
	}
	return nil
}

// maxParam is the longest string that fsconfig takes, see fsconfig(2).
const maxParam = 255

func setLowerString(c *context, paths *layerPaths, lower []string) error {
	list := make([]string, 0, len(lower))
	for _, name := range lower {
		p, err := paths.plain(name)
		if err != nil {
			return err
		}
		list = append(list, p)
	}
	s := strings.Join(list, ":")
	if len(s) > maxParam {
		return fmt.Errorf("%w: %d layers do not fit into one option of this kernel", ErrNeedsAttached, len(lower))
	}
	return c.set("lowerdir", s)
}

// layerPaths turns paths of layers into paths that overlayfs can be given: below
// /proc/self/fd/N of the base, or, if they are long or hold characters that the
// option's syntax uses, /proc/self/fd/N of the layer itself.
type layerPaths struct {
	base *os.File
	open []*os.File
}

func (l *layerPaths) plain(name string) (string, error) {
	p := filepath.Join(procFD(l.base), name)
	if len(p) <= 128 && !strings.ContainsAny(name, `\:,`) {
		return p, nil
	}
	fd, err := unix.Openat(int(l.base.Fd()), name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open layer", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	l.open = append(l.open, f)
	return procFD(f), nil
}

func (l *layerPaths) Close() {
	for _, f := range l.open {
		f.Close()
	}
}

func procFD(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// OverlayLegacy makes the same overlay as [Overlay] for kernels that take
// layers from attached mounts only. It attaches Base at dir, so the calling
// thread must be alone in a private mount namespace, which it leaves with its
// working directory at dir. All option strings together fit into one page.
func OverlayLegacy(o OverlayOptions, dir, at string) (*os.File, error) {
	if err := o.tooDeep(); err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := Move(o.Base, d, ""); err != nil {
		return nil, fmt.Errorf("attach layers: %w", err)
	}
	if err := unix.Chdir(dir); err != nil {
		return nil, &os.PathError{Op: "chdir", Path: dir, Err: err}
	}
	escape := strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`)
	lower := make([]string, 0, len(o.Lower))
	for _, l := range o.Lower {
		lower = append(lower, escape.Replace(l))
	}
	data := "index=off,metacopy=off,lowerdir=" + strings.Join(lower, ":")
	if o.Upper != "" {
		data += ",upperdir=" + escape.Replace(o.Upper) + ",workdir=" + escape.Replace(o.Work)
	}
	if o.Volatile {
		data += ",volatile"
	}
	if len(data) >= os.Getpagesize() {
		return nil, fmt.Errorf("mount overlay: options of %d layers are longer than a page: %w", len(o.Lower), unix.E2BIG)
	}
	if err := unix.Mount("overlay", at, "overlay", 0, data); err != nil {
		return nil, fmt.Errorf("mount overlay: %w", err)
	}
	// A mount that stays is gone with the thread's namespace.
	defer func() { _ = unix.Unmount(at, unix.MNT_DETACH) }()
	top, err := os.Open(at)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	m, err := Clone(top, Single)
	if err != nil {
		return nil, err
	}
	if err := SetAttr(m, Attr{Set: o.Attributes}, Single); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

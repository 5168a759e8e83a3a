package mounted

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	mobymount "github.com/moby/moby/api/types/mount"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/linux/mount"
)

// namespace is the mount namespace of a container that runs.
type namespace struct {
	root  *os.File
	table []*mountinfo.Info // in the order of /proc/PID/mountinfo: the older ones first
	ids   state.IDRange
	name  string // of the container
}

// owned is the mount of the table that the engine has made for m; nil: it is not
// there any more, or at another place than its path says, because of a link.
func (n *namespace) owned(m state.Mount) *mountinfo.Info {
	if at := n.first(m.Destination); at != nil {
		return at
	}
	f, st, err := n.open(m.Destination)
	if err != nil {
		return nil
	}
	f.Close()
	if at := n.entry(st.Mnt_id); at != nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return n.first(at.Mountpoint)
	}
	return nil
}

// open opens the namespace of a container; nil if it does not run.
func open(src Source, ref string) (engine.Subject, *namespace, error) {
	for {
		sub, err := src.Subject(ref)
		if err != nil || sub.Pid == 0 {
			return sub, nil, err
		}
		n, err := openPid(sub.Pid)
		again, e := src.Subject(sub.ID)
		if e == nil && again.Pid == sub.Pid && err == nil { // so that nobody else has got the number meanwhile
			n.ids, n.name = sub.IDs, sub.Name
			return sub, n, nil
		}
		n.Close()
		if e == nil && again.Pid == sub.Pid {
			return sub, nil, err
		}
	}
}

func openPid(pid int) (*namespace, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	root, err := os.OpenFile(filepath.Join(dir, "root"), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	n := &namespace{root: root}
	f, err := os.Open(filepath.Join(dir, "mountinfo"))
	if err == nil {
		n.table, err = mountinfo.GetMountsFromReader(f, nil)
		f.Close()
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// Close gives the descriptor back; nil is fine.
func (n *namespace) Close() {
	if n != nil {
		n.root.Close()
	}
}

// entry is a mount of the table by its id, nil if it is not there.
func (n *namespace) entry(id uint64) *mountinfo.Info {
	i := slices.IndexFunc(n.table, func(m *mountinfo.Info) bool { return uint64(m.ID) == id })
	if i < 0 {
		return nil
	}
	return n.table[i]
}

// first is the oldest mount at a place: what the engine has put there.
func (n *namespace) first(at string) *mountinfo.Info {
	i := slices.IndexFunc(n.table, func(m *mountinfo.Info) bool { return m.Mountpoint == at })
	if i < 0 {
		return nil
	}
	return n.table[i]
}

// look completes what is told of a mount.
func (n *namespace) look(m state.Mount, out *api.Mount) {
	f, st, err := n.open(m.Destination)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
		out.State, out.Note = api.MountUnknown, "it cannot be looked at: "+err.Error()
		return
	}
	if err == nil {
		defer f.Close()
		at := n.entry(st.Mnt_id)
		if at != nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
			if n.first(at.Mountpoint) != at {
				shadowed(out, at)
				return
			}
			n.visible(m, out, f, st, at)
			return
		}
	}
	if n.first(m.Destination) == nil {
		out.State, out.Note = api.MountUnmounted, "there is no mount at this place any more: it was unmounted in the container"
		return
	}
	shadowed(out, n.above(m.Destination))
}

// open opens a place in the container, not what is in it. No link leads out of its
// root.
func (n *namespace) open(at string) (*os.File, *unix.Statx_t, error) {
	f, err := mount.OpenInRoot(n.root, at, unix.O_PATH, 0)
	if err != nil {
		return nil, nil, err
	}
	st, err := statx(f)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, st, nil
}

// statx asks for what the kernel knows already, where that is a choice.
func statx(f *os.File) (*unix.Statx_t, error) {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st)
	if err != nil {
		return nil, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	return &st, nil
}

// above is the mount that the nearest parent of a place is on.
func (n *namespace) above(at string) *mountinfo.Info {
	for at != "/" {
		at = path.Dir(at)
		f, st, err := n.open(at)
		if err != nil {
			continue
		}
		f.Close()
		return n.entry(st.Mnt_id)
	}
	return nil
}

func shadowed(out *api.Mount, by *mountinfo.Info) {
	out.State, out.Note = api.MountShadowed, "another mount hides it"
	if by != nil {
		out.Note = fmt.Sprintf("%s on %s hides it, which was mounted later", describe(by), by.Mountpoint)
	}
}

// describe names what is mounted.
func describe(m *mountinfo.Info) string {
	if m.Source == "" || m.Source == m.FSType || m.Source == "none" {
		return m.FSType
	}
	return m.FSType + " (" + m.Source + ")"
}

// visible tells of a mount that is where it should be.
func (n *namespace) visible(m state.Mount, out *api.Mount, f *os.File, st *unix.Statx_t, at *mountinfo.Info) {
	out.State = api.MountOK
	n.facts(out, f, st, at)
	switch m.Type {
	case mobymount.TypeBind, mobymount.TypeVolume:
		n.compare(m, out, st)
	case mobymount.TypeImage: // its room is that of the daemon's data root, where it cannot write
		out.Space = nil
	}
	if m.RW && out.ReadOnly && out.Note == "" {
		out.Note = "it was asked for writing, but its filesystem is read-only"
	}
}

// facts are what the kernel tells of any mount.
func (n *namespace) facts(out *api.Mount, f *os.File, st *unix.Statx_t, at *mountinfo.Info) {
	own, fs := strings.Split(at.Options, ","), strings.Split(at.VFSOptions, ",")
	out.Filesystem, out.Propagation = at.FSType, propagation(at.Optional)
	out.ReadOnly = slices.Contains(own, "ro") || slices.Contains(fs, "ro")
	out.Options = own
	for _, o := range fs {
		if !slices.Contains(own, o) && o != "rw" && !strings.Contains(o, "dir=") && !strings.HasPrefix(o, "lowerdir") {
			out.Options = append(out.Options, o)
		}
	}
	out.Owner = &api.MountOwner{
		UID: n.inside(st.Uid), GID: n.inside(st.Gid), HostUID: st.Uid, HostGID: st.Gid, Mode: mode(st.Mode),
	}
	var room unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &room); err == nil && room.Blocks > 0 {
		out.Space = &api.MountSpace{
			Size: room.Blocks * uint64(room.Bsize), Free: room.Bavail * uint64(room.Bsize), Inodes: room.Files, IFree: room.Ffree,
		}
	}
}

func mode(m uint16) string { return fmt.Sprintf("%04o", m&0o7777) }

// inside is an id as the container has it.
func (n *namespace) inside(id uint32) uint32 {
	switch {
	case n.ids.Size == 0:
		return id
	case id < n.ids.Host || id-n.ids.Host >= n.ids.Size:
		const nobody = 65534 // as the kernel shows strangers
		return nobody
	}
	return id - n.ids.Host
}

// propagation names what the optional fields of mountinfo mean.
func propagation(fields string) string {
	var words []string
	for tag := range strings.FieldsSeq(fields) {
		switch {
		case strings.HasPrefix(tag, "shared:"):
			words = append(words, "shared")
		case strings.HasPrefix(tag, "master:"):
			words = append(words, "slave")
		}
	}
	if len(words) == 0 {
		return "private"
	}
	return strings.Join(words, ",")
}

// compare tells whether the source on the host is what is mounted.
func (n *namespace) compare(m state.Mount, out *api.Mount, mounted *unix.Statx_t) {
	src, err := mount.OpenSource(m.Source, m.Subpath)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		out.State = api.MountSourceDeleted
		out.Note = shown(m) + " is gone from the host; the container keeps what was there when it was started"
		out.Next = []string{"put it back, then " + n.again()[0]}
		return
	}
	if err != nil {
		out.State, out.Note = api.MountUnknown, "the source cannot be looked at: "+err.Error()
		return
	}
	defer src.Close()
	st, err := statx(src)
	if err != nil {
		out.State, out.Note = api.MountUnknown, "the source cannot be looked at: "+err.Error()
		return
	}
	if st.Ino == mounted.Ino && st.Dev_major == mounted.Dev_major && st.Dev_minor == mounted.Dev_minor {
		out.Owner.HostUID, out.Owner.HostGID = st.Uid, st.Gid
		return
	}
	out.State = api.MountSourceReplaced
	if mounted.Mode&unix.S_IFMT == unix.S_IFDIR {
		out.Note = fmt.Sprintf("%s on the host is another directory by now (inode %d) than the one that is mounted (inode %d)", shown(m), st.Ino, mounted.Ino)
		out.Next = n.again()
		return
	}
	out.Note = fmt.Sprintf("%s on the host is another file by now (inode %d) than the one that is mounted (inode %d); editors and sed -i do that, which write a new file and rename it",
		shown(m), st.Ino, mounted.Ino)
	out.Next = append(n.again(), "mount its directory instead, at a place of its own: -v "+path.Dir(m.Source)+":/…")
}

// again has the mounts made anew.
func (n *namespace) again() []string { return []string{"porthole restart " + n.name} }

// shown is the source of a mount for people.
func shown(m state.Mount) string {
	switch {
	case m.Type == mobymount.TypeVolume && m.Subpath != "":
		return m.Subpath + " in volume " + m.Name
	case m.Type == mobymount.TypeVolume:
		return "volume " + m.Name
	case m.Subpath != "":
		return m.Subpath + " in " + m.Source
	}
	return m.Source
}

// idle tells of a mount of a container that does not run: what its source is now.
func idle(m state.Mount, out *api.Mount) {
	out.State = api.MountNotMounted
	if m.Type != mobymount.TypeBind && m.Type != mobymount.TypeVolume {
		return
	}
	src, err := mount.OpenSource(m.Source, m.Subpath)
	switch {
	case errors.Is(err, unix.ENOENT) && m.MakeSource && m.Subpath == "":
		out.Note = shown(m) + " is not on the host; the start will make a directory there"
		return
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		out.State, out.Note = api.MountSourceMissing, shown(m)+" is not on the host: the container cannot be started"
		return
	case err != nil:
		out.State, out.Note = api.MountUnknown, "the source cannot be looked at: "+err.Error()
		return
	}
	defer src.Close()
	st, err := statx(src)
	if err != nil {
		out.State, out.Note = api.MountUnknown, "the source cannot be looked at: "+err.Error()
		return
	}
	out.Owner = &api.MountOwner{UID: st.Uid, GID: st.Gid, HostUID: st.Uid, HostGID: st.Gid, Mode: mode(st.Mode)}
}

// others are the mounts but those that were asked for. What hides parts of /proc is
// among them, and what was mounted in the container.
func (n *namespace) others(asked []state.Mount) []api.Mount {
	told := map[*mountinfo.Info]bool{}
	for _, m := range asked {
		told[n.owned(m)] = true
	}
	var list []api.Mount
	for _, at := range n.table {
		if told[at] {
			continue
		}
		out := api.Mount{Destination: at.Mountpoint, Kind: at.FSType, State: api.MountOK}
		if at.Source != at.FSType && at.Source != "none" {
			out.Source = at.Source
		}
		if at.Root != "/" {
			out.Subpath = at.Root
		}
		if f, st, err := n.open(at.Mountpoint); err == nil {
			if st.Mnt_id == uint64(at.ID) {
				n.facts(&out, f, st, at)
			} else {
				out.State = api.MountShadowed
			}
			f.Close()
		}
		list = append(list, out)
	}
	return list
}

package stage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/account"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/sys"
)

// identity is who the process becomes.
type identity struct {
	uid, gid uint32
	groups   []uint32
	member   map[uint32]bool // what is in groups
	home     string
}

// maxGroups is NGROUPS_MAX of linux/limits.h.
const maxGroups = 65536

// accountsLimit bounds the size of an image's /etc/passwd and /etc/group: a
// start must not take for ever. Neither is held in memory.
const accountsLimit = 256 << 20

// accounts opens a file of the container, which may be anything; a missing one,
// or links that lead nowhere, are no error and give nil.
func (s *stage) accounts(name string) (io.Reader, error) {
	// Not blocking: a FIFO would hold the start up for ever.
	f, err := mount.OpenInRoot(s.root, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if !info.Mode().IsRegular() {
		f.Close()
		return nil, nil
	}
	if info.Size() > accountsLimit {
		f.Close()
		return nil, fmt.Errorf("%s: its %d bytes are more than is looked through (%d)", name, info.Size(), accountsLimit)
	}
	return io.LimitReader(f, accountsLimit), nil // it may grow meanwhile
}

func (s *stage) identify(u *plan.User) (identity, error) {
	passwd, err := s.accounts("/etc/passwd")
	if err != nil {
		return identity{}, err
	}
	group, err := s.accounts("/etc/group")
	if err != nil {
		return identity{}, err
	}
	id := identity{uid: u.UID, gid: u.GID, home: "/"}
	spec := u.Spec
	if spec == "" && !u.Lookup {
		// Numbers only: the files are asked for the home directory alone.
		spec = strconv.Itoa(int(u.UID)) + ":" + strconv.Itoa(int(u.GID))
	}
	found, err := account.Find(spec, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return identity{}, err
	}
	if found.Home != "" {
		id.home = found.Home
	}
	if u.Spec != "" || u.Lookup {
		id.uid, id.gid = uint32(found.Uid), uint32(found.Gid)
		// The primary group is among them as after a login, so that a group
		// cannot be shaken off by setgid (CVE-2022-36109).
		id.addGroups(append([]int{found.Gid}, found.Sgids...)...)
	}
	further, err := s.groups(u.Groups)
	if err != nil {
		return identity{}, err
	}
	id.addGroups(further...)
	if len(id.groups) > maxGroups {
		return identity{}, fmt.Errorf("user %d is in %d groups: the kernel takes %d", id.uid, len(id.groups), maxGroups)
	}
	return id, nil
}

func (s *stage) groups(names []string) ([]int, error) {
	if len(names) == 0 {
		return nil, nil
	}
	group, err := s.accounts("/etc/group")
	if err != nil {
		return nil, err
	}
	return account.Groups(names, group)
}

// addGroups takes no longer than its arguments are many, as an image may name
// very many.
func (id *identity) addGroups(gids ...int) {
	if id.member == nil {
		id.member = map[uint32]bool{}
	}
	for _, g := range gids {
		if g := uint32(g); !id.member[g] {
			id.member[g] = true
			id.groups = append(id.groups, g)
		}
	}
}

// becomeUser takes the user's ids, and keeps the capabilities for the steps that follow.
func (s *stage) becomeUser(u *plan.User) error {
	id, err := s.identify(u)
	if err != nil {
		return err
	}
	s.user = id
	if u.OwnStdio {
		if err := ownStdio(id.uid); err != nil {
			return err
		}
	}
	if err := sys.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if err := sys.Setgroups(id.groups); err != nil {
		return fmt.Errorf("set groups %v: %w", id.groups, err)
	}
	if err := sys.Setgid(id.gid); err != nil {
		return fmt.Errorf("set group id %d: %w", id.gid, err)
	}
	if err := sys.Setuid(id.uid); err != nil {
		return fmt.Errorf("set user id %d: %w", id.uid, err)
	}
	if err := sys.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	return os.NewSyscallError("capset", sys.RaiseEffective())
}

// ownStdio gives the standard streams to the user: /dev/stdout leads to
// /proc/self/fd/1, and opening that asks for the rights of the file's owner. A
// stream that cannot be given (the null device, a file of a read-only mount,
// something that belongs to nobody in this user namespace) stays as it is.
func ownStdio(uid uint32) error {
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			if err == unix.EBADF {
				continue
			}
			return fmt.Errorf("stat standard stream %d: %w", fd, err)
		}
		if st.Uid == uid || isNull(&st) {
			continue
		}
		switch err := unix.Fchown(fd, int(uid), -1); err {
		case nil, unix.EPERM, unix.EINVAL, unix.EROFS, unix.EOPNOTSUPP:
		default:
			return fmt.Errorf("give standard stream %d to user %d: %w", fd, uid, err)
		}
	}
	return nil
}

func isNull(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

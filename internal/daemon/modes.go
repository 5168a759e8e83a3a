package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// made tells whether a directory has a mode that this daemon, an older one or
// the unit of the socket gives. Any other is somebody's own choice, or that of
// a directory like /run, and stays as it is.
func made(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	mode := info.Mode() &^ fs.ModeDir
	return ok && st.Uid == 0 && (mode == 0o700 || mode == 0o710 || mode == 0o711)
}

// closeRoot makes a directory that was made by a daemon root's alone. Older ones
// let everybody pass through it.
func closeRoot(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || !made(info) || info.Mode().Perm() == 0o700 {
		return err
	}
	return os.Chmod(dir, 0o700)
}

// CloseExecRoot lets into the exec root only those who may connect to a socket
// that the API is answered on in there: the socket's group, everybody if the
// socket is for everybody or sockets have several groups, root alone if there
// is none. Containers get by descriptor what is in it for them.
func (c *Config) CloseExecRoot(listeners []net.Listener) error {
	info, err := os.Stat(c.ExecRoot)
	if err != nil {
		return err
	}
	if !made(info) {
		return nil
	}
	mode, gid := fs.FileMode(0o700), 0
	for _, l := range listeners {
		m, g, err := c.passers(l)
		if err != nil {
			return err
		}
		if m == 0o710 && mode == 0o710 && g != gid {
			m = 0o711
		}
		if m > mode {
			mode, gid = m, g
		}
	}
	if mode != 0o710 {
		gid = 0
	}
	if err := os.Chown(c.ExecRoot, 0, gid); err != nil {
		return err
	}
	return os.Chmod(c.ExecRoot, mode)
}

// passers tells the mode, and the group, that the exec root has to have for a
// listener's clients.
func (c *Config) passers(l net.Listener) (mode fs.FileMode, gid int, err error) {
	unix, ok := l.Addr().(*net.UnixAddr)
	if !ok {
		return 0o700, 0, nil
	}
	if !filepath.IsAbs(unix.Name) { // an abstract one
		return 0o700, 0, nil
	}
	// Who has opened the socket may have come by a link, /var/run for one.
	path, err := filepath.EvalSymlinks(unix.Name)
	if errors.Is(err, fs.ErrNotExist) { // somebody has removed it: no client comes by it
		return 0o700, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	root, err := filepath.EvalSymlinks(c.ExecRoot)
	if err != nil {
		return 0, 0, err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return 0, 0, err
	}
	if !filepath.IsLocal(rel) {
		return 0o700, 0, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return 0, 0, fmt.Errorf("owner of %s is not known", path)
	case info.Mode()&0o002 != 0 || st.Uid != 0:
		return 0o711, 0, nil
	case info.Mode()&0o020 != 0 && st.Gid != 0:
		return 0o710, int(st.Gid), nil
	}
	return 0o700, 0, nil
}

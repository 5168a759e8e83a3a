package wire

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxAddress is what sun_path holds, with room for the final NUL (unix(7)).
const maxAddress = 107

// Listen makes the socket at path, mode 0600. The path may be longer than a
// socket address can hold. Closing the listener leaves the file, since the
// shim goes on listening at it.
func Listen(path string) (*net.UnixListener, error) {
	var l *net.UnixListener
	err := shortened(path, func(short string) error {
		var err error
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen at %q: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func dialUnix(path string) (*net.UnixConn, error) {
	var c *net.UnixConn
	err := shortened(path, func(short string) error {
		var err error
		c, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: short, Net: "unix"})
		return err
	})
	return c, err
}

// shortened calls fn with a name for path that fits into a socket address.
func shortened(path string, fn func(string) error) error {
	if len(path) <= maxAddress {
		return fn(path)
	}
	dir, base := filepath.Split(path)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", dir, err)
	}
	defer unix.Close(fd)
	return fn(fmt.Sprintf("/proc/self/fd/%d/%s", fd, base))
}

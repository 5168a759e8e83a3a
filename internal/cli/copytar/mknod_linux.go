package copytar

import (
	"errors"

	"golang.org/x/sys/unix"
)

var errNoDevices = errors.New("device nodes are not supported on this system")

func mknodAt(dir int, name string, mode uint32, dev uint64) error {
	return unix.Mknodat(dir, name, mode, int(dev))
}

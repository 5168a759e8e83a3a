//go:build unix && !linux

package copytar

import "errors"

var errNoDevices = errors.New("device nodes are not supported on this system")

func mknodAt(int, string, uint32, uint64) error { return errNoDevices }

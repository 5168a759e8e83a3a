package syscalls

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// Operand is a file that a call is about: a descriptor, or a path that begins at
// one.
type Operand struct {
	FD   int32  // AT_FDCWD: the working directory
	Path string // empty: what FD is; if absolute FD does not matter
}

// Operands are the files that a call is about, in the order of its arguments. A
// path that memory does not give away, which may be nil, is left out.
func Operands(c Call, m Memory) []Operand {
	var list []Operand
	t := &Text{mem: m}
	at := int32(unix.AT_FDCWD)
	for i, a := range signature(c.Name()) {
		switch a.kind {
		case "fd":
			list = append(list, Operand{FD: int32(c.Args[i])})
		case "dirfd":
			at = int32(c.Args[i])
			continue
		case "path":
			path, _, whole := bytes.Cut(t.read(c.Args[i], maxPath), []byte{0})
			if whole && len(path) > 0 {
				list = append(list, Operand{FD: at, Path: string(path)})
			} else if whole && at != unix.AT_FDCWD {
				list = append(list, Operand{FD: at}) // AT_EMPTY_PATH
			}
		default:
			continue
		}
		at = unix.AT_FDCWD
	}
	return list
}

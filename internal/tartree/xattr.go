package tartree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	paxXattr   = "SCHILY.xattr."
	capability = "security.capability"
)

// wanted tells whether an extended attribute belongs into an archive, or out
// of one into a file. What overlay file systems note for themselves does not,
// nor what the policy of the machine decides on. Access control lists name
// users, so they only travel where ids are as they are.
func (i IDs) wanted(name string) bool {
	switch {
	case strings.HasPrefix(name, "trusted."), strings.HasPrefix(name, "user.overlay."):
		return false
	case name == capability, strings.HasPrefix(name, "user."):
		return true
	case strings.HasPrefix(name, "system.posix_acl_"):
		return i.Size == 0
	}
	return false
}

// readXattrs returns the attributes of the file that path, of /proc/self/fd,
// stands for, as PAX records; nil when there are none.
func (i IDs) readXattrs(path string) (map[string]string, error) {
	names, err := sized(func(b []byte) (int, error) { return unix.Listxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EACCES) || len(names) == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	var records map[string]string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if !i.wanted(name) {
			continue
		}
		value, err := sized(func(b []byte) (int, error) { return unix.Getxattr(path, name, b) })
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read extended attribute %s: %w", name, err)
		}
		if name == capability {
			value = plainCapability(value)
		}
		if records == nil {
			records = map[string]string{}
		}
		records[paxXattr+name] = string(value)
	}
	return records, nil
}

// writeXattrs gives the file that path stands for the attributes of an archive.
// A file system that has none, or not of that kind, is no error.
func (i IDs) writeXattrs(path string, records map[string]string) error {
	for key, value := range records {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || !i.wanted(name) {
			continue
		}
		data := []byte(value)
		if name == capability {
			data = i.rootedCapability(data)
		}
		err := unix.Setxattr(path, name, data, 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !(errors.Is(err, unix.EPERM) && strings.HasPrefix(name, "user.")) {
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ERANGE) || errors.Is(err, unix.E2BIG) { // what none can be
				err = fmt.Errorf("%w: %w", ErrArchive, err)
			}
			return fmt.Errorf("set extended attribute %s: %w", name, err)
		}
	}
	return nil
}

// File capabilities have a version in their first word: 2 (20 bytes) is for
// the root of whoever mounts the file system, 3 (24 bytes) names that root's
// user id in its last word. See capabilities(7).
const (
	capVersion2, capVersion3 = 0x02000000, 0x03000000
	capVersionMask           = 0xff000000
	capSize2, capSize3       = 20, 24
)

// plainCapability makes version 2 of version 3: in the archive there is no
// other root than the container's.
func plainCapability(v []byte) []byte {
	if len(v) != capSize3 {
		return v
	}
	head := binary.LittleEndian.Uint32(v)
	if head&capVersionMask != capVersion3 {
		return v
	}
	out := append([]byte(nil), v[:capSize2]...)
	binary.LittleEndian.PutUint32(out, head&^uint32(capVersionMask)|capVersion2)
	return out
}

// rootedCapability is the reverse for a tree with ids that are not as they are.
func (i IDs) rootedCapability(v []byte) []byte {
	if i.Size == 0 || len(v) != capSize2 {
		return v
	}
	out := binary.LittleEndian.AppendUint32(append([]byte(nil), v...), i.Host)
	head := binary.LittleEndian.Uint32(v)
	binary.LittleEndian.PutUint32(out, head&^uint32(capVersionMask)|capVersion3)
	return out
}

// sized calls fn with a buffer that is large enough.
func sized(fn func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := fn(buf)
		if !errors.Is(err, unix.ERANGE) {
			return buf[:max(n, 0)], err
		}
	}
}

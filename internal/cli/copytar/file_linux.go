package copytar

import (
	"archive/tar"

	"golang.org/x/sys/unix"
)

// capabilities is the extended attribute that makes a program run with
// rights of its own; the only one that is copied.
const capabilities = "security.capability"

func addXattrs(head *tar.Header, file string) {
	value := make([]byte, 256)
	n, err := unix.Lgetxattr(file, capabilities, value)
	if err != nil || n == 0 {
		return
	}
	head.PAXRecords = map[string]string{"SCHILY.xattr." + capabilities: string(value[:n])}
}

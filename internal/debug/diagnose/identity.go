package diagnose

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/moby/sys/user"

	"github.com/portholehq/porthole/internal/linux/account"
)

// Identity is whom a process runs as, with the container's ids.
type Identity struct {
	UID, GID uint32
	Groups   []uint32
}

func (i Identity) String() string { return fmt.Sprintf("%d:%d", i.UID, i.GID) }

// Access is a right: one of the bits of a mode.
type Access uint8

// The rights.
const (
	Execute Access = 1
	Search         = Execute
	Write   Access = 2
	Read    Access = 4
)

// May reports whether the mode of a file gives a right. Root may all but execute
// what nobody may, as with the capabilities that a container's root has.
func (i Identity) May(f Info, a Access) bool {
	perm := uint32(f.Mode.Perm())
	if i.UID == 0 {
		return a != Execute || f.Mode.IsDir() || perm&0o111 != 0
	}
	switch {
	case f.UID == i.UID:
		perm >>= 6
	case f.GID == i.GID || slices.Contains(i.Groups, f.GID):
		perm >>= 3
	}
	return perm&uint32(a) == uint32(a)
}

// Owner tells mode and owner of a file, as in "0:0 0644".
func Owner(f Info) string { return fmt.Sprintf("%d:%d %#o", f.UID, f.GID, f.Mode.Perm()) }

// UnknownError is a name that the container's user database does not have.
type UnknownError struct {
	Name  string
	Group bool
	File  string // where it is missing
	Near  string // a name like it; empty: none
}

func (e *UnknownError) Error() string { return fmt.Sprintf("no %s in %s", quoted(e.Name), e.File) }

const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
	maxDB      = 1 << 20 // bytes that are read of a user database
)

// LookUpUser finds a user as the container's files have it: "", "1000", "app",
// "app:staff", and as a start does. A name that is in none of them gives an
// [*UnknownError].
func LookUpUser(r Root, spec string) (Identity, error) {
	passwd, err := database(r, passwdFile)
	if err != nil {
		return Identity{}, err
	}
	group, err := database(r, groupFile)
	if err != nil {
		return Identity{}, err
	}
	found, err := account.Find(spec, nil, bytes.NewReader(passwd), bytes.NewReader(group))
	userName, groupName, _ := strings.Cut(spec, ":")
	switch {
	case errors.Is(err, user.ErrNoPasswdEntries):
		return Identity{}, &UnknownError{Name: userName, File: passwdFile, Near: nearest(passwd, userName)}
	case errors.Is(err, user.ErrNoGroupEntries):
		return Identity{}, &UnknownError{Name: groupName, Group: true, File: groupFile, Near: nearest(group, groupName)}
	case err != nil:
		return Identity{}, err
	}
	id := Identity{UID: uint32(found.Uid), GID: uint32(found.Gid)}
	for _, g := range found.Sgids {
		id.Groups = append(id.Groups, uint32(g))
	}
	return id, nil
}

// database reads a file of users or groups. One that is not there is empty.
func database(r Root, name string) ([]byte, error) {
	text, err := readHead(r, name, maxDB)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// nearest is a name that differs in case, or begins as the one that is looked for.
func nearest(database []byte, name string) string {
	for line := range bytes.Lines(database) {
		row, _, ok := strings.Cut(strings.TrimSpace(string(line)), ":")
		if ok && (strings.EqualFold(row, name) || len(name) >= 3 && len(row) >= 3 && (strings.HasPrefix(row, name) || strings.HasPrefix(name, row))) {
			return row
		}
	}
	return ""
}

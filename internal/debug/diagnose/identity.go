package diagnose

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
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
// "app:staff". A name that is in none of them gives an [*UnknownError].
func LookUpUser(r Root, spec string) (Identity, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	if name == "" {
		name = "0"
	}
	passwd, err := table(r, passwdFile)
	if err != nil {
		return Identity{}, err
	}
	var id Identity
	row := find(passwd, name)
	number, numeric := parseID(name)
	switch {
	case row != nil:
		id.UID, _ = parseID(row[2])
		if len(row) > 3 {
			id.GID, _ = parseID(row[3])
		}
	case numeric:
		id.UID = number
	default:
		return id, &UnknownError{Name: name, File: passwdFile, Near: nearest(passwd, name)}
	}
	groups, err := table(r, groupFile)
	if err != nil {
		return id, err
	}
	if hasGroup && group != "" {
		number, numeric := parseID(group)
		switch g := find(groups, group); {
		case g != nil:
			id.GID, _ = parseID(g[2])
		case numeric:
			id.GID = number
		default:
			return id, &UnknownError{Name: group, Group: true, File: groupFile, Near: nearest(groups, group)}
		}
		return id, nil
	}
	for _, g := range groups {
		if row != nil && len(g) > 3 && slices.Contains(strings.Split(g[3], ","), row[0]) {
			if gid, ok := parseID(g[2]); ok {
				id.Groups = append(id.Groups, gid)
			}
		}
	}
	return id, nil
}

// table reads a file of lines with fields, three of them at least. A file that
// is not there is empty.
func table(r Root, name string) ([][]string, error) {
	text, err := readHead(r, name, maxDB)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for line := range bytes.Lines(text) {
		if f := strings.Split(strings.TrimSpace(string(line)), ":"); len(f) >= 3 {
			rows = append(rows, f)
		}
	}
	return rows, nil
}

func find(rows [][]string, key string) []string {
	for _, r := range rows {
		if r[0] == key {
			return r
		}
	}
	for _, r := range rows {
		if r[2] == key {
			return r
		}
	}
	return nil
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// nearest is a name that differs in case, or begins as the one that is looked for.
func nearest(rows [][]string, name string) string {
	for _, r := range rows {
		if strings.EqualFold(r[0], name) || len(name) >= 3 && len(r[0]) >= 3 && (strings.HasPrefix(r[0], name) || strings.HasPrefix(name, r[0])) {
			return r[0]
		}
	}
	return ""
}

// Package account finds a user by files like /etc/passwd and /etc/group that
// somebody else has written. [Find] and [Groups] are those of
// github.com/moby/sys/user, but for numbers that are too large for the kernel:
// cut to 32 bits they would be somebody else, as root.
package account

import (
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/moby/sys/user"
)

// most is the largest number of a user or group: the one above it stands for none,
// and in system calls for "as it is".
const most = math.MaxUint32 - 1

var errRange = fmt.Errorf("they are from 0 to %d", uint32(most))

// Find finds a user, with what defaults says where the files say nothing. Either
// file may be nil.
func Find(spec string, defaults *user.ExecUser, passwd, group io.Reader) (*user.ExecUser, error) {
	found, err := user.GetExecUser(spec, defaults, passwd, group)
	if err != nil {
		return nil, err
	}
	if err := check("user", found.Uid); err != nil {
		return nil, fmt.Errorf("find user %q: %w", spec, err)
	}
	for _, g := range append([]int{found.Gid}, found.Sgids...) {
		if err := check("group", g); err != nil {
			return nil, fmt.Errorf("find groups of user %q: %w", spec, err)
		}
	}
	return found, nil
}

// Groups finds groups by their names or numbers.
func Groups(names []string, group io.Reader) ([]int, error) {
	if slices.Contains(names, "") { // which the library takes for no group, and panics
		return nil, fmt.Errorf("find groups %q: a name is empty: %w", names, user.ErrNoGroupEntries)
	}
	return user.GetAdditionalGroups(names, group)
}

func check(what string, id int) error {
	if id < 0 || id > most {
		return fmt.Errorf("%d is no number of a %s: %w", id, what, errRange)
	}
	return nil
}

package network

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// dump repeats a listing that the kernel marked as interrupted: something
// changed while it was made, so entries may be missing. On a host where that
// never ends, the last listing has to do.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	for range 20 {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	all, err := list()
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return all, nil
	}
	return all, err
}

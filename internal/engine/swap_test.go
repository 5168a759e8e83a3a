package engine

import (
	"math"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/engine/state"
)

func TestSwapIDs(t *testing.T) {
	own := state.IDRange{Host: 100000, Size: 65536}
	for _, test := range []struct {
		name        string
		owner, user uint32
		ids         state.IDRange
		want        []syscall.SysProcIDMap
	}{
		{"the same", 1000, 1000, own, []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}},
		{"root's for a user", 0, 1000, own, []syscall.SysProcIDMap{
			{ContainerID: 0, HostID: 101000, Size: 1},
			{ContainerID: 1, HostID: 100001, Size: 999},
			{ContainerID: 1000, HostID: 100000, Size: 1},
			{ContainerID: 1001, HostID: 101001, Size: 64535},
		}},
		{"a user's for root", 1000, 0, own, []syscall.SysProcIDMap{
			{ContainerID: 0, HostID: 101000, Size: 1},
			{ContainerID: 1, HostID: 100001, Size: 999},
			{ContainerID: 1000, HostID: 100000, Size: 1},
			{ContainerID: 1001, HostID: 101001, Size: 64535},
		}},
		{"neighbours, the last ones", 65534, 65535, own, []syscall.SysProcIDMap{
			{ContainerID: 0, HostID: 100000, Size: 65534}, {ContainerID: 65534, HostID: 165535, Size: 1}, {ContainerID: 65535, HostID: 165534, Size: 1},
		}},
		{"an owner beyond the range", 200000, 5, own, []syscall.SysProcIDMap{
			{ContainerID: 0, HostID: 100000, Size: 5}, {ContainerID: 6, HostID: 100006, Size: 65530}, {ContainerID: 200000, HostID: 100005, Size: 1},
		}},
		{"a user beyond the range", 5, 200000, own, []syscall.SysProcIDMap{
			{ContainerID: 0, HostID: 100000, Size: 5}, {ContainerID: 6, HostID: 100006, Size: 65530},
		}},
		{"both beyond the range", 70000, 200000, own, []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}},
		{"the host's ids", 0, 1000, state.IDRange{}, []syscall.SysProcIDMap{
			{ContainerID: 0, HostID: 1000, Size: 1},
			{ContainerID: 1, HostID: 1, Size: 999},
			{ContainerID: 1000, HostID: 0, Size: 1},
			{ContainerID: 1001, HostID: 1001, Size: math.MaxUint32 - 1001},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, swapIDs(test.owner, test.user, test.ids)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

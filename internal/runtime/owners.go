package runtime

import (
	"os"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/ns"
)

// owners are the id mappings of a single mount, from the ids on the disk
// (ContainerID) to those of the host that they are shown as (HostID).
type owners struct{ uids, gids []specs.LinuxIDMapping }

// namespace makes a user namespace to map a mount by.
func (o *owners) namespace() (*os.File, error) {
	return ns.NewUser(sysMappings(o.uids), sysMappings(o.gids))
}

func sysMappings(list []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(list))
	for i, m := range list {
		out[i] = syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)}
	}
	return out
}

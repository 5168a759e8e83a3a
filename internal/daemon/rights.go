package daemon

import (
	"fmt"

	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/sys"
)

// needless are the capabilities that nothing of the daemon's own work needs. They stay in the bounding set: what it
// executes as root has them, the shim of a privileged container above all.
//
// What stays, and is not as plain as CAP_SYS_ADMIN: CAP_SYSLOG for the kernel's log (OOM kills), CAP_MAC_ADMIN for
// AppArmor's profiles, CAP_BPF and CAP_PERFMON for the tracers, CAP_SETFCAP for capabilities of files in layers and for
// maps of ids, CAP_SYS_RESOURCE for limits and oom_score_adj, CAP_IPC_LOCK for the memory of eBPF maps on old kernels,
// CAP_MKNOD for devices in layers, CAP_LINUX_IMMUTABLE to remove files with that flag, CAP_SYS_PTRACE for processes of containers in /proc.
var needless = []string{
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", // it reads the kernel's log, not audit's socket
	"CAP_BLOCK_SUSPEND", "CAP_WAKE_ALARM",
	"CAP_CHECKPOINT_RESTORE",
	"CAP_IPC_OWNER", // containers' System V objects are not touched
	"CAP_LEASE",
	"CAP_MAC_OVERRIDE",  // Smack's
	"CAP_NET_BROADCAST", // unused by Linux
	"CAP_SYS_BOOT",
	"CAP_SYS_MODULE", // the kernel loads what links, filters and filesystems need without it
	"CAP_SYS_PACCT",
	"CAP_SYS_RAWIO",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
}

// DropRights gives up what the daemon's own work does not need, in all threads and for good.
func DropRights() error {
	set, err := caps.SetOf(needless)
	if err != nil {
		return err
	}
	if err := sys.DropCapabilities(uint64(set)); err != nil {
		return fmt.Errorf("give capabilities up: %w", err)
	}
	return nil
}

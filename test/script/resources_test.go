package script

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/cgroup"
)

// limit is what a file of a container's group holds. With an empty file name the
// flag has no place in that version.
type limit struct {
	controller   string
	v1, v1Holds  string // file of the controller's hierarchy
	v2, v2Holds  string
	someOfItOnly bool // one line of several
}

// TestResourceFlags looks at what the kernel was told.
func TestResourceFlags(t *testing.T) {
	begin(t)
	ctx := t.Context()
	disk, number := blockDevice(t)
	tree, err := cgroup.Current()
	if err != nil {
		t.Fatal(err)
	}
	pids, err := tree.BoundPids(daemon.CgroupParent) // as the daemon has done
	if err != nil {
		t.Fatal(err)
	}
	each := strconv.FormatUint(pids.Each, 10)
	for _, tt := range []struct {
		flags string
		want  []limit
	}{
		{"-m 64m", []limit{
			{"memory", "memory.limit_in_bytes", "67108864", "memory.max", "67108864", false},
			{"memory", "memory.memsw.limit_in_bytes", "134217728", "memory.swap.max", "67108864", false},
		}},
		{"-m 64m --memory-swap 100m", []limit{{"memory", "memory.memsw.limit_in_bytes", "104857600", "memory.swap.max", "37748736", false}}},
		{"-m 64m --memory-swap -1", []limit{{"memory", "memory.memsw.limit_in_bytes", "9223372036854771712", "memory.swap.max", "max", false}}},
		{"-m 64m --memory-reservation 32m", []limit{{"memory", "memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432", false}}},
		{"-m 64m --memory-swappiness 10", []limit{{"memory", "memory.swappiness", "10", "", "", false}}},
		{"-m 64m --oom-kill-disable", []limit{{"memory", "memory.oom_control", "oom_kill_disable 1", "", "", true}}},
		{"--cpus 0.5", []limit{
			{"cpu", "cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000", false},
			{"cpu", "cpu.cfs_period_us", "100000", "", "", false},
		}},
		{"--cpu-period 50000 --cpu-quota 25000", []limit{
			{"cpu", "cpu.cfs_quota_us", "25000", "cpu.max", "25000 50000", false},
			{"cpu", "cpu.cfs_period_us", "50000", "", "", false},
		}},
		{"--cpu-shares 512", []limit{{"cpu", "cpu.shares", "512", "", "", false}}},
		{"--cpuset-cpus 0 --cpuset-mems 0", []limit{
			{"cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0", false},
			{"cpuset", "cpuset.mems", "0", "cpuset.mems", "0", false},
		}},
		{"--pids-limit 20", []limit{{"pids", "pids.max", "20", "pids.max", "20", false}}},
		{"--pids-limit -1", []limit{{"pids", "pids.max", each, "pids.max", each, false}}},
		{"--device-read-bps " + disk + ":1mb", []limit{{"blkio", "blkio.throttle.read_bps_device", number + " 1048576", "io.max", number + " rbps=1048576 wbps=max riops=max wiops=max", false}}},
		{"--device-write-bps " + disk + ":2mb", []limit{{"blkio", "blkio.throttle.write_bps_device", number + " 2097152", "io.max", number + " rbps=max wbps=2097152 riops=max wiops=max", false}}},
		{"--device-read-iops " + disk + ":100", []limit{{"blkio", "blkio.throttle.read_iops_device", number + " 100", "io.max", number + " rbps=max wbps=max riops=100 wiops=max", false}}},
		{"--device-write-iops " + disk + ":200", []limit{{"blkio", "blkio.throttle.write_iops_device", number + " 200", "io.max", number + " rbps=max wbps=max riops=max wiops=200", false}}},
		{"--device /dev/kmsg:/dev/log:r", []limit{{"devices", "devices.list", "c 1:11 r", "", "", true}}},
		{"--device-cgroup-rule=c&42:*&rmw", []limit{{"devices", "devices.list", "c 42:* rwm", "", "", true}}},
	} {
		t.Run(tt.flags, func(t *testing.T) {
			args := []string{"run", "-d", "--network", "none"}
			for flag := range strings.FieldsSeq(tt.flags) {
				args = append(args, strings.ReplaceAll(flag, "&", " "))
			}
			id, err := daemon.Porthole(ctx, append(args, "busybox", "sleep", "100000")...)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range tt.want {
				l.check(t, id)
			}
			if _, err := daemon.Porthole(ctx, "rm", "-f", id); err != nil {
				t.Error(err)
			}
		})
	}
}

// check compares a file with what it should hold.
func (l limit) check(t *testing.T, id string) {
	t.Helper()
	tree, err := cgroup.Current()
	if err != nil {
		t.Fatal(err)
	}
	group := filepath.Join(daemon.CgroupParent, id, string(cgroup.App))
	path, want := filepath.Join(cgroup.New(filepath.Join(daemon.CgroupParent, id)).Dir(cgroup.App), l.v2), l.v2Holds
	file := l.v2
	if tree.Mode() != cgroup.V2 {
		file, want = l.v1, l.v1Holds
		for _, h := range tree.Hierarchies() {
			if slices.Contains(h.Controllers, l.controller) {
				path = filepath.Join(h.Dir, group, file)
			}
		}
	}
	if file == "" {
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	got := strings.TrimSpace(string(text))
	if l.someOfItOnly && slices.Contains(strings.Split(got, "\n"), want) {
		return
	}
	if got != want {
		t.Errorf("%s holds %q, want %q", path, got, want)
	}
}

// blockDevice finds a disk that can be throttled: its path and its number.
func blockDevice(t *testing.T) (path, number string) {
	t.Helper()
	found, err := filepath.Glob("/sys/block/*/dev")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		path := filepath.Join("/dev", filepath.Base(filepath.Dir(file)))
		var st unix.Stat_t
		text, err := os.ReadFile(file)
		if err == nil && unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
			return path, strings.TrimSpace(string(text))
		}
	}
	t.Fatal("there is no block device")
	return "", ""
}

package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Support tells which limits a host can give.
type Support struct {
	Mode Mode

	Memory, Swap, MemoryReservation, OOMKillDisable, Swappiness bool
	CPUShares, CPUQuota, CPURealtime                            bool
	Cpuset                                                      bool
	CPUs, Mems                                                  string // what a cpuset can choose from, as "0-3,7"
	Pids                                                        bool
	IOWeight, IOWeightDevice                                    bool
	IOReadBps, IOWriteBps, IOReadIOPS, IOWriteIOPS              bool
	Devices                                                     bool
	Hugetlb                                                     bool
}

// Support looks at the group below which containers are made, making it if need
// be: several files are in every group but the root.
func (t *Tree) Support(parent string) (Support, error) {
	if err := t.Prepare(parent); err != nil {
		return Support{}, err
	}
	if t.mode == V2 {
		return supportV2(filepath.Join(t.v2, parent)), nil
	}
	return t.supportV1(parent), nil
}

func (t *Tree) supportV1(parent string) Support {
	has := func(controller string, files ...string) bool {
		root, ok := t.controller(controller)
		return ok && slices.ContainsFunc(files, func(file string) bool { return exists(filepath.Join(root, parent, file)) })
	}
	s := Support{
		Mode:              t.mode,
		Memory:            has("memory", "memory.limit_in_bytes"),
		Swap:              has("memory", "memory.memsw.limit_in_bytes"),
		MemoryReservation: has("memory", "memory.soft_limit_in_bytes"),
		OOMKillDisable:    has("memory", "memory.oom_control"),
		Swappiness:        has("memory", "memory.swappiness"),
		CPUShares:         has("cpu", "cpu.shares"),
		CPUQuota:          has("cpu", "cpu.cfs_quota_us"),
		CPURealtime:       has("cpu", "cpu.rt_period_us"),
		Cpuset:            has("cpuset", "cpuset.cpus", "cpus"),
		Pids:              has("pids", "pids.max"),
		IOWeight:          has("blkio", "blkio.bfq.weight", "blkio.weight"),
		IOWeightDevice:    has("blkio", "blkio.bfq.weight_device", "blkio.weight_device"),
		IOReadBps:         has("blkio", "blkio.throttle.read_bps_device"),
		IOWriteBps:        has("blkio", "blkio.throttle.write_bps_device"),
		IOReadIOPS:        has("blkio", "blkio.throttle.read_iops_device"),
		IOWriteIOPS:       has("blkio", "blkio.throttle.write_iops_device"),
		Devices:           has("devices", "devices.allow"),
	}
	_, s.Hugetlb = t.controller("hugetlb")
	if root, ok := t.controller("cpuset"); ok {
		s.CPUs = readLine(filepath.Join(root, parent, "cpuset.cpus"))
		s.Mems = readLine(filepath.Join(root, parent, "cpuset.mems"))
	}
	return s
}

func supportV2(dir string) Support {
	has := func(file string) bool { return exists(filepath.Join(dir, file)) }
	controllers := strings.Fields(readLine(filepath.Join(dir, "cgroup.controllers")))
	on := func(controller string) bool { return slices.Contains(controllers, controller) }
	return Support{
		Mode:              V2,
		Memory:            on("memory"),
		Swap:              has("memory.swap.max"),
		MemoryReservation: on("memory"),
		CPUShares:         on("cpu"),
		CPUQuota:          has("cpu.max"),
		Cpuset:            on("cpuset"),
		CPUs:              readLine(filepath.Join(dir, "cpuset.cpus.effective")),
		Mems:              readLine(filepath.Join(dir, "cpuset.mems.effective")),
		Pids:              on("pids"),
		IOWeight:          has("io.weight") || has("io.bfq.weight"),
		IOWeightDevice:    has("io.bfq.weight"),
		IOReadBps:         has("io.max"),
		IOWriteBps:        has("io.max"),
		IOReadIOPS:        has("io.max"),
		IOWriteIOPS:       has("io.max"),
		Devices:           true, // a BPF program, which is no controller
		Hugetlb:           on("hugetlb"),
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// readLine returns a file's text without surrounding space, empty if it cannot
// be read.
func readLine(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	v1 "github.com/opencontainers/cgroups/fs"
	v2 "github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/cgroups/fscommon"
	"golang.org/x/sys/unix"
)

// Stats is what a container has used. A part whose controller the host lacks is
// zero.
type Stats struct {
	Time   time.Time // when the reading began
	Mode   Mode
	CPU    CPUStats
	Memory MemoryStats
	IO     IOStats
	Pids   PidsStats
}

// CPUStats is processor time, in nanoseconds, since the group was made.
type CPUStats struct {
	Usage, User, System uint64
	PerCPU              []uint64 // v1 only

	Periods          uint64 // enforcement periods that have passed
	ThrottledPeriods uint64
	Throttled        uint64 // nanoseconds

	Pressure *Pressure // nil where the kernel does not measure it
}

// MemoryStats is memory in bytes. A limit of math.MaxUint64 or close to it means
// none.
type MemoryStats struct {
	Usage, MaxUsage, Limit uint64
	Failures               uint64 // how often the limit was hit (v1: failcnt), or led to the OOM killer (v2: events oom); as Docker has it
	SwapUsage, SwapLimit   uint64 // memory and swap together, on both versions

	// Detail holds memory.stat as the kernel writes it. Its keys differ between
	// the versions: v1 has total_inactive_file where v2 has inactive_file.
	Detail map[string]uint64

	OOMKills uint64
	Pressure *Pressure
}

// IOStats is input and output by device, recursive over the groups below.
type IOStats struct {
	ServiceBytes []IOEntry
	Serviced     []IOEntry
	Pressure     *Pressure
}

// IOEntry is one number of one device. Op is as the kernel spells it: "Read",
// "Write", ... on v1, the same in lower case on v2.
type IOEntry struct {
	Major, Minor uint64
	Op           string
	Value        uint64
}

// PidsStats counts tasks. A Limit of 0 means none.
type PidsStats struct{ Current, Limit uint64 }

// Pressure tells for how long tasks had to wait (Documentation/accounting/psi.rst).
type Pressure struct{ Some, Full PressureLine }

// PressureLine holds percentages over the last 10, 60 and 300 seconds and the
// sum since the group was made.
type PressureLine struct {
	Avg10, Avg60, Avg300 float64
	Total                time.Duration
}

// Stats reads what app has used.
func (g *Group) Stats() (*Stats, error) {
	if g.err != nil {
		return nil, g.err
	}
	now := time.Now()
	read, err := g.read()
	if err != nil {
		return nil, fmt.Errorf("read statistics of cgroup %q: %w", g.path, err)
	}
	s := fromLibrary(read)
	s.Time, s.Mode = now, g.tree.mode
	if s.Memory.OOMKills, err = g.OOMKills(); err != nil {
		return nil, err
	}
	if g.tree.mode == V2 {
		s.Memory.Failures = g.memoryEvent("oom")
	}
	if g.tree.v2 != "" {
		s.CPU.Pressure = readPressure(filepath.Join(g.Dir(App), "cpu.pressure"))
		s.Memory.Pressure = readPressure(filepath.Join(g.Dir(App), "memory.pressure"))
		s.IO.Pressure = readPressure(filepath.Join(g.Dir(App), "io.pressure"))
	}
	return s, nil
}

// read has the library read the controllers that we report. What it can tell
// besides (NUMA nodes, huge pages, RDMA) costs more than all of these.
func (g *Group) read() (*cgroups.Stats, error) {
	out := cgroups.NewStats()
	if g.tree.mode == V2 {
		manager, err := v2.NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, g.Dir(App))
		if err != nil {
			return nil, err
		}
		return manager.Stats(&cgroups.StatsOptions{Controllers: cgroups.CPU | cgroups.Memory | cgroups.Pids | cgroups.IO})
	}
	for _, part := range []struct {
		controller string
		read       func(dir string, out *cgroups.Stats) error
	}{
		{"cpu", (&v1.CpuGroup{}).GetStats},
		{"cpuacct", (&v1.CpuacctGroup{}).GetStats},
		{"memory", readMemoryV1},
		{"pids", (&v1.PidsGroup{}).GetStats},
		{"blkio", (&v1.BlkioGroup{}).GetStats},
	} {
		root, ok := g.tree.controller(part.controller)
		if !ok {
			continue
		}
		if err := part.read(g.dirV1(root, App), out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readMemoryV1 reads what we report of memory. The library reads more than twice
// as many files, for kernel memory and NUMA nodes.
func readMemoryV1(dir string, out *cgroups.Stats) error {
	text, err := cgroups.ReadFile(dir, "memory.stat")
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		key, value, err := fscommon.ParseKeyValue(strings.TrimSpace(line))
		if err != nil {
			return fmt.Errorf("parse memory.stat: %w", err)
		}
		out.MemoryStats.Stats[key] = value
	}
	usage, swap := &out.MemoryStats.Usage, &out.MemoryStats.SwapUsage
	for _, f := range []struct {
		name     string
		to       *uint64
		optional bool // memory and swap together are only counted where the kernel is told to
	}{
		{"memory.usage_in_bytes", &usage.Usage, false},
		{"memory.max_usage_in_bytes", &usage.MaxUsage, false},
		{"memory.failcnt", &usage.Failcnt, false},
		{"memory.limit_in_bytes", &usage.Limit, false},
		{"memory.memsw.usage_in_bytes", &swap.Usage, true},
		{"memory.memsw.limit_in_bytes", &swap.Limit, true},
	} {
		value, err := fscommon.GetCgroupParamUint(dir, f.name)
		if err != nil && !(f.optional && errors.Is(err, fs.ErrNotExist)) {
			return err
		}
		*f.to = value
	}
	return nil
}

func fromLibrary(in *cgroups.Stats) *Stats {
	return &Stats{
		CPU: CPUStats{
			Usage:            in.CpuStats.CpuUsage.TotalUsage,
			User:             in.CpuStats.CpuUsage.UsageInUsermode,
			System:           in.CpuStats.CpuUsage.UsageInKernelmode,
			PerCPU:           in.CpuStats.CpuUsage.PercpuUsage,
			Periods:          in.CpuStats.ThrottlingData.Periods,
			ThrottledPeriods: in.CpuStats.ThrottlingData.ThrottledPeriods,
			Throttled:        in.CpuStats.ThrottlingData.ThrottledTime,
		},
		Memory: MemoryStats{
			Usage:     in.MemoryStats.Usage.Usage,
			MaxUsage:  in.MemoryStats.Usage.MaxUsage,
			Limit:     in.MemoryStats.Usage.Limit,
			Failures:  in.MemoryStats.Usage.Failcnt,
			SwapUsage: in.MemoryStats.SwapUsage.Usage,
			SwapLimit: in.MemoryStats.SwapUsage.Limit,
			Detail:    in.MemoryStats.Stats,
		},
		IO: IOStats{
			ServiceBytes: ioEntries(in.BlkioStats.IoServiceBytesRecursive),
			Serviced:     ioEntries(in.BlkioStats.IoServicedRecursive),
		},
		Pids: PidsStats{Current: in.PidsStats.Current, Limit: in.PidsStats.Limit},
	}
}

func ioEntries(in []cgroups.BlkioStatEntry) []IOEntry {
	var out []IOEntry
	for _, e := range in {
		out = append(out, IOEntry{Major: e.Major, Minor: e.Minor, Op: e.Op, Value: e.Value})
	}
	return out
}

// OOMKills returns how many processes of app the kernel has killed for want of
// memory, in the groups below app as well on v2. It is 0 where there is no
// memory controller. The count ends with the group: read it after the container
// has ended and before Destroy.
func (g *Group) OOMKills() (uint64, error) {
	if g.err != nil {
		return 0, g.err
	}
	var count uint64
	var err error
	if g.tree.mode == V2 {
		count, err = v2.OOMKillCount(g.Dir(App))
	} else if root, ok := g.tree.controller("memory"); ok {
		count, err = v1.OOMKillCount(g.dirV1(root, App))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("count OOM kills of cgroup %q: %w", g.path, err)
	}
	return count, nil
}

// memoryEvent returns one counter of memory.events on v2, 0 if it is not there.
func (g *Group) memoryEvent(key string) uint64 {
	text, err := os.ReadFile(filepath.Join(g.Dir(App), "memory.events"))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(parseEvents(text)[key], 10, 64)
	return n
}

// readPressure reads a pressure file; nil means that the kernel does not
// measure, or was told not to.
func readPressure(name string) *Pressure {
	text, err := os.ReadFile(name)
	if err != nil {
		// ENOENT: not built in. EOPNOTSUPP: built in, and off without psi=1.
		return nil
	}
	p, err := parsePressure(string(text))
	if err != nil {
		return nil
	}
	return p
}

// parsePressure reads lines such as "some avg10=0.00 avg60=0.00 avg300=0.00 total=12".
func parsePressure(text string) (*Pressure, error) {
	p := &Pressure{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		target := &p.Some
		if fields[0] == "full" {
			target = &p.Full
		}
		for _, field := range fields[1:] {
			if err := target.set(field); err != nil {
				return nil, fmt.Errorf("parse pressure %q: %w", field, err)
			}
		}
	}
	return p, nil
}

func (l *PressureLine) set(field string) error {
	key, text, _ := strings.Cut(field, "=")
	if key == "total" {
		microseconds, err := strconv.ParseInt(text, 10, 64)
		l.Total = time.Duration(microseconds) * time.Microsecond
		return err
	}
	number, err := strconv.ParseFloat(text, 64)
	switch key {
	case "avg10":
		l.Avg10 = number
	case "avg60":
		l.Avg60 = number
	case "avg300":
		l.Avg300 = number
	}
	return err
}

// ID returns the cgroup id of a sub-group: what the kernel reports for the
// processes in it, the same as the inode of its directory on the v2 tree. It is
// 0 where there is no v2 tree.
func (g *Group) ID(sub Sub) (uint64, error) {
	if g.err != nil || g.tree.v2 == "" {
		return 0, g.err
	}
	var st unix.Stat_t
	if err := unix.Stat(g.Dir(sub), &st); err != nil {
		return 0, fmt.Errorf("find id of cgroup %q: %w", g.path, err)
	}
	return st.Ino, nil
}

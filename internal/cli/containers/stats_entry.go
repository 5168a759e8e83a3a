package containers

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
)

const statsTable = `table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}`

// statsEntry is what is shown of a container at one moment.
type statsEntry struct {
	// Container is how the container was asked for.
	Container, Name, ID string
	CPUPercent          float64
	Memory, MemoryLimit float64 // bytes
	MemoryPercent       float64
	NetworkRx           float64 // bytes
	NetworkTx           float64
	BlockRead           float64 // bytes
	BlockWrite          float64
	Pids                uint64
	// Invalid tells that there are no numbers.
	Invalid bool
	// Stopped tells that there are none because the container does not run.
	Stopped bool `json:",omitempty"`
	// Sample is what Porthole's daemon adds; nil from others.
	Sample *api.Sample `json:",omitempty"`

	read time.Time
}

func newStatsEntry(v *api.Stats) statsEntry {
	e := statsEntry{
		Stopped: v.Read.IsZero() && v.CPUStats.SystemUsage == 0, Sample: v.Porthole, read: v.Read,
		Name: v.Name, ID: v.ID, Pids: v.PidsStats.Current,
		CPUPercent: cpuPercent(&v.PreCPUStats, &v.CPUStats),
		Memory:     usedMemory(&v.MemoryStats), MemoryLimit: float64(v.MemoryStats.Limit),
	}
	if e.MemoryLimit != 0 {
		e.MemoryPercent = e.Memory / e.MemoryLimit * 100
	}
	for _, n := range v.Networks {
		e.NetworkRx += float64(n.RxBytes)
		e.NetworkTx += float64(n.TxBytes)
	}
	for _, b := range v.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(b.Op)[:min(1, len(b.Op))] {
		case "r":
			e.BlockRead += float64(b.Value)
		case "w":
			e.BlockWrite += float64(b.Value)
		}
	}
	return e
}

// cpuPercent is the share of one CPU that was used between two samples: two
// busy CPUs are 200 percent.
func cpuPercent(before, now *container.CPUStats) float64 {
	used := float64(now.CPUUsage.TotalUsage) - float64(before.CPUUsage.TotalUsage)
	passed := float64(now.SystemUsage) - float64(before.SystemUsage)
	cpus := float64(now.OnlineCPUs)
	if cpus == 0 {
		cpus = float64(len(now.CPUUsage.PercpuUsage))
	}
	if used <= 0 || passed <= 0 {
		return 0
	}
	return used / passed * cpus * 100
}

// usedMemory leaves out file pages that the kernel can drop at once. Cgroup
// v1 counts them as total_inactive_file, v2 as inactive_file.
func usedMemory(m *container.MemoryStats) float64 {
	for _, key := range []string{"total_inactive_file", "inactive_file"} {
		if v, ok := m.Stats[key]; ok && v < m.Usage {
			return float64(m.Usage - v)
		}
	}
	return float64(m.Usage)
}

// statsRow is an entry as templates see it.
type statsRow struct {
	formatter.HeaderContext
	e     statsEntry
	short bool
}

func statsHeader() *statsRow {
	header := formatter.SubHeaderContext{
		"Container": "CONTAINER", "Name": "NAME", "ID": "CONTAINER ID", "CPUPerc": "CPU %",
		"MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
	}
	maps.Copy(header, ownColumns)
	return &statsRow{HeaderContext: formatter.HeaderContext{Header: header}}
}

const noValue = "--"

func (r *statsRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *statsRow) Container() string { return r.e.Container }

func (r *statsRow) Name() string {
	if name := strings.TrimPrefix(r.e.Name, "/"); name != "" {
		return name
	}
	return noValue
}

func (r *statsRow) ID() string {
	if r.short {
		return formatter.TruncateID(r.e.ID)
	}
	return r.e.ID
}

func (r *statsRow) CPUPerc() string { return r.percent(r.e.CPUPercent) }
func (r *statsRow) MemPerc() string { return r.percent(r.e.MemoryPercent) }

func (r *statsRow) MemUsage() string {
	switch {
	case r.e.Invalid:
		return "-- / --"
	case r.e.Stopped:
		return nothing
	case r.e.MemoryLimit == 0 && r.e.Sample != nil: // the past does not know the host
		return units.BytesSize(r.e.Memory) + " / " + nothing
	}
	return units.BytesSize(r.e.Memory) + " / " + units.BytesSize(r.e.MemoryLimit)
}

func (r *statsRow) NetIO() string   { return r.pair(r.e.NetworkRx, r.e.NetworkTx) }
func (r *statsRow) BlockIO() string { return r.pair(r.e.BlockRead, r.e.BlockWrite) }

func (r *statsRow) PIDs() string {
	return r.or(func() string { return strconv.FormatUint(r.e.Pids, 10) })
}

func (r *statsRow) percent(v float64) string {
	return r.or(func() string { return fmt.Sprintf("%.2f%%", v) })
}

func (r *statsRow) pair(in, out float64) string {
	return r.or(func() string { return sizes(in, out) })
}

// or is text, unless there are no numbers.
func (r *statsRow) or(text func() string) string {
	switch {
	case r.e.Invalid:
		return noValue
	case r.e.Stopped:
		return nothing
	}
	return text()
}

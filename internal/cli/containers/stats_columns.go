package containers

import (
	"fmt"
	"strconv"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"

	"github.com/portholehq/porthole/api"
)

// statsWide is the table of --wide, statsHistory that of --since.
const (
	statsWide = `table {{.Name}}\t{{.CPUPerc}}\t{{.Throttled}}\t{{.MemUsage}}\t{{.Anon}}\t{{.Cache}}\t{{.Kernel}}\t{{.Swap}}` +
		`\t{{.MajorFaults}}\t{{.CPUPressure}}\t{{.MemPressure}}\t{{.IOPressure}}\t{{.OOMKills}}\t{{.BlockRate}}\t{{.NetRate}}\t{{.PIDs}}`
	statsHistory = `table {{.Time}}\t{{.Name}}\t{{.CPUPerc}}\t{{.Throttled}}\t{{.MemUsage}}\t{{.Cache}}\t{{.BlockRate}}\t{{.NetRate}}\t{{.PIDs}}\t{{.OOMKills}}`
)

// nothing stands for what a host cannot tell, and for all numbers of a container
// that does not run.
const nothing = "-"

// ownRow adds to Docker's columns those that only Porthole's daemon can fill.
type ownRow struct{ *statsRow }

// MarshalJSON leaves out our columns if the daemon is not ours.
func (r *ownRow) MarshalJSON() ([]byte, error) {
	if r.e.Sample == nil {
		return r.statsRow.MarshalJSON()
	}
	return formatter.MarshalJSON(r)
}

// ownColumns are the headers of the methods of ownRow.
var ownColumns = map[string]string{
	"Time": "TIME", "Anon": "ANON", "Cache": "CACHE", "Kernel": "KERNEL", "Swap": "SWAP",
	"Faults": "FAULTS/S", "MajorFaults": "MAJFAULTS/S", "Throttled": "THROTTLED %",
	"CPUPressure": "CPU WAIT %", "MemPressure": "MEM WAIT %", "IOPressure": "I/O WAIT %",
	"OOMKills": "OOM KILLS", "BlockRate": "BLOCK I/O /S", "NetRate": "NET I/O /S",
}

func (r *ownRow) memory(get func(*api.SampleMemory) uint64) string {
	if r.e.Sample == nil || r.e.Sample.Memory == nil {
		return nothing
	}
	return units.BytesSize(float64(get(r.e.Sample.Memory)))
}

func (r *ownRow) rate(format func(*api.SampleRate) string) string {
	if r.e.Sample == nil || r.e.Sample.Rate == nil {
		return nothing
	}
	return format(r.e.Sample.Rate)
}

// Time is when the sample was taken.
func (r *ownRow) Time() string {
	if r.e.Sample == nil {
		return nothing
	}
	return r.e.Sample.Time.Local().Format(time.DateTime)
}

// Anon is memory that programs have asked for.
func (r *ownRow) Anon() string { return r.memory(func(m *api.SampleMemory) uint64 { return m.Anon }) }

// Cache is memory that holds files.
func (r *ownRow) Cache() string { return r.memory(func(m *api.SampleMemory) uint64 { return m.File }) }

// Swap is memory that was swapped out.
func (r *ownRow) Swap() string { return r.memory(func(m *api.SampleMemory) uint64 { return m.Swap }) }

// Kernel is the kernel's memory for the container.
func (r *ownRow) Kernel() string {
	if s := r.e.Sample; s == nil || s.Memory == nil || s.Memory.Kernel == nil {
		return nothing
	}
	return units.BytesSize(float64(*r.e.Sample.Memory.Kernel))
}

// Faults are page faults per second.
func (r *ownRow) Faults() string {
	return r.rate(func(s *api.SampleRate) string { return fmt.Sprintf("%.0f", s.Faults) })
}

// MajorFaults are page faults per second that had to wait for a disk.
func (r *ownRow) MajorFaults() string {
	return r.rate(func(s *api.SampleRate) string { return fmt.Sprintf("%.0f", s.MajorFaults) })
}

// Throttled is the share of periods in which the limit of CPU time held the
// container back.
func (r *ownRow) Throttled() string {
	if s := r.e.Sample; s == nil || s.CPU == nil || s.CPU.Throttling == nil {
		return nothing
	}
	return r.rate(func(s *api.SampleRate) string { return share(s.Throttled) })
}

// CPUPressure is the share of time in which some task waited for a processor.
func (r *ownRow) CPUPressure() string {
	return r.pressure(func(p *api.SamplePressure) *api.PressureTotals { return p.CPU }, func(s *api.SampleRate) float64 { return s.CPUPressure })
}

// MemPressure is the share of time in which some task waited for memory.
func (r *ownRow) MemPressure() string {
	return r.pressure(func(p *api.SamplePressure) *api.PressureTotals { return p.Memory }, func(s *api.SampleRate) float64 { return s.MemoryPressure })
}

// IOPressure is the share of time in which some task waited for a disk.
func (r *ownRow) IOPressure() string {
	return r.pressure(func(p *api.SamplePressure) *api.PressureTotals { return p.IO }, func(s *api.SampleRate) float64 { return s.IOPressure })
}

func (r *ownRow) pressure(known func(*api.SamplePressure) *api.PressureTotals, value func(*api.SampleRate) float64) string {
	if s := r.e.Sample; s == nil || s.Pressure == nil || known(s.Pressure) == nil {
		return nothing
	}
	return r.rate(func(s *api.SampleRate) string { return share(value(s)) })
}

// OOMKills is how many processes were killed for want of memory.
func (r *ownRow) OOMKills() string {
	if r.e.Sample == nil || r.e.Sample.OOMKills == nil {
		return nothing
	}
	return strconv.FormatUint(*r.e.Sample.OOMKills, 10)
}

// BlockRate is what was read and written per second.
func (r *ownRow) BlockRate() string {
	if r.e.Sample == nil || r.e.Sample.IO == nil {
		return nothing
	}
	return r.rate(func(s *api.SampleRate) string { return sizes(s.ReadBytes, s.WriteBytes) })
}

// NetRate is what was received and sent per second.
func (r *ownRow) NetRate() string {
	if r.e.Sample == nil || r.e.Sample.Network == nil {
		return nothing
	}
	return r.rate(func(s *api.SampleRate) string { return sizes(s.RxBytes, s.TxBytes) })
}

func share(v float64) string { return fmt.Sprintf("%.2f%%", 100*v) }

func sizes(in, out float64) string {
	return units.HumanSizeWithPrecision(in, 3) + " / " + units.HumanSizeWithPrecision(out, 3)
}

// sampleEntry is what is shown of one sample of the past.
func sampleEntry(name, id string, s *api.Sample) statsEntry {
	e := statsEntry{Container: name, Name: name, ID: id, Sample: s}
	if s.Rate != nil {
		e.CPUPercent = 100 * s.Rate.CPU
	}
	if m := s.Memory; m != nil {
		e.Memory = float64(m.WorkingSet)
		if m.Limit != nil {
			e.MemoryLimit = float64(*m.Limit)
			e.MemoryPercent = 100 * e.Memory / max(e.MemoryLimit, 1)
		}
	}
	if n := s.Network; n != nil {
		e.NetworkRx, e.NetworkTx = float64(n.RxBytes), float64(n.TxBytes)
	}
	if io := s.IO; io != nil {
		e.BlockRead, e.BlockWrite = float64(io.ReadBytes), float64(io.WriteBytes)
	}
	if s.Pids != nil {
		e.Pids = *s.Pids
	}
	return e
}

package api

import (
	"time"

	"github.com/moby/moby/api/types/container"
)

// Stats is Docker's statistics of a container with what Porthole adds to each.
type Stats struct {
	container.StatsResponse
	// Porthole is nil for a container that does not run, or is not sampled.
	Porthole *Sample `json:"porthole,omitempty"`
}

// Sample is what a container had used at one moment, and what it did since the
// sample before. Counters grow since the container was started. A part is nil
// where the host cannot tell it, which is not the same as zero. Sizes are in
// bytes and times in nanoseconds.
type Sample struct {
	Time     time.Time       `json:"time"`
	CPU      *SampleCPU      `json:"cpu,omitempty"`
	Memory   *SampleMemory   `json:"memory,omitempty"`
	IO       *SampleIO       `json:"io,omitempty"`
	Network  *SampleNetwork  `json:"network,omitempty"`
	Pids     *uint64         `json:"pids,omitempty"` // processes and threads
	OOMKills *uint64         `json:"oom_kills,omitempty"`
	Pressure *SamplePressure `json:"pressure,omitempty"`
	// Rate is nil if there is no sample of the same run to compare with.
	Rate *SampleRate `json:"rate,omitempty"`
}

// SampleCPU is processor time.
type SampleCPU struct {
	Usage  uint64 `json:"usage"`
	User   uint64 `json:"user"`
	System uint64 `json:"system"`
	Host   uint64 `json:"host"` // what all processors of the host have spent, idle or not

	// Throttling is nil where nothing limits the processor time.
	Throttling *SampleThrottling `json:"throttling,omitempty"`
}

// SampleThrottling tells how often and for how long a limit held a container
// back.
type SampleThrottling struct {
	Periods          uint64 `json:"periods"`
	ThrottledPeriods uint64 `json:"throttled_periods"`
	Throttled        uint64 `json:"throttled"`
}

// SampleMemory is memory.
type SampleMemory struct {
	Usage        uint64  `json:"usage"`           // as the kernel charges it: page cache included
	WorkingSet   uint64  `json:"working_set"`     // what Docker shows: usage without what the kernel would drop first
	Limit        *uint64 `json:"limit,omitempty"` // nil: none
	Anon         uint64  `json:"anon"`
	File         uint64  `json:"file"`             // page cache, shared memory included
	Kernel       *uint64 `json:"kernel,omitempty"` // nil before Linux 5.18
	Swap         uint64  `json:"swap"`
	InactiveFile uint64  `json:"inactive_file"`
	Faults       uint64  `json:"faults"` // the major ones among them
	MajorFaults  uint64  `json:"major_faults"`
}

// SampleIO is input and output of block devices.
type SampleIO struct {
	ReadBytes  uint64 `json:"read_bytes"`
	WriteBytes uint64 `json:"write_bytes"`
	ReadOps    uint64 `json:"read_ops"`
	WriteOps   uint64 `json:"write_ops"`
}

// SampleNetwork is the sum of all interfaces but the loopback.
type SampleNetwork struct {
	RxBytes   uint64 `json:"rx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
	RxErrors  uint64 `json:"rx_errors"`
	RxDropped uint64 `json:"rx_dropped"`
	TxBytes   uint64 `json:"tx_bytes"`
	TxPackets uint64 `json:"tx_packets"`
	TxErrors  uint64 `json:"tx_errors"`
	TxDropped uint64 `json:"tx_dropped"`
}

// SamplePressure tells for how long tasks had to wait (the kernel's
// Documentation/accounting/psi.rst). Each is nil where it is not measured.
type SamplePressure struct {
	CPU    *PressureTotals `json:"cpu,omitempty"`
	Memory *PressureTotals `json:"memory,omitempty"`
	IO     *PressureTotals `json:"io,omitempty"`
}

// PressureTotals are the times in which some task, or all that could run, had to
// wait.
type PressureTotals struct {
	Some uint64 `json:"some"`
	Full uint64 `json:"full"`
}

// SampleRate is what a container did between two samples.
type SampleRate struct {
	Seconds   float64 `json:"seconds"`   // between the two
	CPU       float64 `json:"cpu"`       // processors kept busy: 0.5 is half of one
	Throttled float64 `json:"throttled"` // share of the periods in which it was held back, 0 to 1

	// Per second.
	ReadBytes   float64 `json:"read_bytes"`
	WriteBytes  float64 `json:"write_bytes"`
	RxBytes     float64 `json:"rx_bytes"`
	TxBytes     float64 `json:"tx_bytes"`
	Faults      float64 `json:"faults"`
	MajorFaults float64 `json:"major_faults"`

	// Shares of the time in which some task waited, 0 to 1.
	CPUPressure    float64 `json:"cpu_pressure"`
	MemoryPressure float64 `json:"memory_pressure"`
	IOPressure     float64 `json:"io_pressure"`
}

// Package sample keeps what a container used in its last hours: one sample per
// second, in a ring of fixed size on disk.
//
// [OpenWriter] gives a [Writer], whose Append adds a sample. [Open] gives a
// [Reader] of the same file, at any time and in any process: [Reader.Range] the
// samples of a time, [Reader.Latest] the last one. [Downsample] brings many
// samples down to the columns of a plot, [Rates] turns two samples into what
// people want to know. Who takes the samples is the business of package sampler.
//
// # Format
//
// A file is a header and Capacity slots, each of 320 bytes, integers in little
// endian:
//
//	header   magic "phsample" | version u16 | record size u16 | capacity u32 | zeros | crc u32
//	record   sequence u64 | time i64, Unix ns | known u64 | 36 values u64 | 4 zeros | crc u32
//
// The values are those of [Sample], in the order of its fields. A checksum is
// CRC-32C of all bytes before it. Sequence numbers begin with 1 and grow by one
// with each record; number n is in slot (n-1) mod Capacity, so that the ring
// needs no other bookkeeping: the highest valid number is the end, and a crash
// can spoil no more than the record being written, which its checksum tells.
// The file grows until all slots are used.
//
// Nothing is forced to disk: after a crash of the machine the last seconds may be
// missing, and they are passed over.
package sample

import "time"

// Known says which parts of a [Sample] could be read. What is not known is zero
// there and must not be shown as a zero.
type Known uint64

// The parts.
const (
	KnownCPU Known = 1 << iota
	KnownThrottling
	KnownMemory
	KnownKernelMemory
	KnownIO
	KnownPids
	KnownOOMKills
	KnownCPUPressure
	KnownMemoryPressure
	KnownIOPressure
	KnownNetwork
	KnownHostCPU
)

// Sample is what a container had used at one moment. Counters grow since the
// container was started: times in nanoseconds, sizes in bytes. A counter that is
// lower than in the sample before tells of a restart.
type Sample struct {
	Time  time.Time `json:"time"`
	Known Known     `json:"known"`

	CPUUsage            uint64 `json:"cpu_usage,omitempty"`
	CPUUser             uint64 `json:"cpu_user,omitempty"`
	CPUSystem           uint64 `json:"cpu_system,omitempty"`
	CPUPeriods          uint64 `json:"cpu_periods,omitempty"`
	CPUThrottledPeriods uint64 `json:"cpu_throttled_periods,omitempty"`
	CPUThrottled        uint64 `json:"cpu_throttled,omitempty"`
	HostCPU             uint64 `json:"host_cpu,omitempty"` // what all processors of the host spent, idle or not

	MemoryUsage        uint64 `json:"memory_usage,omitempty"` // as the kernel charges it: page cache included
	MemoryLimit        uint64 `json:"memory_limit,omitempty"` // math.MaxUint64: none
	MemoryAnon         uint64 `json:"memory_anon,omitempty"`
	MemoryFile         uint64 `json:"memory_file,omitempty"`
	MemoryKernel       uint64 `json:"memory_kernel,omitempty"`
	MemorySwap         uint64 `json:"memory_swap,omitempty"`
	MemoryInactiveFile uint64 `json:"memory_inactive_file,omitempty"`
	PageFaults         uint64 `json:"page_faults,omitempty"` // the major ones among them
	MajorPageFaults    uint64 `json:"major_page_faults,omitempty"`
	OOMKills           uint64 `json:"oom_kills,omitempty"`

	ReadBytes  uint64 `json:"read_bytes,omitempty"`
	WriteBytes uint64 `json:"write_bytes,omitempty"`
	ReadOps    uint64 `json:"read_ops,omitempty"`
	WriteOps   uint64 `json:"write_ops,omitempty"`

	Pids uint64 `json:"pids,omitempty"` // processes and threads

	// All interfaces together, loopback aside.
	RxBytes   uint64 `json:"rx_bytes,omitempty"`
	RxPackets uint64 `json:"rx_packets,omitempty"`
	RxErrors  uint64 `json:"rx_errors,omitempty"`
	RxDropped uint64 `json:"rx_dropped,omitempty"`
	TxBytes   uint64 `json:"tx_bytes,omitempty"`
	TxPackets uint64 `json:"tx_packets,omitempty"`
	TxErrors  uint64 `json:"tx_errors,omitempty"`
	TxDropped uint64 `json:"tx_dropped,omitempty"`

	// For how long some task, or all that could run, had to wait.
	CPUPressureSome    uint64 `json:"cpu_pressure_some,omitempty"`
	CPUPressureFull    uint64 `json:"cpu_pressure_full,omitempty"`
	MemoryPressureSome uint64 `json:"memory_pressure_some,omitempty"`
	MemoryPressureFull uint64 `json:"memory_pressure_full,omitempty"`
	IOPressureSome     uint64 `json:"io_pressure_some,omitempty"`
	IOPressureFull     uint64 `json:"io_pressure_full,omitempty"`
}

// values are the numbers of a sample in the order of the file format: new ones
// need a new version.
func (s *Sample) values() [valueCount]*uint64 {
	return [valueCount]*uint64{
		&s.CPUUsage, &s.CPUUser, &s.CPUSystem, &s.CPUPeriods, &s.CPUThrottledPeriods, &s.CPUThrottled, &s.HostCPU,
		&s.MemoryUsage, &s.MemoryLimit, &s.MemoryAnon, &s.MemoryFile, &s.MemoryKernel, &s.MemorySwap, &s.MemoryInactiveFile,
		&s.PageFaults, &s.MajorPageFaults, &s.OOMKills,
		&s.ReadBytes, &s.WriteBytes, &s.ReadOps, &s.WriteOps,
		&s.Pids,
		&s.RxBytes, &s.RxPackets, &s.RxErrors, &s.RxDropped, &s.TxBytes, &s.TxPackets, &s.TxErrors, &s.TxDropped,
		&s.CPUPressureSome, &s.CPUPressureFull, &s.MemoryPressureSome, &s.MemoryPressureFull, &s.IOPressureSome, &s.IOPressureFull,
	}
}

// WorkingSet is the memory that Docker shows: what is charged, without the page
// cache that the kernel would drop first.
func (s *Sample) WorkingSet() uint64 {
	if s.MemoryInactiveFile >= s.MemoryUsage {
		return s.MemoryUsage
	}
	return s.MemoryUsage - s.MemoryInactiveFile
}

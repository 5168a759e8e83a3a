package sampler

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/ifstat"
	"github.com/portholehq/porthole/internal/record/sample"
)

// Scratch is the memory that readings need, shared by all sources of a sampler.
type Scratch struct {
	cgroup     cgroup.Scratch
	counters   cgroup.Counters
	net        ifstat.Scratch
	interfaces []ifstat.Interface
}

type source struct {
	meter   *cgroup.Meter
	net     *ifstat.Reader // nil: without a network of its own
	lastSet []ifstat.Interface
}

// OpenSource reads a container by its control group and its network namespace.
// Netns is nil for a container in the host's network, whose counters are not its
// own; the file may be closed afterwards. The source keeps the namespace alive
// until it is closed.
func OpenSource(group *cgroup.Group, netns *os.File) (Source, error) {
	meter, err := group.Meter(cgroup.App)
	if err != nil {
		return nil, err
	}
	s := &source{meter: meter}
	if netns == nil {
		return s, nil
	}
	if s.net, err = ifstat.Open(netns); err != nil {
		return nil, errors.Join(err, meter.Close())
	}
	return s, nil
}

func (s *source) Close() error {
	err := s.meter.Close()
	if s.net != nil {
		err = errors.Join(err, s.net.Close())
	}
	return err
}

func (s *source) Read(r *Reading, scratch *Scratch) error {
	c := &scratch.counters
	if err := s.meter.Read(c, &scratch.cgroup); err != nil {
		if errors.Is(err, cgroup.ErrGone) {
			return ErrEnded
		}
		return err
	}
	r.Sample = fromCounters(c)
	if len(c.PerCPU) > 0 {
		r.PerCPU = slices.Clone(c.PerCPU) // readings are handed out
	}
	if s.net == nil {
		return nil
	}
	list, err := s.net.Read(scratch.interfaces[:0], &scratch.net)
	if err != nil {
		return err
	}
	scratch.interfaces = list
	// Readings are handed out, so that one list is used again only if it has not
	// changed.
	if !slices.Equal(list, s.lastSet) {
		s.lastSet = slices.Clone(list)
	}
	r.Interfaces = s.lastSet
	addNetwork(&r.Sample, list)
	return nil
}

func addNetwork(s *sample.Sample, list []ifstat.Interface) {
	var sum ifstat.Counters
	for _, i := range list {
		sum.Add(i.Counters)
	}
	s.RxBytes, s.RxPackets, s.RxErrors, s.RxDropped = sum.RxBytes, sum.RxPackets, sum.RxErrors, sum.RxDropped
	s.TxBytes, s.TxPackets, s.TxErrors, s.TxDropped = sum.TxBytes, sum.TxPackets, sum.TxErrors, sum.TxDropped
	s.Known |= sample.KnownNetwork
}

// parts says what the parts of a cgroup's counters are called in a sample.
var parts = []struct {
	from cgroup.Known
	to   sample.Known
}{
	{cgroup.KnownCPU, sample.KnownCPU},
	{cgroup.KnownThrottling, sample.KnownThrottling},
	{cgroup.KnownMemory, sample.KnownMemory},
	{cgroup.KnownKernelMemory, sample.KnownKernelMemory},
	{cgroup.KnownIO, sample.KnownIO},
	{cgroup.KnownPids, sample.KnownPids},
	{cgroup.KnownOOMKills, sample.KnownOOMKills},
	{cgroup.KnownCPUPressure, sample.KnownCPUPressure},
	{cgroup.KnownMemoryPressure, sample.KnownMemoryPressure},
	{cgroup.KnownIOPressure, sample.KnownIOPressure},
}

func fromCounters(c *cgroup.Counters) sample.Sample {
	s := sample.Sample{
		CPUUsage: c.CPUUsage, CPUUser: c.CPUUser, CPUSystem: c.CPUSystem,
		CPUPeriods: c.CPUPeriods, CPUThrottledPeriods: c.CPUThrottledPeriods, CPUThrottled: c.CPUThrottled,
		MemoryUsage: c.MemoryUsage, MemoryLimit: c.MemoryLimit, MemoryAnon: c.MemoryAnon, MemoryFile: c.MemoryFile,
		MemoryKernel: c.MemoryKernel, MemorySwap: c.MemorySwap, MemoryInactiveFile: c.MemoryInactiveFile,
		PageFaults: c.PageFaults, MajorPageFaults: c.MajorPageFaults, OOMKills: c.OOMKills,
		ReadBytes: c.ReadBytes, WriteBytes: c.WriteBytes, ReadOps: c.ReadOps, WriteOps: c.WriteOps,
		Pids:            c.Pids,
		CPUPressureSome: c.CPUPressureSome, CPUPressureFull: c.CPUPressureFull,
		MemoryPressureSome: c.MemoryPressureSome, MemoryPressureFull: c.MemoryPressureFull,
		IOPressureSome: c.IOPressureSome, IOPressureFull: c.IOPressureFull,
	}
	for _, p := range parts {
		if c.Known&p.from != 0 {
			s.Known |= p.to
		}
	}
	return s
}

// hostCPU reads what the processors of the host have spent.
type hostCPU struct {
	file *os.File
	buf  []byte
}

func (h *hostCPU) open() (err error) {
	h.file, err = os.Open("/proc/stat")
	h.buf = make([]byte, 512) // the first line is all that is wanted
	return err
}

func (h *hostCPU) close() error {
	if err := h.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

func (h *hostCPU) read() (uint64, error) {
	n, err := h.file.ReadAt(h.buf, 0)
	if n == 0 {
		return 0, err
	}
	total, ok := parseHostCPU(h.buf[:n])
	if !ok {
		return 0, fmt.Errorf("%s: no line of all processors", h.file.Name())
	}
	return total, nil
}

// parseHostCPU adds up user, nice, system, idle, iowait, irq and softirq, as
// Docker does, in nanoseconds.
func parseHostCPU(b []byte) (total uint64, ok bool) {
	const (
		fields = 7
		tick   = 10_000_000 // USER_HZ is 100
	)
	if len(b) < 4 || string(b[:4]) != "cpu " {
		return 0, false
	}
	count, inside, n := 0, false, uint64(0)
	for _, c := range b[4:] {
		switch {
		case c >= '0' && c <= '9':
			n, inside = 10*n+uint64(c-'0'), true
		case inside:
			total += n
			n, inside = 0, false
			count++
		}
		if count == fields || c == '\n' {
			break
		}
	}
	return total * tick, count == fields
}

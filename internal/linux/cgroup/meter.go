package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that a group was removed while it was being measured.
var ErrGone = errors.New("cgroup was removed")

// NoLimit is the value of a limit that was not set.
const NoLimit = math.MaxUint64

// Known says which parts of [Counters] the host could tell. What is not known is
// zero there and must not be shown as a zero.
type Known uint32

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
)

// Counters is what one group has used so far, as plain numbers: sums over all
// devices and processors, with the groups below it. CPU times, throttling and
// pressure are in nanoseconds and memory is in bytes, whatever the version.
type Counters struct {
	Known Known

	CPUUsage, CPUUser, CPUSystem           uint64
	CPUPeriods, CPUThrottledPeriods        uint64
	CPUThrottled                           uint64
	MemoryUsage, MemoryLimit               uint64 // limit: NoLimit for none; on v1 the lowest of the ancestors' too
	MemoryAnon, MemoryFile, MemoryKernel   uint64 // file: page cache, shared memory included
	MemorySwap, MemoryInactiveFile         uint64
	PageFaults, MajorPageFaults            uint64 // of which the major are part of all
	OOMKills                               uint64
	ReadBytes, WriteBytes                  uint64
	ReadOps, WriteOps                      uint64
	Pids, PidsLimit                        uint64 // limit: NoLimit for none
	CPUPressureSome, CPUPressureFull       uint64
	MemoryPressureSome, MemoryPressureFull uint64
	IOPressureSome, IOPressureFull         uint64

	// PerCPU is the CPU time by processor, which v1 alone counts; nil elsewhere.
	// The next Read into the same Counters may use its memory again.
	PerCPU []uint64
}

// Meter reads the counters of one group again and again, as cheaply as it can be
// done: it keeps the files open, reads each by one system call, and allocates
// nothing. [Group.Stats] tells more, by device and processor, at some twenty
// times the price.
//
// A Meter is for one goroutine at a time.
type Meter struct {
	path  string
	files []meterFile
}

type meterFile struct {
	fd    int
	known Known
	parse func(*Counters, []byte) bool
}

// A meterSource is a file that a host may have.
type meterSource struct {
	dir, name string
	known     Known
	parse     func(*Counters, []byte) bool
}

// Meter opens the counters of a sub-group. Parts that the host does not count
// are left out, see [Known]. Close it.
func (g *Group) Meter(sub Sub) (*Meter, error) {
	if g.err != nil {
		return nil, g.err
	}
	m := &Meter{path: filepath.Join(g.path, string(sub))}
	for _, source := range g.meterSources(sub) {
		if err := m.open(source); err != nil {
			m.Close()
			return nil, fmt.Errorf("measure cgroup %q: %w", m.path, err)
		}
	}
	if len(m.files) == 0 {
		return nil, fmt.Errorf("measure cgroup %q: %w", m.path, fs.ErrNotExist)
	}
	return m, nil
}

func (m *Meter) open(s meterSource) error {
	fd, err := unix.Open(filepath.Join(s.dir, s.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return &fs.PathError{Op: "open", Path: filepath.Join(s.dir, s.name), Err: err}
	}
	var probe [256]byte
	if _, err := unix.Pread(fd, probe[:], 0); errors.Is(err, unix.EOPNOTSUPP) {
		return unix.Close(fd) // pressure is built in, and off without psi=1
	}
	m.files = append(m.files, meterFile{fd: fd, known: s.known, parse: s.parse})
	return nil
}

// Close closes the files. A Meter can be closed twice.
func (m *Meter) Close() error {
	var errs []error
	for _, f := range m.files {
		errs = append(errs, unix.Close(f.fd))
	}
	m.files = nil
	return errors.Join(errs...)
}

// Scratch is the memory that reading needs. One does for any number of meters
// that are read one after the other. The zero value is ready.
type Scratch struct{ buf []byte }

// Read fills in all of c. It returns ErrGone when the group does not exist any
// more.
func (m *Meter) Read(c *Counters, s *Scratch) error {
	*c = Counters{MemoryLimit: NoLimit, PidsLimit: NoLimit, PerCPU: c.PerCPU[:0]}
	if len(m.files) == 0 {
		return fmt.Errorf("read counters of cgroup %q: %w", m.path, fs.ErrClosed)
	}
	for _, f := range m.files {
		text, err := s.read(f.fd)
		if errors.Is(err, unix.ENODEV) {
			err = ErrGone
		}
		if err != nil {
			return fmt.Errorf("read counters of cgroup %q: %w", m.path, err)
		}
		if f.parse(c, text) {
			c.Known |= f.known
		}
	}
	return nil
}

// read returns the content of a file of the kernel's, which comes by one call if
// there is room.
func (s *Scratch) read(fd int) ([]byte, error) {
	if s.buf == nil {
		s.buf = make([]byte, 8<<10)
	}
	for {
		n, err := unix.Pread(fd, s.buf, 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case n < len(s.buf):
			return s.buf[:n], nil
		default:
			s.buf = make([]byte, 2*len(s.buf))
		}
	}
}

func (g *Group) meterSources(sub Sub) []meterSource {
	pressure := []meterSource{
		{g.Dir(sub), "cpu.pressure", KnownCPUPressure, parseCPUPressure},
		{g.Dir(sub), "memory.pressure", KnownMemoryPressure, parseMemoryPressure},
		{g.Dir(sub), "io.pressure", KnownIOPressure, parseIOPressure},
	}
	if g.tree.mode == V2 {
		return append(meterSourcesV2(g.Dir(sub)), pressure...)
	}
	sources := g.meterSourcesV1(sub)
	if g.tree.v2 == "" {
		return sources
	}
	return append(sources, pressure...)
}

func meterSourcesV2(dir string) []meterSource {
	return []meterSource{
		{dir, "cpu.stat", KnownCPU, parseCPUStatV2},
		{dir, "memory.current", 0, func(c *Counters, b []byte) bool { return setNumber(&c.MemoryUsage, b) }},
		{dir, "memory.max", 0, func(c *Counters, b []byte) bool { return setNumber(&c.MemoryLimit, b) }},
		{dir, "memory.stat", KnownMemory, parseMemoryStatV2},
		{dir, "memory.swap.current", 0, func(c *Counters, b []byte) bool { return setNumber(&c.MemorySwap, b) }},
		{dir, "memory.events", KnownOOMKills, parseOOMKills},
		{dir, "io.stat", KnownIO, parseIOStat},
		{dir, "pids.current", KnownPids, func(c *Counters, b []byte) bool { return setNumber(&c.Pids, b) }},
		{dir, "pids.max", 0, func(c *Counters, b []byte) bool { return setNumber(&c.PidsLimit, b) }},
	}
}

// meterSourcesV1 takes the CPU time from the v2 tree if there is one: all groups
// have it there, in one file and finer than the ticks of cpuacct.stat.
func (g *Group) meterSourcesV1(sub Sub) []meterSource {
	var list []meterSource
	add := func(controller, name string, known Known, parse func(*Counters, []byte) bool) {
		if root, ok := g.tree.controller(controller); ok {
			list = append(list, meterSource{g.dirV1(root, sub), name, known, parse})
		}
	}
	if g.tree.v2 != "" {
		list = append(list, meterSource{g.Dir(sub), "cpu.stat", KnownCPU, parseCPUStatV2})
	} else {
		add("cpuacct", "cpuacct.usage", KnownCPU, func(c *Counters, b []byte) bool { return setNumber(&c.CPUUsage, b) })
		add("cpuacct", "cpuacct.stat", 0, parseCPUTicks)
	}
	add("cpuacct", "cpuacct.usage_percpu", 0, parsePerCPU)
	add("cpu", "cpu.stat", KnownThrottling, parseThrottlingV1)
	add("memory", "memory.usage_in_bytes", 0, func(c *Counters, b []byte) bool { return setNumber(&c.MemoryUsage, b) })
	add("memory", "memory.stat", KnownMemory, parseMemoryStatV1)
	add("memory", "memory.kmem.usage_in_bytes", KnownKernelMemory, func(c *Counters, b []byte) bool { return setNumber(&c.MemoryKernel, b) })
	add("memory", "memory.oom_control", KnownOOMKills, parseOOMKills)
	add("blkio", "blkio.throttle.io_service_bytes_recursive", KnownIO, parseIOBytesV1)
	add("blkio", "blkio.throttle.io_serviced_recursive", 0, parseIOOpsV1)
	add("pids", "pids.current", KnownPids, func(c *Counters, b []byte) bool { return setNumber(&c.Pids, b) })
	add("pids", "pids.max", 0, func(c *Counters, b []byte) bool { return setNumber(&c.PidsLimit, b) })
	return list
}

// number reads the decimal number at the beginning of b, or "max".
func number(b []byte) (n uint64, ok bool) {
	if bytes.HasPrefix(b, []byte("max")) {
		return NoLimit, true
	}
	for i, digit := range b {
		if digit < '0' || digit > '9' {
			return n, i > 0
		}
		n = n*10 + uint64(digit-'0')
	}
	return n, len(b) > 0
}

func setNumber(to *uint64, b []byte) bool {
	n, ok := number(b)
	*to = n
	return ok
}

// nextLine takes the first line off b.
func nextLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte{'\n'})
	return line, rest
}

// pairs calls fn for each line of a key, a space and a number.
func pairs(b []byte, fn func(key []byte, n uint64)) {
	for len(b) > 0 {
		var line []byte
		line, b = nextLine(b)
		key, value, _ := bytes.Cut(line, []byte{' '})
		if n, ok := number(value); ok {
			fn(key, n)
		}
	}
}

func parseCPUStatV2(c *Counters, b []byte) bool {
	const unit = uint64(time.Microsecond)
	found := false
	pairs(b, func(key []byte, n uint64) {
		switch string(key) {
		case "usage_usec":
			c.CPUUsage, found = n*unit, true
		case "user_usec":
			c.CPUUser = n * unit
		case "system_usec":
			c.CPUSystem = n * unit
		case "nr_periods":
			c.CPUPeriods = n
			c.Known |= KnownThrottling
		case "nr_throttled":
			c.CPUThrottledPeriods = n
		case "throttled_usec":
			c.CPUThrottled = n * unit
		}
	})
	return found
}

func parseThrottlingV1(c *Counters, b []byte) bool {
	found := false
	pairs(b, func(key []byte, n uint64) {
		switch string(key) {
		case "nr_periods":
			c.CPUPeriods, found = n, true
		case "nr_throttled":
			c.CPUThrottledPeriods = n
		case "throttled_time":
			c.CPUThrottled = n
		}
	})
	return found
}

// parseCPUTicks reads cpuacct.stat, which counts in USER_HZ, 100 on all
// architectures that Go knows.
func parseCPUTicks(c *Counters, b []byte) bool {
	const unit = uint64(10 * time.Millisecond)
	pairs(b, func(key []byte, n uint64) {
		switch string(key) {
		case "user":
			c.CPUUser = n * unit
		case "system":
			c.CPUSystem = n * unit
		}
	})
	return true
}

// parsePerCPU reads numbers with spaces between, one for each possible processor.
func parsePerCPU(c *Counters, b []byte) bool {
	for len(b) > 0 {
		var word []byte
		word, b, _ = bytes.Cut(b, []byte{' '})
		if n, ok := number(word); ok {
			c.PerCPU = append(c.PerCPU, n)
		}
	}
	return true
}

func parseMemoryStatV2(c *Counters, b []byte) bool {
	found := false
	pairs(b, func(key []byte, n uint64) {
		switch string(key) {
		case "anon":
			c.MemoryAnon, found = n, true
		case "file":
			c.MemoryFile = n
		case "kernel": // since Linux 5.18
			c.MemoryKernel = n
			c.Known |= KnownKernelMemory
		case "inactive_file":
			c.MemoryInactiveFile = n
		case "pgfault":
			c.PageFaults = n
		case "pgmajfault":
			c.MajorPageFaults = n
		}
	})
	return found
}

// noLimitV1 is from where on v1's limits mean none: the highest is
// PAGE_COUNTER_MAX pages, which is the same for all sizes of a page but for
// their rounding.
const noLimitV1 = math.MaxInt64 - 1<<20

// parseMemoryStatV1 takes the numbers with the groups below, which containers
// make that run systemd.
func parseMemoryStatV1(c *Counters, b []byte) bool {
	found := false
	pairs(b, func(key []byte, n uint64) {
		switch string(key) {
		case "total_rss":
			c.MemoryAnon, found = n, true
		case "total_cache":
			c.MemoryFile = n
		case "total_swap":
			c.MemorySwap = n
		case "total_inactive_file":
			c.MemoryInactiveFile = n
		case "total_pgfault":
			c.PageFaults = n
		case "total_pgmajfault":
			c.MajorPageFaults = n
		case "hierarchical_memory_limit":
			if n < noLimitV1 {
				c.MemoryLimit = n
			}
		}
	})
	return found
}

func parseOOMKills(c *Counters, b []byte) bool {
	found := false
	pairs(b, func(key []byte, n uint64) {
		if string(key) == "oom_kill" {
			c.OOMKills, found = n, true
		}
	})
	return found
}

// parseIOStat reads lines such as "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0".
func parseIOStat(c *Counters, b []byte) bool {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '=')
		if i < 0 {
			break
		}
		key := b[bytes.LastIndexAny(b[:i], " \n")+1 : i]
		b = b[i+1:]
		n, _ := number(b)
		switch string(key) {
		case "rbytes":
			c.ReadBytes += n
		case "wbytes":
			c.WriteBytes += n
		case "rios":
			c.ReadOps += n
		case "wios":
			c.WriteOps += n
		}
	}
	return true
}

func parseIOBytesV1(c *Counters, b []byte) bool {
	c.ReadBytes, c.WriteBytes = sumIOV1(b)
	return true
}

func parseIOOpsV1(c *Counters, b []byte) bool {
	c.ReadOps, c.WriteOps = sumIOV1(b)
	return true
}

// sumIOV1 reads lines such as "8:0 Read 4096".
func sumIOV1(b []byte) (read, write uint64) {
	for len(b) > 0 {
		var line []byte
		line, b = nextLine(b)
		i := bytes.IndexByte(line, ' ')
		pairs(line[i+1:], func(key []byte, n uint64) {
			switch string(key) {
			case "Read":
				read += n
			case "Write":
				write += n
			}
		})
	}
	return read, write
}

func parseCPUPressure(c *Counters, b []byte) bool {
	return pressureTotals(&c.CPUPressureSome, &c.CPUPressureFull, b)
}

func parseMemoryPressure(c *Counters, b []byte) bool {
	return pressureTotals(&c.MemoryPressureSome, &c.MemoryPressureFull, b)
}

func parseIOPressure(c *Counters, b []byte) bool {
	return pressureTotals(&c.IOPressureSome, &c.IOPressureFull, b)
}

// pressureTotals reads lines such as
// "some avg10=0.00 avg60=0.00 avg300=0.00 total=12", of microseconds.
func pressureTotals(some, full *uint64, b []byte) bool {
	found := false
	for len(b) > 0 {
		var line []byte
		line, b = nextLine(b)
		i := bytes.LastIndexByte(line, '=')
		n, ok := number(line[i+1:])
		switch {
		case i < 0 || !ok:
		case bytes.HasPrefix(line, []byte("some ")):
			*some, found = n*uint64(time.Microsecond), true
		case bytes.HasPrefix(line, []byte("full ")):
			*full = n * uint64(time.Microsecond)
		}
	}
	return found
}

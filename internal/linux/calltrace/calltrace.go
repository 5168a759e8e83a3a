// Package calltrace tells of the system calls of the processes in a control group,
// and of what else happens to them: programs that begin and end, signals, TCP
// connections.
//
//	t, err := calltrace.Open(calltrace.Options{Group: id, Part: app, Calls: []string{"openat"}})
//	defer t.Close()
//	err = t.Run(ctx, func(e *calltrace.Event) error { … })
//
// eBPF programs at the kernel's tracepoints sort out in the kernel what is meant,
// take the memory that tells of paths and addresses with it, and put it into a
// ring that this program reads every few milliseconds. What does not fit into the
// ring is dropped and counted, and nobody waits: see [Tracer.Counts]. The
// programs are there only while a [Tracer] is open. For processes of other groups
// a system call takes some 0.2 µs longer meanwhile.
package calltrace

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/portholehq/porthole/internal/linux/bpf"
	"github.com/portholehq/porthole/internal/linux/probe"
	"github.com/portholehq/porthole/internal/linux/syscalls"
)

// Kind says what an event tells of.
type Kind uint32

// The kinds of events.
const (
	Call   Kind = iota + 1 // a system call has returned
	Exec                   // a program has been executed
	Exit                   // a process has ended
	Signal                 // a signal was sent to a process
	TCP                    // a TCP connection has come to another state
)

// Options select what is traced. Groups are named by their cgroup ids on the v2
// tree.
type Options struct {
	Group uint64 // a group
	Part  uint64 // the group in it whose processes, and those of groups below it, are meant
	Kinds []Kind // nil: calls alone

	// Calls are the names of those that are meant; nil: all.
	Calls   []string
	Failed  bool          // only those that fail
	Slow    time.Duration // only those that take so long
	Refused bool          // only those that seccomp, or the kernel with EPERM or EACCES, has refused
	Summary bool          // count calls, see [Tracer.Summary], and tell of none
	// Ring is how many bytes of events may wait to be read, a power of two; 0: 8 MiB.
	Ring int
}

// Event is one of those that [Tracer.Run] tells of. It is valid until the function
// returns.
type Event struct {
	Kind Kind
	Time time.Time // when it began
	Took time.Duration

	PID       int // as this program counts; 0: not to be seen from here, or not known
	PIDInside int // in its own pid namespace
	TIDInside int
	Comm      string // the name of the thread

	// Of a call.
	Call   syscalls.Call
	Ret    int64 // a negative error number if it failed
	Denied bool  // it was refused before it began, with an error, as seccomp filters do
	// Unfinished: the thread has ended in the midst of it, as in exit_group, or is in it
	// still. Ret means nothing then. Of a [Box] only.
	Unfinished bool
	Memory     syscalls.Snippets

	// Of a program: its file, the command line as far as it fits, its parent inside.
	File       string
	Args       []string
	ArgsCut    bool
	Parent     int
	Status     syscall.WaitStatus // of a process that has ended
	Signal     syscall.Signal
	Sender     int // of a signal, as PID, and as PIDInside
	SenderName string
	SenderIn   int
	FromHere   bool // the sender is one of those that are traced
	Ignored    bool
	Kernel     bool // it came from the kernel by itself
	From, To   netip.AddrPort
	Old, New   TCPState
	Connection uint64 // the same for all events of a connection
}

// TCPState is a state of a connection.
type TCPState int

// String is the name as in ss(8).
func (s TCPState) String() string {
	names := [...]string{
		1: "ESTAB", 2: "SYN-SENT", 3: "SYN-RECV", 4: "FIN-WAIT-1", 5: "FIN-WAIT-2", 6: "TIME-WAIT",
		7: "CLOSE", 8: "CLOSE-WAIT", 9: "LAST-ACK", 10: "LISTEN", 11: "CLOSING", 12: "NEW-SYN-RECV",
	}
	if s > 0 && int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state %d", int(s))
}

// Tracer traces. Run is for one goroutine; the other methods are for any.
type Tracer struct {
	watch
	reader *ringbuf.Reader
	clocks
}

// watch are the programs as they are loaded and attached.
type watch struct {
	set *ebpf.Collection

	mu    sync.Mutex  // guards what follows
	links []io.Closer // of what is watched; none once that has ended
}

// clocks are what two clocks said at one time.
type clocks struct {
	boot uint64
	now  time.Time
}

func readClocks() (c clocks, err error) {
	c.now = time.Now()
	c.boot, err = bpf.BootClock()
	return c, err
}

const callNumbers = 512 // CALLS in calls.c

// programs of each kind of event.
var programs = map[Kind][]string{
	Call: {bpfProgSysEnter, bpfProgSysExit}, Exec: {bpfProgProcessExec}, Exit: {bpfProgProcessExit},
	Signal: {bpfProgSignalSent}, TCP: {bpfProgTcpState},
}

// Open begins to trace. It takes some 100 ms. A call that does not exist is an error.
func Open(o Options) (*Tracer, error) {
	if o.Group == 0 || o.Part == 0 { // to the programs that would be everything on the host
		return nil, &probe.UnsupportedError{Feature: "tracing a container", Detail: "there is no cgroup v2 tree, by which its processes are told from others"}
	}
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read the programs: %w", err)
	}
	if len(o.Kinds) == 0 {
		o.Kinds = []Kind{Call}
	}
	leave(spec, o.Kinds)
	if err := settle(spec, o); err != nil {
		return nil, err
	}
	t := &Tracer{}
	if t.clocks, err = readClocks(); err != nil {
		return nil, err
	}
	if t.set, err = bpf.Load(spec); err != nil {
		return nil, err
	}
	if t.reader, err = ringbuf.NewReader(t.set.Maps[bpfMapEvents]); err != nil {
		err = fmt.Errorf("read events: %w", err)
	} else {
		err = t.begin(spec)
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// leave takes out the programs that no kind of event needs.
func leave(spec *ebpf.CollectionSpec, kinds []Kind) {
	wanted := map[string]bool{}
	for _, k := range kinds {
		for _, name := range programs[k] {
			wanted[name] = true
		}
	}
	for name := range spec.Programs {
		if !wanted[name] {
			delete(spec.Programs, name)
		}
	}
}

// settle gives the programs what they are to look for.
func settle(spec *ebpf.CollectionSpec, o Options) error {
	ns, err := os.Stat("/proc/self/ns/pid")
	if err != nil {
		return fmt.Errorf("find the pid namespace of this process: %w", err)
	}
	var meant [callNumbers]uint8
	for i := range meant {
		if o.Calls == nil {
			meant[i] = 1
		}
	}
	for _, name := range o.Calls {
		n, ok := syscalls.Number("", name)
		if !ok {
			return fmt.Errorf("unknown system call: %s", name)
		}
		if n < callNumbers {
			meant[n] = 1
		}
	}
	clones := [4]int32{-1, -1, -1, -1}
	for i, name := range []string{"clone", "clone3", "fork", "vfork"} {
		if n, ok := syscalls.Number("", name); ok {
			clones[i] = int32(n)
		}
	}
	ring := spec.Maps[bpfMapEvents]
	if o.Ring > 0 {
		ring.MaxEntries = uint32(o.Ring)
	}
	for name, value := range map[string]any{
		bpfVarRefused: o.Refused, bpfVarMuch: ring.MaxEntries / 4,
		bpfVarGroup: o.Group, bpfVarPart: o.Part, bpfVarPidNs: uint32(ns.Sys().(*syscall.Stat_t).Ino), bpfVarFailed: o.Failed,
		bpfVarSummary: o.Summary, bpfVarSlow: uint64(max(o.Slow, 0)), bpfVarWanted: meant, bpfVarCloneNumbers: clones,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// begin fills the maps and attaches the programs, sys_exit first: an end without
// its beginning is passed over.
func (t *watch) begin(spec *ebpf.CollectionSpec) error {
	if t.set.Programs[bpfProgSysExit] != nil {
		if err := tellCaptures(t.set.Maps[bpfMapTakes]); err != nil {
			return err
		}
	}
	for _, name := range []string{bpfProgSysExit, bpfProgSysEnter, bpfProgProcessExec, bpfProgProcessExit, bpfProgSignalSent, bpfProgTcpState} {
		p := t.set.Programs[name]
		if p == nil {
			continue
		}
		l, err := bpf.Attach(p, spec.Programs[name])
		if err != nil {
			return err
		}
		t.mu.Lock()
		t.links = append(t.links, l)
		t.mu.Unlock()
	}
	return nil
}

const (
	takesPerCall = 4 // TAKES in calls.c
	noLength     = 255
)

// captures is which memory is taken with each call.
var captures = sync.OnceValue(func() (takes [callNumbers][]syscalls.Capture) {
	for n := range uint32(callNumbers) {
		list := syscalls.Captures(syscalls.Name("", n))
		takes[n] = list[:min(len(list), takesPerCall)]
	}
	return takes
})

// tellCaptures tells the programs.
func tellCaptures(m *ebpf.Map) error {
	for i, list := range captures() {
		n := uint32(i)
		if len(list) == 0 {
			continue
		}
		var v bpfTakeList
		for i, c := range list {
			v.Take[i] = bpfTake{Arg: uint8(c.Arg), What: uint8(c.What), Length: noLength, Size: uint32(c.Size)}
			if c.Length >= 0 {
				v.Take[i].Length = uint8(c.Length)
			}
			if c.Exit {
				v.Take[i].Exit = 1
			}
		}
		if err := m.Update(n, &v, ebpf.UpdateAny); err != nil {
			return fmt.Errorf("tell what to take with system call %d: %w", n, err)
		}
	}
	return nil
}

// Close ends the trace, and a Run.
func (t *Tracer) Close() error {
	errs := []error{t.detach()}
	if t.reader != nil {
		errs = append(errs, t.reader.Close())
	}
	t.set.Close()
	return errors.Join(errs...)
}

// detach ends the watching. What is in the ring can still be read.
func (t *watch) detach() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, l := range t.links {
		errs = append(errs, l.Close())
	}
	t.links = nil
	return errors.Join(errs...)
}

// look is how often the ring is looked at.
const look = 20 * time.Millisecond

// Run calls fn for each event, in the order in which they ended as far as they
// were of one processor, until the context ends, which is no error, or fn gives
// one. Idle is called when all that there was has been told of; it may be nil.
// The end of the context ends the trace: what waits to be read is told of still.
func (t *Tracer) Run(ctx context.Context, fn func(*Event) error, idle func() error) error {
	stop := context.AfterFunc(ctx, func() {
		// The reader notices a flush when the ring is empty, which it never is
		// while events come faster than fn takes them.
		_ = t.detach()
		_ = t.reader.Flush()
	})
	defer stop()
	var rec ringbuf.Record
	for {
		t.reader.SetDeadline(time.Now().Add(look))
		err := t.reader.ReadInto(&rec)
		switch {
		case errors.Is(err, ringbuf.ErrFlushed), errors.Is(err, ringbuf.ErrClosed):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if ctx.Err() != nil {
				return nil
			}
			if idle != nil {
				if err := idle(); err != nil {
					return err
				}
			}
			continue
		case err != nil:
			return fmt.Errorf("read events: %w", err)
		}
		e, err := t.event(rec.RawSample)
		if err == nil {
			err = fn(e)
		}
		if err != nil {
			return err
		}
	}
}

// head is struct event of calls.c up to its data.
type head struct {
	Time, Took uint64
	Args       [6]uint64
	Ret        int64
	Kind       uint32
	Number     uint32
	Flags      uint32
	PID        uint32
	PIDInside  uint32
	TIDInside  uint32
	Length     uint32
	Sizes      [takesPerCall]uint16
	Offsets    [takesPerCall]uint16
	Comm       [16]byte
}

var headSize = binary.Size(head{})

const (
	flagDenied     = 1
	flagForeign    = 2
	flagUnfinished = 4
)

// foreignArch is the 32-bit architecture that processors of this one have besides.
func foreignArch() string {
	if runtime.GOARCH == "amd64" {
		return "386"
	}
	return "arm"
}

// event takes a record of the ring apart.
func (c *clocks) event(b []byte) (*Event, error) {
	var h head
	if len(b) < headSize {
		return nil, fmt.Errorf("an event of %d bytes", len(b))
	}
	if _, err := binary.Decode(b, binary.NativeEndian, &h); err != nil {
		return nil, err
	}
	data := b[headSize:]
	data = data[:min(len(data), int(h.Length))]
	e := &Event{
		Kind: Kind(h.Kind), Time: c.now.Add(time.Duration(int64(h.Time - c.boot))), Took: time.Duration(min(h.Took, math.MaxInt64)),
		PID: int(h.PID), PIDInside: int(h.PIDInside), TIDInside: int(h.TIDInside), Comm: text(h.Comm[:]), Ret: h.Ret,
	}
	switch e.Kind {
	case Call:
		call(e, &h, data)
	case Exec:
		program(e, &h, data)
	case Exit:
		e.Status = syscall.WaitStatus(uint32(h.Ret))
	case Signal:
		const kernel, ignored = 0x80, 1
		e.Signal, e.Ignored = syscall.Signal(h.Number), h.Args[0] == ignored
		code := int32(h.Args[1])
		e.Kernel = code == kernel || code > 0 && faults(e.Signal) || bpf.FromInterrupt(code)
		e.Sender, e.SenderIn, e.FromHere = int(h.Args[2]), int(h.Args[3]), h.Args[4] != 0
		e.Comm, e.SenderName = text(data), e.Comm
	case TCP:
		connection(e, &h, data)
	default:
		return nil, fmt.Errorf("an event of unknown kind %d", h.Kind)
	}
	return e, nil
}

// faults tells of signals that the kernel sends over an error in a program; their
// codes above 0 tell which.
func faults(s syscall.Signal) bool {
	switch s {
	case syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGILL, syscall.SIGFPE, syscall.SIGTRAP, syscall.SIGSYS:
		return true
	}
	return false
}

func call(e *Event, h *head, data []byte) {
	e.Call = syscalls.Call{Number: h.Number, Args: h.Args}
	e.Unfinished = h.Flags&flagUnfinished != 0
	// Filters may also answer in the kernel's place, or raise SIGSYS.
	e.Denied = h.Flags&flagDenied != 0 && syscalls.Failed(h.Ret)
	if h.Flags&flagForeign != 0 {
		e.Call.Arch = foreignArch()
		return
	}
	if h.Number >= callNumbers {
		return
	}
	for i, c := range captures()[h.Number] {
		from := int(h.Offsets[i])
		end := min(from+int(h.Sizes[i]), len(data)) // what is kept may have been cut
		if from < end {
			e.Memory = append(e.Memory, syscalls.Snippet{Addr: h.Args[c.Arg], Data: data[from:end]})
		}
	}
}

func program(e *Event, h *head, data []byte) {
	e.Parent = int(h.Args[0])
	file := min(int(h.Sizes[0]), len(data))
	e.File = text(data[:file])
	args := data[file:]
	args = args[:min(len(args), int(h.Sizes[1]))]
	e.ArgsCut = h.Args[1] > uint64(len(args))
	for len(args) > 0 {
		n := 0
		for n < len(args) && args[n] != 0 {
			n++
		}
		e.Args = append(e.Args, string(args[:n]))
		args = args[min(n+1, len(args)):]
	}
}

func connection(e *Event, h *head, data []byte) {
	e.Old, e.New, e.Connection = TCPState(h.Args[0]), TCPState(h.Args[1]), h.Args[5]
	half := len(data) / 2
	own, _ := netip.AddrFromSlice(data[:half])
	other, _ := netip.AddrFromSlice(data[half:])
	e.From, e.To = netip.AddrPortFrom(own.Unmap(), uint16(h.Args[3])), netip.AddrPortFrom(other.Unmap(), uint16(h.Args[4]))
}

// text is a string of C.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// Counts are how many events were sent to this program since Open, and how many
// the ring had no room for.
type Counts struct{ Sent, Lost uint64 }

// Counts reads them.
func (t *Tracer) Counts() (Counts, error) {
	var c Counts
	for i, n := range []*uint64{&c.Sent, &c.Lost} {
		var perCPU []uint64
		if err := t.set.Maps[bpfMapCounts].Lookup(uint32(i), &perCPU); err != nil {
			return c, fmt.Errorf("read counts: %w", err)
		}
		for _, k := range perCPU {
			*n += k
		}
	}
	return c, nil
}

// Sum is what a summary tells of one call, or of one call with one error.
type Sum struct {
	Name    string
	Error   syscall.Errno // 0: those that did not fail
	Calls   uint64
	Took    time.Duration // all together
	Longest time.Duration
}

// Summary reads the sums so far, in no order.
func (t *Tracer) Summary() ([]Sum, error) {
	var out []Sum
	var key bpfSumKey
	var sum bpfSum
	it := t.set.Maps[bpfMapSums].Iterate()
	for it.Next(&key, &sum) {
		out = append(out, Sum{
			Name: syscalls.Name("", key.Number), Error: syscall.Errno(key.Error), Calls: sum.Calls,
			Took: time.Duration(sum.Took), Longest: time.Duration(sum.Longest),
		})
	}
	return out, it.Err()
}

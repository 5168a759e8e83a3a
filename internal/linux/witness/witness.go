// Package witness remembers who has sent the signals that end processes.
//
// The kernel's tracepoints tell it of each such signal to a process in the groups
// below one parent group, by an eBPF program that puts what it sees into a map of
// the kernel: the last signal of each number to each process, with the process
// that sent it. Nothing is read until somebody asks, by [Witness.Signal], so
// watching costs this program no time at all; an old entry makes way for a new
// one when the map is full.
//
// What the processes do besides, as programs that begin and end, and connections, is
// told to whoever follows ([Witness.Follow]), within a budget for each container.
//
// A signal that the sender wrote just before it ended is remembered as well: the
// entry has its command line, as far as that was in memory.
package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/portholehq/porthole/internal/linux/bpf"
	"github.com/portholehq/porthole/internal/linux/probe"
)

// Signal is one that was sent to a process.
type Signal struct {
	Time   time.Time
	Signal syscall.Signal
	// Ignored tells that the process ignored it, as the first of a pid namespace
	// does with a signal for which it has no handler.
	Ignored bool
	// OOM tells that the kernel sent it to a process that it had chosen for want of
	// memory; the sender is then who asked for memory.
	OOM bool
	// Kernel tells that it came from the kernel by itself, as after an error in the
	// program, or when a timer was due. From has no part in it then.
	Kernel bool

	From Process
}

// Process is who has sent a signal.
type Process struct {
	PID        int    // as the first pid namespace counts
	PIDInside  int    // in its own namespace
	UID        uint32 // as the first user namespace counts
	Group      uint64 // cgroup id of the group below Parent that it was in; 0: none
	Part       uint64 // and of the group in that; 0: none
	Name       string // of at most 15 bytes
	Args       []string
	Parent     int
	ParentName string
}

// Command is its command line, or its name where that was not in memory.
func (p Process) Command() string {
	if len(p.Args) == 0 {
		return p.Name
	}
	return strings.Join(p.Args, " ")
}

// Witness watches. Its methods may be called from any goroutine, also on nil,
// which has seen nothing.
type Witness struct {
	parent func() (uint64, error)

	mu    sync.Mutex // guards the rest
	id    uint64     // of the parent
	set   *ebpf.Collection
	links []io.Closer
	oom   error // why victims are not watched; nil: they are

	reader *ringbuf.Reader
	boot   uint64 // both clocks at one time
	now    time.Time
	began  time.Time // when all programs were there
	drains drains
}

// Open begins to watch the processes in the groups below a parent. Parent tells its
// cgroup id, which is that of its directory on the v2 tree; it is asked again when
// the group may have been made anew. It takes some 100 ms, most of it reading the
// kernel's types.
func Open(parent func() (uint64, error)) (*Witness, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read the programs: %w", err)
	}
	ns, err := os.Stat("/proc/self/ns/pid")
	if err != nil {
		return nil, fmt.Errorf("find the pid namespace of this process: %w", err)
	}
	if err := spec.Variables[bpfVarPidNs].Set(uint32(ns.Sys().(*syscall.Stat_t).Ino)); err != nil {
		return nil, err
	}
	set, err := bpf.Load(spec)
	if err != nil {
		return nil, err
	}
	w := &Witness{set: set, parent: parent, drains: drains{kick: make(chan struct{}, 1)}}
	if err := w.refresh(); err != nil {
		set.Close()
		return nil, err
	}
	if err := w.begin(spec); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// needed are the programs without which there is no watch.
var needed = []string{bpfProgSignalGenerate, bpfProgProcessExec, bpfProgProcessExit, bpfProgTcpState}

// begin attaches the programs.
func (w *Witness) begin(spec *ebpf.CollectionSpec) error {
	var err error
	w.now = time.Now()
	if w.boot, err = bpf.BootClock(); err != nil {
		return err
	}
	if w.reader, err = ringbuf.NewReader(w.set.Maps[bpfMapDeeds]); err != nil {
		return fmt.Errorf("read what processes do: %w", err)
	}
	for _, name := range needed {
		l, err := bpf.Attach(w.set.Programs[name], spec.Programs[name])
		if err != nil {
			return err
		}
		w.links = append(w.links, l)
	}
	// Without this the kernel's log still tells of victims.
	var l io.Closer
	if l, w.oom = bpf.Attach(w.set.Programs[bpfProgMarkVictim], spec.Programs[bpfProgMarkVictim]); w.oom == nil {
		w.links = append(w.links, l)
	}
	w.began = time.Now()
	return nil
}

// Began is when the watch began. A nil Witness has the zero time.
func (w *Witness) Began() time.Time {
	if w == nil {
		return time.Time{}
	}
	return w.began
}

// refresh tells the program which group the parent is now.
func (w *Witness) refresh() error {
	id, err := w.parent()
	if err != nil {
		return err
	}
	if id == 0 {
		return &probe.UnsupportedError{Feature: "watching signals", Detail: "there is no cgroup v2 tree, by which the processes of containers are told from others"}
	}
	if id == w.id {
		return nil
	}
	if err := w.set.Variables[bpfVarParentId].Set(id); err != nil {
		return fmt.Errorf("name the group that is watched: %w", err)
	}
	w.id = id
	return nil
}

// Close ends the watch.
func (w *Witness) Close() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set == nil {
		return nil
	}
	var errs []error
	for _, l := range w.links {
		errs = append(errs, l.Close())
	}
	if w.reader != nil {
		errs = append(errs, w.reader.Close())
	}
	w.set.Close()
	w.set, w.links = nil, nil
	return errors.Join(errs...)
}

// Signal is the last signal of a number that a process got: the first, of several
// that it did not get to take. Pid is its number as this program counts. What
// went to an earlier process of that number, which ended before since, does not count.
func (w *Witness) Signal(pid int, sig syscall.Signal, since time.Time) (Signal, bool) {
	if w == nil {
		return Signal{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set == nil {
		return Signal{}, false
	}
	var s bpfSent
	if err := w.set.Maps[bpfMapSignals].Lookup(bpfKey{Pid: uint32(pid), Signal: uint32(sig)}, &s); err != nil {
		_ = w.refresh() // for the next time: one that was not seen may have been in a new group
		return Signal{}, false
	}
	boot, err := bpf.BootClock()
	if err != nil {
		return Signal{}, false
	}
	out := form(sig, &s)
	out.Time = bpf.Time(s.Time, boot, time.Now())
	return out, !out.Time.Before(since)
}

// resultIgnored is of include/trace/events/signal.h.
const resultIgnored = 1

func form(sig syscall.Signal, s *bpfSent) Signal {
	out := Signal{Signal: sig, Ignored: s.Result == resultIgnored, OOM: s.Oom != 0, Kernel: s.Code >= 1 || bpf.FromInterrupt(s.Code)}
	out.From = Process{
		PID: int(s.Pid), PIDInside: int(s.PidInside), UID: s.Uid, Group: s.FromContainer, Part: s.FromPart, Name: bpf.Text(s.Comm[:]),
		Parent: int(s.Parent), ParentName: bpf.Text(s.ParentComm[:]),
	}
	args := bpf.Bytes(s.Args[:min(int(s.ArgsLen), len(s.Args))])
	for a := range bytes.SplitSeq(bytes.TrimRight(args, "\x00"), []byte{0}) {
		out.From.Args = append(out.From.Args, string(a))
	}
	if len(args) == 0 {
		out.From.Args = nil
	}
	return out
}

// Counts are what was seen since Open.
type Counts struct {
	Seen       uint64 `json:"seen"`       // signals to the processes that are watched
	Remembered int    `json:"remembered"` // of them, now
	Failed     uint64 `json:"failed"`     // of them, that could not be
	Told       uint64 `json:"told"`       // what was told to who follows
	Dropped    uint64 `json:"dropped"`    // and what was not: more of one container than it may have in a second, or of all than there was room for
}

// counts of the program, by their place in its map.
const (
	countSeen = iota
	countFailed
	countTold
	countDropped
)

// Counts reads them.
func (w *Witness) Counts() (Counts, error) {
	var c Counts
	if w == nil {
		return c, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set == nil {
		return c, nil
	}
	for i, n := range []*uint64{countSeen: &c.Seen, countFailed: &c.Failed, countTold: &c.Told, countDropped: &c.Dropped} {
		var perCPU []uint64
		if err := w.set.Maps[bpfMapCounts].Lookup(uint32(i), &perCPU); err != nil {
			return c, fmt.Errorf("read counts: %w", err)
		}
		for _, k := range perCPU {
			*n += k
		}
	}
	var key bpfKey
	var value bpfSent
	for it := w.set.Maps[bpfMapSignals].Iterate(); it.Next(&key, &value); {
		c.Remembered++
	}
	return c, nil
}

// Victims is why the victims of the kernel's memory killer are not told from other
// kills by the kernel; nil: they are.
func (w *Witness) Victims() error {
	if w == nil {
		return nil
	}
	return w.oom
}

// Pending is a Witness that is being opened.
type Pending struct {
	done chan struct{}
	w    *Witness
	err  error
}

// Begin opens a Witness in the background, so that nobody waits for it.
func Begin(parent func() (uint64, error)) *Pending {
	p := &Pending{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.w, p.err = Open(parent)
	}()
	return p
}

// Get is the Witness, nil as long as it is not ready, and why there is none.
func (p *Pending) Get() (*Witness, error) {
	if p == nil {
		return nil, nil
	}
	select {
	case <-p.done:
		return p.w, p.err
	default:
		return nil, nil
	}
}

// Signal is that of a Witness, once there is one.
func (p *Pending) Signal(pid int, sig syscall.Signal, since time.Time) (Signal, bool) {
	w, _ := p.Get()
	return w.Signal(pid, sig, since)
}

// Follow is that of a Witness, once there is one. Without one it gives the reason.
func (p *Pending) Follow(ctx context.Context, fn func(*Deed), idle func()) error {
	w, err := p.Wait(ctx)
	if err != nil || w == nil {
		return err
	}
	return w.Follow(ctx, fn, idle)
}

// Drain is that of a Witness, if there is one already.
func (p *Pending) Drain(ctx context.Context) {
	w, _ := p.Get()
	w.Drain(ctx)
}

// Refresh is that of a Witness, if there is one already.
func (p *Pending) Refresh() error {
	w, _ := p.Get()
	return w.Refresh()
}

// Counts are those of a Witness, once there is one, or why there is none.
func (p *Pending) Counts() (Counts, error) {
	w, err := p.Get()
	if err != nil {
		return Counts{}, err
	}
	return w.Counts()
}

// Wait waits until Get knows.
func (p *Pending) Wait(ctx context.Context) (*Witness, error) {
	select {
	case <-p.done:
		return p.w, p.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Began waits until the watch has begun, and tells when that was, or why there is
// none.
func (p *Pending) Began(ctx context.Context) (time.Time, error) {
	w, err := p.Wait(ctx)
	return w.Began(), err
}

// Close waits for the opening to end, and ends the watch.
func (p *Pending) Close() error {
	<-p.done
	return p.w.Close()
}

package calltrace

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/bpf"
	"github.com/portholehq/porthole/internal/linux/probe"
)

// Recorder keeps the last events of several groups, of each in a [Box]: calls,
// programs that begin and end, signals. Nobody is woken and nothing is read until
// it is wanted. One pair of programs serves all boxes: the calls of others take as
// long with many as with one. Its methods may be called from any goroutine.
type Recorder struct {
	watch
	slots uint32
}

// MaxBoxes are how many there can be at a time (BOXES in calls.c).
const MaxBoxes = 64

// slotSize is that of struct slot in calls.c.
const slotSize = 384

// BoxBytes is the memory of a box of so many events, which the kernel has and no
// container is charged for.
func BoxBytes(events int) int { return slots(events) * slotSize }

func slots(events int) int { return 1 << bits.Len(uint(max(events, 2)-1)) }

// recorded are the kinds of events that boxes keep.
var recorded = []Kind{Call, Exec, Exit, Signal}

// OpenRecorder begins to watch what is below the group with all containers, named
// by its cgroup id on the v2 tree. Each box will keep so many events, rounded up to
// a power of two. It takes some 100 ms.
func OpenRecorder(group uint64, events int) (*Recorder, error) {
	if group == 0 {
		return nil, &probe.UnsupportedError{Feature: "tracing a container", Detail: "there is no cgroup v2 tree, by which its processes are told from others"}
	}
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read the programs: %w", err)
	}
	leave(spec, recorded)
	if err := settle(spec, Options{Group: group}); err != nil {
		return nil, err
	}
	r := &Recorder{slots: uint32(slots(events))}
	spec.Maps[bpfMapRings].InnerMap.MaxEntries = r.slots
	spec.Maps[bpfMapEvents].MaxEntries = uint32(unix.Getpagesize()) // not used
	for name, value := range map[string]any{bpfVarRecording: true, bpfVarSlots: r.slots} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	if r.set, err = bpf.Load(spec); err != nil {
		return nil, err
	}
	if err := r.begin(spec); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close ends the watching. Boxes that were not closed cannot be used any more.
func (r *Recorder) Close() error {
	err := r.detach()
	r.set.Close()
	return err
}

// Box has the last events of the processes of one group.
type Box struct {
	r     *Recorder
	part  uint64
	ring  *ebpf.Map
	since time.Time

	mu      sync.Mutex // guards what follows
	stopped bool
	lost    uint64 // as it was when it was stopped
}

// Begins says what is known of the processes in a group when its box begins.
type Begins bool

// Before the first program of the container is executed, nothing of what goes on in
// the group is the container's own; Amidst, everything is.
const (
	Before Begins = false
	Amidst Begins = true
)

// Record begins a box of the processes in a group, and those of groups below it,
// named by its cgroup id: the group of a container in which its application is.
// What the engine's own processes do there, before they become a program of the
// container, is left out. The caller closes the box.
func (r *Recorder) Record(part uint64, when Begins) (*Box, error) {
	clocks, err := readClocks()
	if err != nil {
		return nil, err
	}
	form := bpfBox{}
	if when == Amidst {
		form.Since = clocks.boot
	}
	ring, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "ring", Type: ebpf.Array, KeySize: 4, ValueSize: slotSize, MaxEntries: r.slots,
	})
	if err != nil {
		return nil, fmt.Errorf("make room for system calls: %w", err)
	}
	// The ring first: who finds the box writes into it.
	if err := r.set.Maps[bpfMapRings].Update(part, ring, ebpf.UpdateNoExist); err != nil {
		return nil, errors.Join(fmt.Errorf("record the system calls of a group: %w", err), ring.Close())
	}
	if err := r.set.Maps[bpfMapBoxes].Update(part, &form, ebpf.UpdateNoExist); err != nil {
		return nil, errors.Join(fmt.Errorf("record the system calls of a group: %w", err), r.set.Maps[bpfMapRings].Delete(part), ring.Close())
	}
	return &Box{r: r, part: part, ring: ring, since: clocks.now}, nil
}

// Since is when the box began.
func (b *Box) Since() time.Time { return b.since }

// Stop ends the recording. What the box has can still be read.
func (b *Box) Stop() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return nil
	}
	var last bpfBox
	boxes := b.r.set.Maps[bpfMapBoxes]
	err := boxes.Lookup(b.part, &last)
	if err == nil {
		err = boxes.Delete(b.part)
	}
	b.stopped, b.lost = true, last.Lost
	if err != nil {
		return fmt.Errorf("end the record of system calls: %w", err)
	}
	return nil
}

// Close ends the recording and gives the memory back.
func (b *Box) Close() error {
	err := b.Stop()
	if gone := b.r.set.Maps[bpfMapRings].Delete(b.part); gone != nil {
		err = errors.Join(err, fmt.Errorf("free a record of system calls: %w", gone))
	}
	return errors.Join(err, b.ring.Close())
}

// Kept is what a box has.
type Kept struct {
	Events []*Event // in the order in which they came to an end
	Seen   uint64   // how many there were since the box began, with those that were overwritten
	Lost   uint64   // how many of the calls of a task there was no memory for
}

// slot is struct slot of calls.c.
type slot struct {
	Number uint64
	Event  [slotSize - 8]byte
}

// Read returns what the box has. More may come meanwhile.
func (b *Box) Read() (k Kept, err error) {
	clocks, err := readClocks()
	if err != nil {
		return k, err
	}
	list, err := b.slots()
	if err != nil {
		return k, err
	}
	slices.SortFunc(list, func(x, y slot) int { return cmp.Compare(x.Number, y.Number) })
	for i := range list {
		e, err := clocks.event(list[i].Event[:])
		if err != nil {
			return k, fmt.Errorf("read a record of system calls: %w", err)
		}
		k.Events = append(k.Events, e)
		k.Seen = list[i].Number
	}
	k.Lost, err = b.losses()
	return k, err
}

// slots reads those with an event that is whole. One that is overwritten while it is
// read has another number afterwards.
func (b *Box) slots() ([]slot, error) {
	first, err := b.all()
	if err != nil {
		return nil, err
	}
	again, err := b.all()
	if err != nil {
		return nil, err
	}
	out := first[:0]
	for i := range first {
		if first[i].Number != 0 && first[i].Number == again[i].Number {
			out = append(out, first[i])
		}
	}
	return out, nil
}

func (b *Box) all() ([]slot, error) {
	n := int(b.ring.MaxEntries())
	keys, values := make([]uint32, n), make([]slot, n)
	got, err := b.ring.BatchLookup(new(ebpf.MapBatchCursor), keys, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) { // which says that there are no more
		return nil, fmt.Errorf("read a record of system calls: %w", err)
	}
	if got != n {
		return nil, fmt.Errorf("read a record of system calls: %d of %d", got, n)
	}
	return values, nil
}

func (b *Box) losses() (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return b.lost, nil
	}
	var now bpfBox
	if err := b.r.set.Maps[bpfMapBoxes].Lookup(b.part, &now); err != nil {
		return 0, fmt.Errorf("count what is not in a record of system calls: %w", err)
	}
	return now.Lost, nil
}

// Where struct task of calls.c has what is read here.
const (
	taskInside = 1
	taskOurs   = 3
	taskEvent  = 8
)

// Inside tells which of the tasks, named as this program counts, are in the midst of
// a system call: its beginning, and for how long it has lasted. Nothing waits for the
// tasks. Threads that are not the first of their process can be asked about from
// Linux 6.9 on.
func (b *Box) Inside(tids []int) ([]*Event, error) {
	clocks, err := readClocks()
	if err != nil {
		return nil, err
	}
	tasks := b.r.set.Maps[bpfMapTasks]
	var out []*Event
	for _, tid := range tids {
		value, err := taskData(tasks, tid)
		if err != nil {
			return nil, err
		}
		if value == nil || value[taskInside] == 0 || value[taskOurs] == 0 {
			continue
		}
		e, err := clocks.event(value[taskEvent:])
		if err != nil || e.Kind != Call {
			continue // of a kind that is not asked for
		}
		e.Unfinished, e.Ret, e.Took = true, 0, max(0, clocks.now.Sub(e.Time))
		out = append(out, e)
	}
	slices.SortFunc(out, func(x, y *Event) int { return x.Time.Compare(y.Time) })
	return out, nil
}

// taskData reads what is known of a task, twice, because it goes on meanwhile; nil: nothing
// is known, or it is not at rest.
func taskData(tasks *ebpf.Map, tid int) ([]byte, error) {
	fd, err := unix.PidfdOpen(tid, unix.PIDFD_THREAD)
	if errors.Is(err, unix.EINVAL) { // an older kernel
		fd, err = unix.PidfdOpen(tid, 0)
	}
	if err != nil {
		return nil, nil // it has ended, or is a thread that this kernel does not tell of
	}
	defer unix.Close(fd)
	var first, again []byte
	for _, value := range []*[]byte{&first, &again} {
		*value = make([]byte, tasks.ValueSize())
		if err := tasks.Lookup(uint32(fd), *value); errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what a task is in the midst of: %w", err)
		}
	}
	if !bytes.Equal(first, again) {
		return nil, nil
	}
	return first, nil
}

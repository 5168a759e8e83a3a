// Package bpf loads the eBPF programs that watch the kernel's tracepoints.
//
// The programs are written in C below the packages that use them, on kernel.h of
// this folder, and committed as objects: building Porthole needs no clang, and
// one object serves all kernels that describe their own types (BTF). Only
// tracepoints are used, the one kind of program that hardened kernels leave to
// root.
//
// [Load] tells a kernel that cannot, as an [*probe.UnsupportedError], from one
// that refused.
package bpf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/probe"
)

// since is the first kernel with what the programs need: tracepoints by type, and
// a place for data with each task.
var since = probe.Version{Major: 5, Minor: 11}

// Available tells whether tracepoints can be watched by eBPF at all: nil means
// that nothing speaks against it before a program is loaded.
func Available() error {
	const types = "/sys/kernel/btf/vmlinux"
	_, err := os.Stat(types)
	if errors.Is(err, fs.ErrNotExist) {
		return &probe.UnsupportedError{Feature: "tracing by eBPF", Since: since, Detail: "the kernel does not describe its types: there is no " + types}
	}
	return err
}

// Load loads the programs and maps of a specification. The caller closes the
// collection. Nothing is watched before [Attach].
func Load(spec *ebpf.CollectionSpec) (*ebpf.Collection, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, explain(err)
	}
	return c, nil
}

// Attach begins to watch with a program. Closing the result ends it.
func Attach(p *ebpf.Program, spec *ebpf.ProgramSpec) (io.Closer, error) {
	var l link.Link
	var err error
	if spec.Type == ebpf.RawTracepoint {
		l, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: spec.AttachTo, Program: p})
	} else {
		l, err = link.AttachTracing(link.TracingOptions{Program: p, AttachType: spec.AttachType})
	}
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", spec.AttachTo, explain(err))
	}
	return l, nil
}

// explain says what a refusal means. The library takes every EPERM for a limit on
// locked memory, which kernels from 5.11 on do not count here.
func explain(err error) error {
	switch {
	case errors.Is(err, ebpf.ErrNotSupported):
		return &probe.UnsupportedError{Feature: "tracing by eBPF", Since: since, Detail: err.Error()}
	case errors.Is(err, unix.ENOSYS):
		return &probe.UnsupportedError{Feature: "tracing by eBPF", Since: since, Detail: "the kernel is built without bpf(2)"}
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("the kernel does not let this process trace by eBPF: %w", unix.EPERM)
	}
	return err
}

// BootClock is the time since boot in nanoseconds, as programs stamp what they see.
func BootClock() (uint64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("read the boot clock: %w", err)
	}
	return uint64(ts.Nano()), nil
}

// Time turns a stamp into a time of day, given what both clocks say now.
func Time(stamp, boot uint64, now time.Time) time.Time {
	return now.Add(-time.Duration(boot - stamp))
}

// FromInterrupt tells of the code of a signal that a timer or a device has caused
// it (siginfo.h): the kernel sends these amidst whatever process runs at that
// moment, which has no part in it.
func FromInterrupt(code int32) bool {
	const timer, asyncIO, signalIO = -2, -4, -5
	return code == timer || code == asyncIO || code == signalIO
}

// Text is a string of C, up to its end.
func Text(c []int8) string {
	b := make([]byte, 0, len(c))
	for _, x := range c {
		if x == 0 {
			break
		}
		b = append(b, byte(x))
	}
	return string(b)
}

// Bytes are bytes that C has as char.
func Bytes(c []int8) []byte {
	b := make([]byte, len(c))
	for i, x := range c {
		b[i] = byte(x)
	}
	return b
}

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/shim/wire"
)

// BenchmarkOutput is a process that writes 60-byte lines as fast as it can,
// from its start until its exit is told.
func BenchmarkOutput(b *testing.B) {
	const size = 200_000_000
	b.SetBytes(size)
	for b.Loop() {
		r := startShim(b, memBinary(b))
		line := strings.Repeat("x", 59)
		r.call(wire.MethodCreate, wire.StartSpec{
			CloneFlags: namespaces, Log: crilog.Options{},
			Plan: program(b, plan.ModeCreate, "sh", "-c", fmt.Sprintf("yes %s | head -c %d", line, size)),
		}, nil)
		r.call(wire.MethodGo, wire.ProcessRef{}, nil)
		if e := r.exited(wire.Init); e.Code != 0 {
			b.Fatalf("exit %+v", e)
		}
	}
}

// BenchmarkExec is one more process in a container, from the call until its
// exit is told.
func BenchmarkExec(b *testing.B) {
	r := startShim(b, memBinary(b))
	r.call(wire.MethodCreate, wire.StartSpec{CloneFlags: namespaces, Plan: program(b, plan.ModeCreate, "sleep", "1000")}, nil)
	r.call(wire.MethodGo, wire.ProcessRef{}, nil)
	null := open(b, os.DevNull)
	defer null.Close()
	n := 0
	for b.Loop() {
		n++
		id := fmt.Sprint("e", n)
		r.call(wire.MethodExec, wire.ExecSpec{ID: id, Plan: program(b, plan.ModeExec, "true")}, nil, null, null, null)
		r.call(wire.MethodGo, wire.ProcessRef{Process: id}, nil)
		r.exited(id)
	}
	b.StopTimer()
	m := memory(b, r.cmd.Process.Pid)
	b.ReportMetric(float64(m["Anonymous"]), "private-KiB")
	var st wire.State
	r.call(wire.MethodState, nil, &st)
	b.Logf("%+v", st.Self)
}

// BenchmarkStart is a whole shim and process, from nothing to the told exit.
func BenchmarkStart(b *testing.B) {
	exe := memBinary(b)
	for b.Loop() {
		r := startShim(b, exe)
		r.call(wire.MethodCreate, wire.StartSpec{CloneFlags: namespaces, Plan: program(b, plan.ModeCreate, "true")}, nil)
		r.call(wire.MethodGo, wire.ProcessRef{}, nil)
		r.exited(wire.Init)
	}
}

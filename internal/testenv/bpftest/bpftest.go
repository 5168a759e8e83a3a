// Package bpftest has control groups with processes, for tests of what watches them.
package bpftest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/linux/bpf"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/probe"
	"github.com/portholehq/porthole/internal/testenv"
)

// Group makes a group like a container's, in a parent of its own, on a kernel
// whose tracepoints can be watched. Both are removed after the test.
func Group(t testing.TB) (parent, group *cgroup.Group) {
	t.Helper()
	testenv.NeedsRoot(t)
	if err := bpf.Available(); probe.IsUnsupported(err) {
		testenv.Skip(t, "%v", err)
	}
	name := fmt.Sprintf("/porthole-test-bpf-%d", os.Getpid())
	parent, group = cgroup.New(name+"/x"), cgroup.New(name+"/x/container")
	if _, err := group.Create(nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := group.Destroy(ctx); err != nil {
			t.Error(err)
		}
		tree, err := cgroup.Current()
		if err == nil {
			err = errors.Join(tree.Prune(name+"/x"), tree.Prune(name))
		}
		if err != nil {
			t.Error(err)
		}
	})
	return parent, group
}

// ID is the id of a group or of one in it, which has to have one.
func ID(t testing.TB, g *cgroup.Group, sub cgroup.Sub) uint64 {
	t.Helper()
	id, err := g.ID(sub)
	if err != nil {
		t.Fatal(err)
	}
	if id == 0 {
		testenv.Skip(t, "there is no v2 tree, by which processes are told apart")
	}
	return id
}

// Process starts a shell in a group. The script has to print something when it is
// ready, and what it reads is what is written to the result. It is killed after
// the test.
func Process(t testing.TB, g *cgroup.Group, script string) (*exec.Cmd, io.Writer) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = in.Close()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(cmd.Process.Pid, cgroup.App); err != nil {
		t.Fatal(err)
	}
	return cmd, in
}

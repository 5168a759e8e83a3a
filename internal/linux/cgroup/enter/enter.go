// Package enter lets a process fork children straight into control groups of
// version 1.
//
// It is apart from package cgroup so that the shim, which must stay small, can
// use it without the libraries for limits and statistics. Version 2 has
// CLONE_INTO_CGROUP for the same purpose.
package enter

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Run calls fn on an OS thread that is in the groups whose `tasks` files are
// given, opened for writing, and returns what fn returns. What fn forks is born
// in those groups; the process itself stays where it is, because the thread
// ends with fn. Without files fn is called on a thread of its own all the same.
//
// A thread that moves itself does not wait for the lock that guards whole
// processes while they are moved (kernel/cgroup/cgroup.c,
// cgroup_procs_write_start), which costs milliseconds. The kernel checks the
// rights of whoever opened the files, so that a process in a user namespace can
// be handed them.
//
// A child that shall outlive fn must not be set to die with its parent thread
// (PR_SET_PDEATHSIG).
func Run(tasks []*os.File, fn func() error) error {
	result := make(chan error, 1)
	go onSpareThread(func() { result <- enterAndCall(tasks, fn) })
	return <-result
}

// onSpareThread calls fn on a thread that ends afterwards. Go ends a thread
// whose goroutine returns while locked to it, except for the main thread, which
// it parks forever: that one is kept busy here until another has done the work.
func onSpareThread(fn func()) {
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		fn()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		fn()
	}()
	<-done
	runtime.UnlockOSThread()
}

func enterAndCall(tasks []*os.File, fn func() error) error {
	for _, file := range tasks {
		// 0 stands for the calling thread.
		if _, err := file.WriteString("0"); err != nil {
			return fmt.Errorf("enter cgroup %q: %w", file.Name(), err)
		}
	}
	return fn()
}

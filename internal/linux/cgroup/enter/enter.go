// Package enter moves the calling thread into control groups of version 1.
//
// It is apart from package cgroup so that the shim, which must stay small, can
// use it without the libraries for limits and statistics.
package enter

import (
	"fmt"
	"os"
)

// Thread moves the calling OS thread into the groups whose `tasks` files are
// given, opened for writing. The caller has locked its goroutine to the thread.
// What the thread forks afterwards is born in those groups.
//
// A thread that moves itself does not wait for the lock that guards whole
// processes while they are moved (kernel/cgroup/cgroup.c,
// cgroup_procs_write_start), which costs milliseconds. The kernel checks the
// rights of whoever opened the files, so that a process in a user namespace can
// be handed them.
//
// There is no way back but another Thread; a caller that does not want to stay
// ends the goroutine without unlocking the thread, which ends the thread.
func Thread(tasks []*os.File) error {
	for _, file := range tasks {
		// 0 stands for the caller.
		if _, err := file.WriteString("0"); err != nil {
			return fmt.Errorf("enter cgroup %q: %w", file.Name(), err)
		}
	}
	return nil
}

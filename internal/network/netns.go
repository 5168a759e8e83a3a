package network

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func nsHandle(f *os.File) netns.NsHandle { return netns.NsHandle(f.Fd()) }

// inNetNS runs fn on a thread of its own in the network namespace ns. Files
// below /proc/sys/net are those of the thread that opens them.
func inNetNS(ns *os.File, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine.
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}

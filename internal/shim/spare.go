package shim

import (
	"runtime"
	"sync"
)

// spare is how many threads a shim has beyond those that it needed to start its container. An exec takes two, a slow disk
// one for each write.
const spare = 4

// spareThreads makes threads that wait for work. Go makes one when it has none to spare, keeps it for ever, and ends the
// program if the kernel gives it none: a shim that is asked for something while containers have all processes that they can
// have would take its own container with it.
func spareThreads(n int) {
	var ready sync.WaitGroup
	release := make(chan struct{})
	for range n {
		ready.Add(1)
		go func() {
			// A goroutine that waits keeps a thread only if it is locked to it.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ready.Done()
			<-release
		}()
	}
	ready.Wait()
	close(release)
}

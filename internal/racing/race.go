//go:build race

package racing

import "os"

// Environ is what a process of ours that is started with an environment of its own
// needs in it to report where this one does; nothing in programs without the detector.
// Somebody waits for it, so it does not sleep at its end, as the detector does by default.
func Environ() []string { return []string{"GORACE=" + os.Getenv("GORACE") + " atexit_sleep_ms=0"} }

// Stderr is what a process whose standard error is to be null has there instead: null
// in programs without the detector, the own standard error in others. The detector
// reads its variable from /proc/self/environ, which is closed to a process whose program
// nobody may read: that of shims and stages.
func Stderr(*os.File) *os.File { return os.Stderr }

package uml

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// hasAMX tells whether the processor has tile registers.
func hasAMX() (bool, error) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return false, err
	}
	return strings.Contains(string(text), " amx_tile"), nil
}

// With tile registers the extended state of a process, which ptrace sets as a
// whole, is larger than the machine's kernel takes it for: it would panic before
// its first process.
var (
	// setsState is where that kernel sets it: the size of 2,696 bytes in the
	// struct iovec, and the request, PTRACE_SETREGSET.
	setsState = []byte("\x88\x0a\x00\x00\xbf\x05\x42\x00\x00")
	// setsWhole is the same with the size of 11,008 bytes, where the tiles end
	// (Intel's manual, volume 1, 13.5). Only those parts are taken from it that
	// the state says to be in use, which tiles are not.
	setsWhole = []byte("\x00\x2b\x00\x00\xbf\x05\x42\x00\x00")
)

// fitting returns the machine's kernel, or a copy in dir that knows the size.
func fitting(kernel, dir string) (string, error) {
	amx, err := hasAMX()
	if err != nil || !amx {
		return kernel, err
	}
	program, err := os.ReadFile(kernel)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(program, setsState); n != 1 {
		return "", fmt.Errorf("%s sets the state of processes in %d places, not in one: it is another build and cannot be fitted to this processor", kernel, n)
	}
	fitted := filepath.Join(dir, "linux.uml")
	return fitted, os.WriteFile(fitted, bytes.Replace(program, setsState, setsWhole, 1), 0o755)
}

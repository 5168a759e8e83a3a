package reaper

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitVerb is the verb of the process that sets limits and then becomes the command.
const limitVerb = "limit"

// Limit is a resource limit that the command is to have and init is not: a Go program
// cannot live with little memory, few descriptors, a small stack or no threads.
type Limit struct {
	Resource   int // RLIMIT_*
	Soft, Hard uint64
}

// Arguments are those of init, which begin with the program's name, for a command with
// limits. See [Main].
func Arguments(name string, limits []Limit, command []string) []string {
	args := []string{name, "init"}
	if len(limits) > 0 {
		args = append(args, "--limits="+formatLimits(limits))
	}
	return append(append(args, "--"), command...)
}

func formatLimits(limits []Limit) string {
	texts := make([]string, len(limits))
	for i, l := range limits {
		texts[i] = fmt.Sprintf("%d:%d:%d", l.Resource, l.Soft, l.Hard)
	}
	return strings.Join(texts, ",")
}

func parseLimits(text string) ([]Limit, error) {
	var limits []Limit
	for s := range strings.SplitSeq(text, ",") {
		fields := strings.Split(s, ":")
		if len(fields) != 3 {
			return nil, fmt.Errorf("limit %q is not RESOURCE:SOFT:HARD", s)
		}
		resource, err := strconv.ParseUint(fields[0], 10, 8)
		soft, errSoft := strconv.ParseUint(fields[1], 10, 64)
		hard, errHard := strconv.ParseUint(fields[2], 10, 64)
		if err := errors.Join(err, errSoft, errHard); err != nil {
			return nil, fmt.Errorf("limit %q: %w", s, err)
		}
		limits = append(limits, Limit{Resource: int(resource), Soft: soft, Hard: hard})
	}
	return limits, nil
}

// limited is the path and arguments of a process that sets limits and then executes path.
// It is this program once more, as nothing of Go's comes between fork and exec.
func limited(limits, path string, args []string) (string, []string) {
	if limits == "" {
		return path, args
	}
	return "/proc/self/exe", append([]string{os.Args[0], limitVerb, limits, path}, args...)
}

// Become sets the limits args[0] and executes the program args[1] with the arguments that
// follow. It returns only if that fails, with the exit status.
func Become(args []string) int {
	if len(args) < 3 {
		fmt.Fprintln(os.Stderr, "init: no command given")
		return statusUsage
	}
	limits, err := parseLimits(args[0])
	if err != nil {
		fmt.Fprintf(os.Stderr, "init: %v\n", err)
		return statusUsage
	}
	env := os.Environ()
	runtime.GC() // room for what execve takes: the heap may not grow any more
	for _, l := range limits {
		if err := unix.Prlimit(0, l.Resource, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil); err != nil {
			fmt.Fprintf(os.Stderr, "init: set limit %d to %d:%d: %v\n", l.Resource, l.Soft, l.Hard, err)
			return statusCannotRun
		}
	}
	err = syscall.Exec(args[1], args[2:], env)
	fmt.Fprintf(os.Stderr, "init: exec %s: %v\n", args[1], err)
	return statusOf(err)
}

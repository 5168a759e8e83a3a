package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// restarts measures how long a daemon is away: from its start to the first list
// that has all containers.
func restarts() []benchmark {
	const n = 100
	setup := func(ctx context.Context, e *engine) error { return many(ctx, e, n) }
	return []benchmark{
		{
			name: "restart", title: fmt.Sprintf("daemon's start with %d running containers", n), unit: "ms", budget: unlimited, most: 3,
			setup: setup, once: comesBack(n, unix.SIGTERM),
		},
		{
			name: "killed", title: "the same after kill -9", unit: "ms", budget: unlimited, most: 3,
			setup: setup, once: comesBack(n, unix.SIGKILL),
		},
	}
}

// comesBack ends a daemon with n running containers by a signal, and measures
// how long it takes from its start to its first list of them.
func comesBack(n int, sig unix.Signal) func(context.Context, *engine) (float64, error) {
	return func(ctx context.Context, e *engine) (float64, error) {
		if err := e.end(sig); err != nil {
			return 0, err
		}
		began := time.Now()
		var pid int
		var failed error
		var start sync.WaitGroup
		start.Go(func() { pid, failed = e.start() })
		answered, err := e.answered(ctx, n)
		start.Wait()
		e.pid = pid
		return float64(answered.Sub(began).Microseconds()) / 1000, errors.Join(err, failed)
	}
}

// many starts n containers.
func many(ctx context.Context, e *engine, n int) error {
	return inParallel(n, 8, func(int) error {
		return e.quiet(ctx, "run", "-d", "busybox", "sleep", "100000")
	})
}

// inParallel calls fn for 0 to n-1, some of them at a time.
func inParallel(n, atATime int, fn func(i int) error) error {
	work := make(chan int)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for range atATime {
		wg.Go(func() {
			for i := range work {
				errs[i] = fn(i)
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	return errors.Join(errs...)
}

// Package failpoint lets tests make single steps of durable writes fail, at the
// places where a full disk or one that breaks would, and end the process between
// any two of them.
//
//	if err := failpoint.Hit("volume.sync"); err != nil { // nil but in tests
//		return err
//	}
//	failpoint.Pass("volume.filled") // nothing can fail here but the process
//
//	t.Cleanup(failpoint.Fail("volume.sync", unix.EIO))
//
// Outside of tests nothing sets a function, and Hit and Pass are the load of one
// pointer, beside a write to disk. Programs that are built with the tag failpoint
// have package arm in them, which takes a function from the environment; test/crash
// does with all points what it does with one, so their names are written out where
// they are hit.
package failpoint

import "sync/atomic"

// Func decides what becomes of a point. It may also not return.
type Func func(point string) error

// armed is what is set, with what else belongs to it.
type armed struct {
	at      Func
	environ []string
}

var hook atomic.Pointer[armed]

// Hit is what a place calls that may be made to fail. A point is named by its
// package and the step that is about to be done.
func Hit(point string) error {
	if a := hook.Load(); a != nil {
		return a.at(point)
	}
	return nil
}

// Pass is Hit for a place between two steps, where nothing can fail but a process
// may end. It is named by its package and what was done.
func Pass(point string) {
	if a := hook.Load(); a != nil {
		_ = a.at(point) // there is nobody to take it
	}
}

// Environ is what a process of ours that is started with an environment of its own
// needs in it to have the same points; nothing outside of tests.
func Environ() []string {
	if a := hook.Load(); a != nil {
		return a.environ
	}
	return nil
}

// Set has f decide at each point, from whichever goroutine comes there, until
// restore is called. It replaces what was set before.
func Set(f Func) (restore func()) { return SetIn(nil, f) }

// SetIn is Set with what [Environ] is to be.
func SetIn(environ []string, f Func) (restore func()) {
	a := &armed{f, environ}
	hook.Store(a)
	return func() { hook.CompareAndSwap(a, nil) }
}

// Fail makes one point return err, each time, until restore is called.
func Fail(point string, err error) (restore func()) {
	return Set(func(at string) error {
		if at == point {
			return err
		}
		return nil
	})
}

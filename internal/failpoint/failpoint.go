// Package failpoint lets tests make single steps of durable writes fail, at the
// places where a full disk or one that breaks would.
//
//	if err := failpoint.Hit("volume.sync"); err != nil { // nil but in tests
//		return err
//	}
//
//	t.Cleanup(failpoint.Fail("volume.sync", unix.EIO))
//
// Outside of tests nothing sets a function, and Hit is the load of one pointer,
// beside a write to disk.
package failpoint

import "sync/atomic"

var hook atomic.Pointer[func(point string) error]

// Hit is what a place calls that may be made to fail. A point is named by its
// package and the step that is about to be done.
func Hit(point string) error {
	if f := hook.Load(); f != nil {
		return (*f)(point)
	}
	return nil
}

// Set has f decide at each point, from whichever goroutine comes there, until
// restore is called. It replaces what was set before.
func Set(f func(point string) error) (restore func()) {
	hook.Store(&f)
	return func() { hook.CompareAndSwap(&f, nil) }
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

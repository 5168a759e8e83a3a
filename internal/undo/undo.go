// Package undo takes back what a function has done so far when a later step of
// it fails.
//
//	var steps undo.Stack
//	defer steps.Run() // does nothing after Keep
//
//	if err := mountOverlay(root); err != nil {
//		return err
//	}
//	steps.Add(func() error { return detach(root) })
//	...
//	steps.Keep()
//
// Steps are taken back in reverse order, every one of them, even if one fails.
package undo

import "errors"

// Stack is a list of functions that take steps back. The zero value is ready.
// It is for one goroutine.
type Stack struct {
	undos []func() error
}

// Add puts f on the stack. f runs at most once.
func (s *Stack) Add(f func() error) { s.undos = append(s.undos, f) }

// AddFunc is Add for something that cannot fail or whose failure is of no use.
func (s *Stack) AddFunc(f func()) {
	s.Add(func() error {
		f()
		return nil
	})
}

// Keep empties the stack without running it: the steps stay done.
func (s *Stack) Keep() { s.undos = nil }

// Run takes all steps back, the last one first, and empties the stack. The
// errors are joined; most callers have a better error at hand and drop it.
func (s *Stack) Run() error {
	var errs []error
	for i := len(s.undos) - 1; i >= 0; i-- {
		if err := s.undos[i](); err != nil {
			errs = append(errs, err)
		}
	}
	s.undos = nil
	return errors.Join(errs...)
}

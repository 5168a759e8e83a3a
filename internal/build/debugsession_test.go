package build

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/moby/moby/api/types/jsonstream"

	"github.com/portholehq/porthole/api"
)

// Of two orders at one stop the second does not wait for the next.
func TestLateOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(chan struct{})
		s := &debugSession{
			orders: make(chan debugOrder), ended: make(chan struct{}), classic: &classic{report: func(jsonstream.Message) { <-told }},
		}
		stopped := make(chan error, 1)
		go func() {
			c, err := s.wait(t.Context(), &api.BuildStop{Reason: api.BuildStopStep}, nil)
			if err == nil && c.Verb != api.BuildNext {
				err = errors.New("went on by " + c.Verb)
			}
			stopped <- err
		}()
		synctest.Wait()
		answers := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := s.command(t.Context(), api.BuildCommand{Verb: api.BuildNext})
				answers <- err
			}()
		}
		synctest.Wait() // both have found the build to have stopped
		close(told)
		var refused int
		for range 2 {
			if err := <-answers; err != nil {
				refused++
			}
		}
		if err := <-stopped; err != nil || refused != 1 {
			t.Errorf("%d of 2 were refused, %v", refused, err)
		}
	})
}

package command

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// maxParallel bounds how many targets are worked on at once.
const maxParallel = 50

// Each does do for every target, many at once, and prints the name of each
// that succeeded, in the order given. It returns all errors joined. An error
// for which ignore (which may be nil) is true counts as neither.
func (a *App) Each(ctx context.Context, targets []string, do func(ctx context.Context, target string) error, ignore func(error) bool) error {
	results := make([]chan error, len(targets))
	slots := make(chan struct{}, maxParallel)
	var wg sync.WaitGroup
	defer wg.Wait()
	for n, target := range targets {
		results[n] = make(chan error, 1)
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[n] <- do(ctx, target)
		})
	}
	return a.collect(targets, func(n int) error { return <-results[n] }, ignore)
}

// InTurn is Each with one target after the other.
func (a *App) InTurn(ctx context.Context, targets []string, do func(ctx context.Context, target string) error) error {
	return a.collect(targets, func(n int) error { return do(ctx, targets[n]) }, nil)
}

func (a *App) collect(targets []string, result func(int) error, ignore func(error) bool) error {
	var errs []error
	for n, target := range targets {
		switch err := result(n); {
		case err == nil:
			_, _ = fmt.Fprintln(a.Out, target)
		case ignore == nil || !ignore(err):
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

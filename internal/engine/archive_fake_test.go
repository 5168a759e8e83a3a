package engine

import (
	"context"
	"errors"

	"github.com/portholehq/porthole/internal/image"
)

func (f *fakeImages) RootFSChanges(context.Context, string, []string) ([]image.Change, error) {
	return nil, errors.New("no changes here")
}

func (f *fakeImages) Commit(context.Context, image.CommitOptions) (image.Image, error) {
	return image.Image{}, errors.New("no commits here")
}

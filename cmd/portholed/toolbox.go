package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/toolbox"
)

// loadToolbox puts the embedded image into a store that holds none, so that a
// fresh machine has something to run. A daemon without the image goes on
// without.
func loadToolbox(ctx context.Context, store *image.Store, log *slog.Logger) error {
	empty, err := store.Empty(ctx)
	if err != nil || !empty {
		return err
	}
	archive, name, _, err := toolbox.Archive()
	if errors.Is(err, toolbox.ErrNotBuilt) {
		log.Info("no image to begin with", "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := store.Load(ctx, archive, image.LoadOptions{}, nil); err != nil {
		return fmt.Errorf("load embedded image %s: %w", name, err)
	}
	log.Info("embedded image loaded", "image", name, "after", time.Since(began))
	return nil
}

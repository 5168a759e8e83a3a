package bed

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// WorkRoot is where data roots are made: PORTHOLE_TEST_DIR, or else on a disk, as users have them.
func WorkRoot() string {
	if dir := os.Getenv("PORTHOLE_TEST_DIR"); dir != "" {
		return dir
	}
	return "/var/tmp"
}

// ImageDir is where `make test-images` puts the archives: PORTHOLE_TEST_IMAGES, or else its default.
func ImageDir() string {
	if dir := os.Getenv("PORTHOLE_TEST_IMAGES"); dir != "" {
		return dir
	}
	return "/var/cache/porthole-test-images/images"
}

// Archive is the path of the archive of a test image, NAME or NAME:TAG.
func Archive(name string) string {
	if !strings.Contains(filepath.Base(name), ":") {
		name += ":latest"
	}
	return filepath.Join(ImageDir(), strings.NewReplacer("/", "_", ":", "_").Replace(name)+".tar")
}

// InParallel calls fn for 0 to n-1, eight at a time, and reports its errors.
func InParallel(t *testing.T, n int, fn func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	work := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range work {
				if err := fn(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
}

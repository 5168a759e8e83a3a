package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
)

// pulls measures pulling an image of some 90 MB in four layers from a registry
// on loopback, into engines that have none of its layers.
func pulls(images string) (benchmark, func()) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	name := strings.TrimPrefix(server.URL, "http://") + "/postgres:15"
	filled := false
	return benchmark{
		name: "pull", title: "pull postgres from loopback", unit: "ms", budget: unlimited, times: 1, most: 5,
		setup: func(ctx context.Context, _ *engine) error {
			if filled {
				return nil
			}
			filled = true
			push := exec.CommandContext(ctx, "skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false",
				"oci-archive:"+filepath.Join(images, "postgres_15.tar"), "docker://"+name)
			if out, err := push.CombinedOutput(); err != nil {
				return fmt.Errorf("fill the registry: %w\n%s", err, out)
			}
			return nil
		},
		once: func(ctx context.Context, e *engine) (float64, error) {
			took, err := timed(func() error { return e.quiet(ctx, "pull", "-q", name) })
			return took, errors.Join(err, e.quiet(ctx, "rmi", name))
		},
	}, server.Close
}

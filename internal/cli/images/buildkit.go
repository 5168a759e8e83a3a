package images

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/internal/buildspec"
	"github.com/portholehq/porthole/internal/cli/command"
)

// kitFlags are the flags of "build" that only BuildKit's API has.
type kitFlags struct {
	set                                                                   *pflag.FlagSet
	secrets, ssh, outputs, cacheTo, buildContexts, attests, noCacheFilter []string
	provenance, sbom, progress, metadataFile                              string
	push, load                                                            bool
}

func (k *kitFlags) add(set *pflag.FlagSet) {
	k.set = set
	set.StringArrayVar(&k.secrets, "secret", nil, `Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")`)
	set.StringArrayVar(&k.ssh, "ssh", nil, `SSH agent socket or keys to expose to the build (format: "default|<id>[=<socket>|<key>[,<key>]]")`)
	set.StringArrayVarP(&k.outputs, "output", "o", nil, `Output destination (format: "type=local,dest=path")`)
	set.StringArrayVar(&k.cacheTo, "cache-to", nil, `Cache export destinations (e.g., "user/app:cache", "type=local,dest=path/to/dir")`)
	set.StringArrayVar(&k.buildContexts, "build-context", nil, "Additional build contexts (e.g., name=path)")
	set.StringArrayVar(&k.attests, "attest", nil, `Attestation parameters (format: "type=sbom,generator=image")`)
	set.StringArrayVar(&k.noCacheFilter, "no-cache-filter", nil, "Do not cache specified stages")
	set.StringVar(&k.provenance, "provenance", "", `Shorthand for "--attest=type=provenance"`)
	set.StringVar(&k.sbom, "sbom", "", `Shorthand for "--attest=type=sbom"`)
	set.StringVar(&k.progress, "progress", "", `Set type of progress output ("auto", "none", "plain", "quiet", "rawjson", "tty"). Use plain to show container output`)
	set.StringVar(&k.metadataFile, "metadata-file", "", "Write build result metadata to a file")
	set.BoolVar(&k.push, "push", false, `Shorthand for "--output=type=registry"`)
	set.BoolVar(&k.load, "load", false, `Shorthand for "--output=type=docker"`)
}

// kitOnly are the flags that a build cannot have without BuildKit's API.
var kitOnly = []string{
	"secret", "ssh", "output", "cache-to", "build-context", "attest", "no-cache-filter", "provenance", "sbom", "progress", "metadata-file",
	"push", "load",
}

// kitFlag is one of those flags that was given, other than those in but; empty:
// none was.
func (k *kitFlags) kitFlag(but ...string) string {
	for _, name := range kitOnly {
		if k.set.Changed(name) && !slices.Contains(but, name) {
			return name
		}
	}
	return ""
}

// byBuildKit tells whether a build goes by BuildKit's API. Otherwise it goes one
// instruction after the other, which is quicker to begin and tells of each state;
// DOCKER_BUILDKIT says which of both is wanted where both can be had.
func (o *buildOptions) byBuildKit(where string) bool {
	if o.kitFlag() != "" {
		return true
	}
	if on, err := strconv.ParseBool(os.Getenv("DOCKER_BUILDKIT")); err == nil && on {
		return true
	}
	for _, from := range o.cacheFrom {
		if strings.Contains(from, "=") {
			return true
		}
	}
	return len(o.platforms) > 1 || o.fileElsewhere(where)
}

// fileElsewhere tells that the Dockerfile is not in the context.
func (o *buildOptions) fileElsewhere(where string) bool {
	switch {
	case o.file == "" || where == "-":
		return false
	case o.file == "-":
		return true
	case buildspec.IsURL(where):
		return false
	}
	_, inside := pathInside(where, o.file)
	return !inside
}

// runBuildKit builds by BuildKit's API, which only porthole-build knows: the
// program becomes that one, with the same arguments.
func (o *buildOptions) runBuildKit(ctx context.Context, a *command.App, where string) error {
	if a.Build == nil {
		return command.Become(a, "porthole-build")
	}
	r, err := o.request(a, where)
	if err != nil {
		return err
	}
	if o.iidFile != "" {
		// What an earlier build has left must not be taken for this one's.
		if err := os.Remove(o.iidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	err = a.Build(ctx, a, r)
	if failed, ok := errors.AsType[*buildspec.Failure](err); ok {
		return &command.StatusError{Code: failed.Code, Text: failed.Error(), Err: err}
	}
	return err
}

// request is what the flags ask for.
func (o *buildOptions) request(a *command.App, where string) (buildspec.Request, error) {
	options, err := o.options(a)
	if err != nil {
		return buildspec.Request{}, err
	}
	r := buildspec.Request{
		ImageBuildOptions: options, Context: where, File: o.file, Secrets: o.secrets, SSH: o.ssh, Outputs: o.outputs,
		CacheFrom: o.cacheFrom, CacheTo: o.cacheTo, BuildContexts: o.buildContexts, Attests: o.attests, Platforms: o.platforms,
		NoCacheFilter: o.noCacheFilter, Push: o.push, Load: o.load, Progress: o.progress, MetadataFile: o.metadataFile, IIDFile: o.iidFile,
	}
	if r.Progress == "none" {
		r.Progress = "quiet"
	}
	for kind, value := range map[string]string{"provenance": o.provenance, "sbom": o.sbom} {
		switch value {
		case "", "false":
		case "true":
			r.Attests = append(r.Attests, "type="+kind)
		default:
			r.Attests = append(r.Attests, "type="+kind+","+value)
		}
	}
	return r, nil
}

// defaultPlatforms are those of DOCKER_DEFAULT_PLATFORM.
func defaultPlatforms() []string {
	if p := os.Getenv("DOCKER_DEFAULT_PLATFORM"); p != "" {
		return strings.Split(p, ",")
	}
	return nil
}

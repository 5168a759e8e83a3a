package images

import (
	"context"
	"errors"
	"io"
	"path/filepath"

	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/internal/cli/command"
)

// Input is a build that is asked for in another way than by flags. Its paths are
// of this machine.
type Input struct {
	Context    string // a directory
	Dockerfile string // empty: the file of that name in the directory
	Target     string
	Platform   string
	Args       map[string]string
	Tags       []string
	NoCache    bool
	Pull       bool
}

// Open opens what is sent for it: a tar stream, which the caller closes, the
// options, and the path of the Dockerfile.
func (in Input) Open(ctx context.Context, a *command.App) (source io.ReadCloser, options mobyclient.ImageBuildOptions, dockerfile string, err error) {
	o := newBuildOptions()
	o.rm, o.network, o.file, o.target, o.noCache, o.pull = true, "default", in.Dockerfile, in.Target, in.NoCache, in.Pull
	if in.Platform != "" {
		o.platforms = []string{in.Platform}
	}
	for key, value := range in.Args {
		if err := o.buildArgs.Set(key + "=" + value); err != nil {
			return nil, options, "", err
		}
	}
	for _, tag := range in.Tags {
		if err := o.tags.Set(tag); err != nil {
			return nil, options, "", err
		}
	}
	if options, err = o.options(a); err != nil {
		return nil, options, "", err
	}
	if source, err = o.source(ctx, a, in.Context, &options); err != nil {
		return nil, options, "", err
	}
	if source == nil {
		return nil, options, "", errors.New("a build from a URL cannot be debugged: fetch the files, and build the directory")
	}
	dockerfile, err = filepath.Abs(filepath.Join(in.Context, filepath.FromSlash(options.Dockerfile)))
	return source, options, dockerfile, err
}

package images

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	"github.com/portholehq/porthole/internal/cli/builds"
	"github.com/portholehq/porthole/internal/cli/command"
)

// explained builds, and tells in the end why each step was done if that is asked
// for, also of a build that failed.
func (o *buildOptions) explained(ctx context.Context, a *command.App, where string) error {
	build := o.run
	if o.byBuildKit(where) {
		build = o.runBuildKit
	}
	if o.explain {
		o.id = strings.ToLower(rand.Text())
	}
	err := build(ctx, a, where)
	if err != nil && ctx.Err() == nil {
		o.tellMissing(ctx, a, where, err)
	}
	if ctx.Err() != nil || !o.explain {
		return err
	}
	told := builds.Explain(ctx, a, a.Err, o.id)
	if err != nil {
		return err // a build that was refused has no record
	}
	return told
}

// errExplainDebug is told of flags that exclude each other.
var errExplainDebug = errors.New("conflicting options: --explain and a build that is debugged, which is in no history")

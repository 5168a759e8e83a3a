package build

import (
	"context"
	"path"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/api"
)

// tell publishes an event, if anybody takes events.
func (b *Builder) tell(ctx context.Context, typ events.Type, action events.Action, id string, attributes map[string]string) {
	if b.publish != nil {
		b.publish(ctx, events.Message{Type: typ, Action: action, Actor: events.Actor{ID: id, Attributes: attributes}})
	}
}

// tellBuild tells of the beginning or the end of a build. Docker has no events of
// builds but for the images that they lead to; ours are a builder's, as those of
// its prunes are.
func (b *Builder) tellBuild(ctx context.Context, action events.Action, s *api.Build) {
	attributes := map[string]string{"name": path.Base(s.Dockerfile), "door": s.Door}
	if len(s.Tags) > 0 {
		attributes["name"] = strings.Join(s.Tags, ",")
	}
	if s.Target != "" {
		attributes["target"] = s.Target
	}
	if action == events.ActionDie {
		attributes["state"], attributes["exitCode"] = s.State, strconv.Itoa(s.ExitCode)
		attributes["execDuration"] = strconv.Itoa(int(s.Took().Seconds()))
		if s.Image != "" {
			attributes["image"] = s.Image
		}
	}
	b.tell(ctx, events.BuilderEventType, action, s.ID, attributes)
}

// tellImage tells of an image that a build has led to, as Docker does: that it
// came to be, and each of its names.
func (b *Builder) tellImage(ctx context.Context, id string, names []string) {
	b.tell(ctx, events.ImageEventType, events.ActionCreate, id, map[string]string{"name": id})
	for _, name := range names {
		if ref, err := reference.ParseNormalizedNamed(name); err == nil {
			name = reference.FamiliarString(ref)
		}
		b.tell(ctx, events.ImageEventType, events.ActionTag, id, map[string]string{"name": name})
	}
}

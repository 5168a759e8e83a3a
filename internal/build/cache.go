package build

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/imageutil"
	apibuild "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/build/order"
)

// Cache lists what the builder keeps for later builds.
func (b *Builder) Cache(ctx context.Context) ([]apibuild.CacheRecord, error) {
	usage, err := b.worker.DiskUsage(ctx, client.DiskUsageInfo{})
	if err != nil {
		return nil, fmt.Errorf("list the build cache: %w", err)
	}
	records := []apibuild.CacheRecord{}
	for _, u := range usage {
		records = append(records, apibuild.CacheRecord{
			ID: u.ID, Parents: u.Parents, Type: string(u.RecordType), Description: u.Description, InUse: u.InUse, Shared: u.Shared,
			Size: u.Size, CreatedAt: u.CreatedAt, LastUsedAt: u.LastUsedAt, UsageCount: u.UsageCount,
		})
	}
	return records, nil
}

// cacheFilters are the filters of Docker that say the same to BuildKit.
var cacheFilters = map[string]string{
	"id": "id", "parents": "parents", "type": "type", "description": "description", "inuse": "inuse", "shared": "shared", "private": "private",
}

// PruneCache removes what o selects of the build cache, and nothing that an
// image, a container or a build needs.
func (b *Builder) PruneCache(ctx context.Context, o order.Prune) (apibuild.CachePruneReport, error) {
	report := apibuild.CachePruneReport{CachesDeleted: []string{}}
	info := client.PruneInfo{All: o.All, ReservedSpace: o.Reserved, MaxUsedSpace: o.MaxUsed, MinFreeSpace: o.MinFree}
	var terms []string
	for key, values := range o.Filters {
		switch key {
		case "label": // no record has any
			return report, nil
		case "label!":
			continue
		}
		if key == "until" || key == "unused-for" {
			age, err := unusedFor(values)
			if err != nil {
				return report, err
			}
			info.KeepDuration = age
			continue
		}
		field, known := cacheFilters[key]
		if !known {
			return report, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s'", key))
		}
		for _, v := range values {
			if v == "" {
				terms = append(terms, field)
			} else {
				terms = append(terms, field+"=="+v)
			}
		}
	}
	if len(terms) > 0 {
		info.Filter = []string{strings.Join(terms, ",")}
	}
	b.recordings.whenIdle(imageutil.CancelCacheLeases)
	pruned := make(chan client.UsageInfo, 32)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for u := range pruned {
			report.CachesDeleted = append(report.CachesDeleted, u.ID)
			report.SpaceReclaimed += uint64(max(u.Size, 0))
		}
	}()
	// A dozen transactions for each record, and nobody waits for any but the last.
	flushed := b.flushes.Begin()
	err := b.worker.Prune(ctx, pruned, info)
	close(pruned)
	<-done
	collected := b.worker.GarbageCollect(ctx)
	if e := flushed(); e != nil { // a crash would bring the records back
		err = errors.Join(err, fmt.Errorf("flush databases: %w", e))
	}
	if err != nil {
		return report, fmt.Errorf("prune the build cache: %w", err)
	}
	if err := b.states.forget(ctx, b.hasRecord); err != nil {
		b.log.Warn("states without files stay in the records", "err", err)
	}
	b.tell(ctx, events.BuilderEventType, events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	return report, collected
}

func unusedFor(values []string) (time.Duration, error) {
	if len(values) != 1 {
		return 0, errdefs.ErrInvalidArgument.WithMessage("filters expect only one value: until")
	}
	age, err := time.ParseDuration(values[0])
	if err != nil {
		return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("until filter only accepts durations: %s", err))
	}
	return age, nil
}

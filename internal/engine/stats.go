package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/api"
)

const (
	statsInterval = time.Second
	statsMoment   = 200 * time.Millisecond // between the two that make a single one
	// statsPatience is how long a stream waits for a sampler that has something to tell each second.
	statsPatience = 1500 * time.Millisecond
)

// ContainerStats calls fn with one sample, or with one each second while stream is set, until ctx ends or the container
// is removed. A single one has the sampler's last two, or if it has not got so far is taken twice, a moment apart; with
// oneShot it is taken once. Of a container that does not run all numbers are zero.
//
// All streams of a container share the sampler's readings, and one reading of what those have no room for. The first of
// a stream comes at once, and has a previous one unless the container has just been started.
func (e *Engine) ContainerStats(ctx context.Context, ref string, stream, oneShot bool, fn func(*api.Stats) error) error {
	c, err := e.registry.find(ref)
	if errdefs.IsNotFound(err) {
		if r := e.steps.match(ref); r != nil {
			return e.stepStats(ctx, r, stream, oneShot, fn)
		}
	}
	if err != nil {
		return err
	}
	if stream {
		return e.streamStats(ctx, c, fn)
	}
	s, err := e.statsOnce(ctx, c, oneShot)
	if err != nil {
		return err
	}
	return fn(s)
}

func (e *Engine) statsOnce(ctx context.Context, c *ctr, oneShot bool) (*api.Stats, error) {
	first, err := e.sample(c)
	if err != nil || first.Read.IsZero() || e.fromSamples(first, !oneShot) || oneShot {
		return first, err
	}
	if err := e.sleep(ctx, c, statsMoment); err != nil {
		return nil, err
	}
	second, err := e.sample(c)
	if err == nil {
		compareStats(first, second)
	}
	return second, err
}

// sleep waits, and returns an error when the container, ctx or the engine ends before.
func (e *Engine) sleep(ctx context.Context, c *ctr, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.gone:
		return notFound("No such container: %s", c.id)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-e.life.Done():
		return context.Cause(e.life)
	}
}

// compareStats puts what was so before into what is so now.
func compareStats(before, now *api.Stats) {
	if !before.Read.IsZero() && !now.Read.IsZero() && now.CPUStats.CPUUsage.TotalUsage >= before.CPUStats.CPUUsage.TotalUsage {
		now.PreRead, now.PreCPUStats = before.Read, before.CPUStats
	}
}

func (e *Engine) streamStats(ctx context.Context, c *ctr, fn func(*api.Stats) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.life, func() { cancel(errShutdown) })()
	var (
		last *api.Stats
		seq  uint64 // of the sampler's reading in last
	)
	for {
		next, err := e.nextStats(ctx, c, last, &seq)
		if ctx.Err() != nil || next == nil && err == nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(next); err != nil {
			return err
		}
		last = next
	}
}

// nextStats waits for the sampler's reading after number seq, or makes one where there is no sampler or it has nothing to
// tell, such as of a container that is stopped. It returns nil when the container is gone.
func (e *Engine) nextStats(ctx context.Context, c *ctr, last *api.Stats, seq *uint64) (*api.Stats, error) {
	waited := false
	if e.deps.Sampler != nil {
		bounded, cancel := context.WithTimeout(ctx, statsPatience)
		before, now, err := e.deps.Sampler.Next(bounded, c.id, *seq)
		waited = bounded.Err() != nil
		cancel()
		if err == nil {
			*seq = now.Seq
			return e.sampledStats(c, &before, &now)
		}
	}
	if last != nil && !waited {
		if err := e.sleep(ctx, c, statsInterval); err != nil {
			return nil, nil //nolint:nilerr // the end of a stream is no error
		}
	}
	select {
	case <-c.gone:
		return nil, nil
	default:
	}
	next, err := e.sample(c)
	if err == nil && last != nil {
		compareStats(last, next)
	}
	return next, err
}

// sample reads what a container has used so far.
func (e *Engine) sample(c *ctr) (*api.Stats, error) {
	v := c.view()
	if v.pid() == 0 {
		return noStats(v), nil
	}
	s, err := e.readStats(v.task)
	if err == nil {
		s.CPUStats.SystemUsage, err = hostCPU("/proc/stat")
	}
	if err == nil {
		s.Networks, err = e.networkStats(v)
	}
	return statsOf(c, v, s, err)
}

// noStats is what is said of a container that does not run.
func noStats(v *view) *api.Stats {
	return &api.Stats{StatsResponse: container.StatsResponse{ID: v.ID, Name: "/" + v.Name, OSType: "linux"}}
}

// statsOf finishes what was read of v. A container that has just ended is none that cannot be read.
func statsOf(c *ctr, v *view, s *container.StatsResponse, err error) (*api.Stats, error) {
	if err != nil {
		if c.view().task != v.task {
			return noStats(v), nil
		}
		return nil, err
	}
	s.ID, s.Name, s.OSType = v.ID, "/"+v.Name, "linux"
	return &api.Stats{StatsResponse: *s}, nil
}

// readStats reads a task's statistics. The result belongs to the caller.
func (e *Engine) readStats(task Task) (*container.StatsResponse, error) {
	s, err := task.Stats()
	if err != nil {
		return nil, err
	}
	if s.CPUStats.OnlineCPUs, err = onlineCPUs("/sys/devices/system/cpu/online"); err != nil {
		return nil, err
	}
	if limit := uint64(e.host.memTotal); s.MemoryStats.Limit > limit {
		s.MemoryStats.Limit = limit
	}
	return s, nil
}

// onlineCPUs counts the processors in a list such as "0-3,6".
func onlineCPUs(path string) (uint32, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	count := uint32(0)
	for part := range strings.SplitSeq(strings.TrimSpace(string(b)), ",") {
		first, last, isRange := strings.Cut(part, "-")
		low, err := strconv.ParseUint(first, 10, 31)
		high := low
		if isRange && err == nil {
			high, err = strconv.ParseUint(last, 10, 31)
		}
		if err != nil || high < low {
			return 0, fmt.Errorf("%s: %q is no list of processors", path, part)
		}
		count += uint32(high - low + 1)
	}
	return count, nil
}

// hostCPU adds up the time that all processors of the host have spent, in nanoseconds: user, nice, system, idle,
// iowait, irq and softirq.
func hostCPU(path string) (total uint64, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	const fields = 7
	line, _, _ := bytes.Cut(b, []byte("\n"))
	f := bytes.Fields(line)
	if len(f) < fields+1 || string(f[0]) != "cpu" {
		return 0, fmt.Errorf("%s: line of all processors has %d fields", path, len(f))
	}
	for _, n := range f[1 : fields+1] {
		ticks, err := strconv.ParseUint(string(n), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		total += ticks
	}
	const nanosecondsPerTick = 10_000_000
	return total * nanosecondsPerTick, nil
}

// networkStats reads the counters of a container's interfaces. In the host's network they are not its own; in another
// container's they are that one's.
func (e *Engine) networkStats(v *view) (map[string]container.NetworkStats, error) {
	if string(v.HostConfig.NetworkMode) == mobynet.NetworkHost {
		return nil, nil
	}
	return netStatsOf(v.pid())
}

// netStatsOf reads the counters of the interfaces that a process sees.
func netStatsOf(pid int) (map[string]container.NetworkStats, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil // it has just ended
		}
		return nil, err
	}
	return parseNetDev(b)
}

// parseNetDev reads /proc/net/dev, without the loopback interface.
func parseNetDev(b []byte) (map[string]container.NetworkStats, error) {
	stats := map[string]container.NetworkStats{}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		name, counters, ok := strings.Cut(lines.Text(), ":")
		name = strings.TrimSpace(name)
		if !ok || name == "lo" {
			continue
		}
		f := strings.Fields(counters)
		var n [16]uint64
		if len(f) < len(n) {
			return nil, fmt.Errorf("interface %s has %d counters", name, len(f))
		}
		for i := range n {
			var err error
			if n[i], err = strconv.ParseUint(f[i], 10, 64); err != nil {
				return nil, fmt.Errorf("interface %s: %w", name, err)
			}
		}
		stats[name] = container.NetworkStats{
			RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
			TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11],
		}
	}
	return stats, nil
}

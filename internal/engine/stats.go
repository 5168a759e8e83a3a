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

	"github.com/moby/moby/api/types/container"
	mobynet "github.com/moby/moby/api/types/network"
)

const (
	statsInterval = time.Second
	statsMoment   = 200 * time.Millisecond // between the two that make a single one
)

// ContainerStats calls fn with one sample, or with one each second while stream is set, until ctx ends or the container
// is removed. The first of a stream has no previous sample. A single one has the sampler's last two, or if it has not got
// so far is taken twice, a moment apart; with oneShot it is taken once. Of a container that does not run all numbers are zero.
func (e *Engine) ContainerStats(ctx context.Context, ref string, stream, oneShot bool, fn func(*container.StatsResponse) error) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	last, err := e.sample(c)
	if err != nil {
		return err
	}
	switch {
	case !stream && (oneShot || !c.view().live() || e.fromSamples(last)):
		return fn(last)
	case stream:
		if err := fn(last); err != nil {
			return err
		}
	}
	interval := statsInterval
	if !stream {
		interval = statsMoment
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.gone:
			return nil
		case <-ctx.Done():
			return nil
		case <-e.life.Done():
			return nil
		}
		next, err := e.sample(c)
		if err != nil {
			return err
		}
		if !last.Read.IsZero() && !next.Read.IsZero() {
			next.PreRead, next.PreCPUStats = last.Read, last.CPUStats
		}
		if err := fn(next); err != nil || !stream {
			return err
		}
		last = next
	}
}

// sample reads what a container has used so far.
func (e *Engine) sample(c *ctr) (*container.StatsResponse, error) {
	v := c.view()
	if v.pid() == 0 {
		return &container.StatsResponse{ID: v.ID, Name: "/" + v.Name, OSType: "linux"}, nil
	}
	s, err := v.task.Stats()
	if err != nil {
		if c.view().task != v.task {
			return &container.StatsResponse{ID: v.ID, Name: "/" + v.Name, OSType: "linux"}, nil // it has just ended
		}
		return nil, err
	}
	s.ID, s.Name, s.OSType = v.ID, "/"+v.Name, "linux"
	if s.CPUStats.SystemUsage, s.CPUStats.OnlineCPUs, err = hostCPU("/proc/stat"); err != nil {
		return nil, err
	}
	if limit := uint64(e.host.memTotal); s.MemoryStats.Limit > limit {
		s.MemoryStats.Limit = limit
	}
	s.Networks, err = e.networkStats(v)
	return s, err
}

// hostCPU adds up the time that all processors of the host have spent, in nanoseconds: user, nice, system, idle,
// iowait, irq and softirq.
func hostCPU(path string) (total uint64, online uint32, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	const fields = 7
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) == 0 || !bytes.HasPrefix(f[0], []byte("cpu")) {
			break
		}
		if string(f[0]) != "cpu" {
			online++
			continue
		}
		if len(f) < fields+1 {
			return 0, 0, fmt.Errorf("%s: line of all processors has %d fields", path, len(f))
		}
		for _, n := range f[1 : fields+1] {
			ticks, err := strconv.ParseUint(string(n), 10, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("%s: %w", path, err)
			}
			total += ticks
		}
	}
	const nanosecondsPerTick = 10_000_000
	return total * nanosecondsPerTick, online, nil
}

// networkStats reads the counters of a container's interfaces. In the host's network they are not its own; in another
// container's they are that one's.
func (e *Engine) networkStats(v *view) (map[string]container.NetworkStats, error) {
	if string(v.HostConfig.NetworkMode) == mobynet.NetworkHost {
		return nil, nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", v.pid()))
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

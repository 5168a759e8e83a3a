package runtime

import (
	"errors"
	"fmt"
	"io/fs"
)

// OOM receives a value after the kernel has killed processes of the container
// for want of memory, be they the first one, children or execs. It tells once of
// several kills at about the same time, and, before Done is closed, of those that
// nothing else has told of. What had happened before Load is told as well.
func (c *Container) OOM() <-chan struct{} { return c.oom }

// watchOOM begins to wait for kills. The result ends that.
func (c *Container) watchOOM() (stop func()) {
	stop, err := c.r.oom.Watch(c.group, c.tellOOM)
	if err != nil {
		c.r.log.Warn("OOM kills are only seen at the end", "container", c.id, "err", err)
		return func() {}
	}
	return stop
}

// lookForOOM reads the count now.
func (c *Container) lookForOOM() (kills uint64) {
	n, err := c.group.OOMKills()
	if err != nil {
		c.r.log.Warn("OOM kills cannot be counted", "container", c.id, "err", err)
		return 0
	}
	c.tellOOM(n)
	return n
}

// OOMKills counts the processes of the container that the kernel has killed for
// want of memory so far.
func (c *Container) OOMKills() (uint64, error) { return c.group.OOMKills() }

// OOMKills is the count of a container without a shim, which is there until Load
// or Discard clears away what it has left. It is 0 when nothing is left.
func (r *Runtime) OOMKills(id string) (uint64, error) {
	if !idPattern.MatchString(id) {
		return 0, invalid("container id %q is not usable", id)
	}
	c := r.newContainer(id, "", "")
	if err := c.load(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("count OOM kills of container %s: %w", id, err)
	}
	return c.OOMKills()
}

func (c *Container) tellOOM(kills uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kills <= c.oomTold {
		return
	}
	c.oomTold = kills
	select {
	case c.oom <- struct{}{}:
	default: // the last one was not taken yet
	}
}

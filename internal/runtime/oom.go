package runtime

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
func (c *Container) lookForOOM() (killed bool) {
	n, err := c.group.OOMKills()
	if err != nil {
		c.r.log.Warn("OOM kills cannot be counted", "container", c.id, "err", err)
		return false
	}
	c.tellOOM(n)
	return n > 0
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

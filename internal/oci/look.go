package oci

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/cgroup"
)

// Pids lists the processes of a container by their pids on the host.
func (r *Runtime) Pids(id string) ([]int, error) {
	c, err := r.load(id)
	if err != nil {
		return nil, err
	}
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	return g.Pids()
}

// CommandLine is how a process was called, or its name if it hides that. What would do
// something to a terminal is quoted.
func CommandLine(pid int) string {
	dir := "/proc/" + strconv.Itoa(pid)
	b, _ := os.ReadFile(dir + "/cmdline")
	if len(b) == 0 {
		b, _ = os.ReadFile(dir + "/comm")
	}
	text := strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}

// Event is one line of Events.
type Event struct {
	Type string        `json:"type"` // stats or oom
	ID   string        `json:"id"`
	Data *cgroup.Stats `json:"data,omitempty"`
}

// Events writes what the container uses, once or every interval until it has stopped,
// and that the kernel has killed a process of it for want of memory.
func (r *Runtime) Events(id string, once bool, interval time.Duration, w io.Writer) error {
	if interval <= 0 {
		return fmt.Errorf("interval %v is not greater than zero", interval)
	}
	c, err := r.load(id)
	if err != nil {
		return err
	}
	if c.status() == specs.StateStopped {
		return ErrNotRunning
	}
	g, err := c.group()
	if err != nil {
		return err
	}
	out := json.NewEncoder(w)
	var kills uint64
	for first := true; ; first = false {
		s, err := g.Stats()
		if err != nil {
			if c.status() == specs.StateStopped {
				return nil
			}
			return err
		}
		if !first && s.Memory.OOMKills > kills {
			if err := out.Encode(Event{Type: "oom", ID: id}); err != nil {
				return err
			}
		}
		kills = s.Memory.OOMKills
		if err := out.Encode(Event{Type: "stats", ID: id, Data: s}); err != nil || once {
			return err
		}
		<-time.After(interval)
		if c.status() == specs.StateStopped {
			return nil
		}
	}
}

// Update changes the limits of a container that has not stopped; what r does not name
// stays. On error all are as they were.
func (r *Runtime) Update(id string, res *specs.LinuxResources) error {
	c, unlock, err := r.open(id)
	if err != nil {
		return err
	}
	defer unlock()
	if c.status() == specs.StateStopped {
		return ErrNotRunning
	}
	g, err := c.group()
	if err != nil {
		return err
	}
	_, warnings, err := g.Update(res)
	for _, w := range warnings {
		r.warn("%s", w)
	}
	return err
}

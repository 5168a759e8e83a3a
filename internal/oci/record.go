package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/atomicfile"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/runtime"
)

// The files of a container, in Root/ID.
const (
	recordFile = "state.json"
	configFile = "config.json" // as it was when the container was created
	socketFile = "start.sock"  // at which the process waits to be started
	lockFile   = "lock"
)

// record is what the next command has to know of a container.
type record struct {
	OCIVersion  string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Created     time.Time         `json:"created"`
	Cgroup      string            `json:"cgroup"`
	// PID and Start name the first process, see [runtime.StartTime]. PID 0: the
	// container is being created.
	PID   int    `json:"pid"`
	Start string `json:"start,omitempty"`
	// Started says that start has succeeded.
	Started bool `json:"started,omitempty"`
}

// container is one whose record was read.
type container struct {
	rt *Runtime
	record
}

func checkID(id string) error {
	if !runtime.ValidID(id) {
		return fmt.Errorf("invalid container ID %q: letters, digits and _ . - are allowed, at most 128 of them, the first a letter or digit", id)
	}
	return nil
}

func (r *Runtime) dir(id string) string { return filepath.Join(r.Root, id) }

func (c *container) file(name string) string { return filepath.Join(c.rt.dir(c.ID), name) }

// load reads a container's record.
func (r *Runtime) load(id string) (*container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(r.dir(id), recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q", ErrNotFound, id)
	}
	if err != nil {
		return nil, err
	}
	c := &container{rt: r}
	if err := json.Unmarshal(b, &c.record); err != nil {
		return nil, fmt.Errorf("record of container %q: %w", id, err)
	}
	return c, nil
}

// lock keeps two commands from changing one container at once. It ends with the
// returned function. Reading commands do not take it.
func (c *container) lock() (unlock func(), err error) {
	f, err := os.OpenFile(c.file(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q", ErrNotFound, c.ID)
	}
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock container %q: %w", c.ID, err)
	}
	return func() { f.Close() }, nil
}

// open is load with the lock held, and the record read after it was taken.
func (r *Runtime) open(id string) (c *container, unlock func(), err error) {
	if c, err = r.load(id); err != nil {
		return nil, nil, err
	}
	if unlock, err = c.lock(); err != nil {
		return nil, nil, err
	}
	if c, err = r.load(id); err != nil {
		unlock()
		return nil, nil, err
	}
	return c, unlock, nil
}

func (c *container) save() error {
	b, err := json.Marshal(&c.record)
	if err != nil {
		return err
	}
	return atomicfile.Write(c.file(recordFile), b, 0o600)
}

// config is the document with which the container was created.
func (c *container) config() (*specs.Spec, error) { return readConfig(c.file(configFile)) }

func (c *container) group() (*cgroup.Group, error) { return group(c.Cgroup) }

// paused is one more status than the specification has, in runc's word.
const paused specs.ContainerState = "paused"

// status looks at what the container does now.
func (c *container) status() specs.ContainerState {
	if c.PID == 0 {
		return specs.StateCreating
	}
	if start, err := runtime.StartTime(c.PID); err != nil || start != c.Start {
		return specs.StateStopped
	}
	if g, err := c.group(); err == nil {
		if frozen, err := g.Frozen(); err == nil && frozen {
			return paused
		}
	}
	if !c.Started && runtime.IsStage(c.PID) {
		return specs.StateCreated
	}
	return specs.StateRunning
}

// State is a container's state as the specification has it, and what runc tells beside.
type State struct {
	specs.State
	Rootfs  string    `json:"rootfs"`
	Created time.Time `json:"created"`
	Owner   string    `json:"owner"`
}

// State returns the state of a container.
func (r *Runtime) State(id string) (*State, error) {
	c, err := r.load(id)
	if err != nil {
		return nil, err
	}
	return c.state(c.status()), nil
}

func (c *container) state(status specs.ContainerState) *State {
	s := &State{
		State:  specs.State{Version: c.OCIVersion, ID: c.ID, Status: status, Pid: c.PID, Bundle: c.Bundle, Annotations: c.Annotations},
		Rootfs: c.Rootfs, Created: c.Created,
	}
	if status == specs.StateStopped {
		s.Pid = 0
	}
	return s
}

// List returns the states of all containers, by their ids.
func (r *Runtime) List() ([]*State, error) {
	entries, err := os.ReadDir(r.Root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	list := []*State{}
	for _, e := range entries {
		s, err := r.State(e.Name())
		if err != nil {
			continue // removed meanwhile, or none of ours
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *State) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return list, nil
}

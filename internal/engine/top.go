package engine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/ps"
)

// renamedPID finds ps options that give the title PID to something else.
var renamedPID = regexp.MustCompile(`\s+(\S*)=\s*(PID\S*)`)

// ContainerTop lists the processes of a container, or a step of a build that runs, in the columns that ps options ask for; none mean -ef. Pids are the
// host's; users are the container's, with the names that it has for them (-o huid shows the host's ids).
func (e *Engine) ContainerTop(ctx context.Context, ref, psArgs string) (*container.TopResponse, error) {
	c, done, err := e.operateOn(ctx, "top", ref, e.lookUp)
	if err != nil {
		return nil, err
	}
	defer done()
	v := c.view()
	switch {
	case v.status() == container.StateRestarting:
		return nil, errRestarting(v.ID)
	case v.task == nil || !v.live():
		return nil, errNoTask(v)
	}
	for _, m := range renamedPID.FindAllStringSubmatch(" "+psArgs, -1) {
		if m[1] != "pid" {
			return nil, internal("specifying \"%s=%s\" is not allowed", m[1], m[2])
		}
	}
	format, err := ps.Parse(psArgs)
	if err != nil {
		return nil, internal("ps: %v", err)
	}
	if !format.HasPID() {
		return nil, internal("Couldn't find PID field in ps output")
	}
	pids, err := v.task.Pids()
	if err != nil {
		return nil, err
	}
	titles, rows, err := format.List(e.psSource(v), ps.WithZombies("/proc", pids))
	if err != nil {
		return nil, err
	}
	e.emitOn(ctx, c, events.ActionTop, nil)
	return &container.TopResponse{Titles: titles, Processes: rows}, nil
}

// psSource tells how the processes of a container are shown.
func (e *Engine) psSource(v *view) ps.Source {
	s := ps.Source{Now: time.Now(), MemTotal: e.host.memTotal}
	if v.IDs.Size > 0 {
		s.Inside = func(id uint32) uint32 {
			if id < v.IDs.Host || id-v.IDs.Host >= v.IDs.Size {
				return 65534 // nobody, as the kernel shows strangers inside
			}
			return id - v.IDs.Host
		}
	}
	root := fmt.Sprintf("/proc/%d/root", v.pid())
	s.User, s.Group = nameTable(root, "etc/passwd"), nameTable(root, "etc/group")
	return s
}

// nameTable reads /etc/passwd or /etc/group of a container when the first name is asked for. A container without one,
// or with one that cannot be read, has no names.
func nameTable(root, file string) func(uint32) string {
	var names map[uint32]string
	return func(id uint32) string {
		if names == nil {
			var err error
			if names, err = readNames(root, file); err != nil {
				names = map[uint32]string{0: "root"}
			}
		}
		return names[id]
	}
}

const maxNames = 1 << 20 // bytes of a passwd file that are read: it is the container's, who knows what it holds

func readNames(root, file string) (map[uint32]string, error) {
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, err := mount.OpenRegular(dir, file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names := map[uint32]string{}
	for lines := bufio.NewScanner(io.LimitReader(f, maxNames)); lines.Scan(); {
		field := strings.SplitN(lines.Text(), ":", 4)
		if len(field) < 3 {
			continue
		}
		id, err := strconv.ParseUint(field[2], 10, 32)
		if _, known := names[uint32(id)]; err == nil && !known {
			names[uint32(id)] = field[0]
		}
	}
	return names, nil
}

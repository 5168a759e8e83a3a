package look

import (
	"context"
	"sync"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/ps"
)

// atOnce is how many containers are looked at side by side.
const atOnce = 16

// Trees tells of the processes of the containers that o selects, each in the order
// of its tree. One that does not answer is listed with the reason.
func Trees(ctx context.Context, src Source, o engine.ListOptions) ([]api.ContainerProcesses, error) {
	list, err := src.ContainerList(ctx, o)
	if err != nil {
		return nil, err
	}
	out := make([]api.ContainerProcesses, len(list))
	var wg sync.WaitGroup
	room := make(chan struct{}, atOnce)
	for i, c := range list {
		out[i] = api.ContainerProcesses{ContainerID: c.ID, Image: c.Image, Status: string(c.State), Processes: []api.Process{}}
		if len(c.Names) > 0 {
			out[i].Name = c.Names[0][1:]
		}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			if found, err := tree(ctx, src, c.ID); err != nil {
				out[i].Unknown = err.Error()
			} else {
				out[i].Processes = found
			}
		})
	}
	wg.Wait()
	return out, nil
}

func tree(ctx context.Context, src Source, id string) ([]api.Process, error) {
	list, err := within(ctx, "processes "+id, func() ([]ps.Info, error) { return src.Processes(id) })
	if err != nil {
		return nil, err
	}
	sessions, err := src.ContainerExecs(ctx, id)
	if err != nil {
		return nil, err
	}
	execs := map[int]string{}
	for _, s := range sessions {
		execs[s.Pid] = s.ID
	}
	ordered, stems := ps.Tree(list)
	out := make([]api.Process, len(ordered))
	for i, p := range ordered {
		out[i] = api.Process{
			HostPID: p.PID, PID: p.Inside, HostParent: p.Parent, ExecID: execs[p.PID], User: p.User, UID: p.UID, HostUID: p.HostUID,
			State: p.State, Threads: p.Threads, CPUMicroseconds: p.CPU.Microseconds(), RSSBytes: p.RSS, StartedAt: p.Started,
			Name: p.Name, Command: p.Command, Stem: stems[i],
		}
	}
	return out, nil
}

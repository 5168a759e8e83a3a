package look

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/ns"
)

var kinds = []ns.Kind{ns.Cgroup, ns.IPC, ns.Mount, ns.Net, ns.PID, ns.Time, ns.User, ns.UTS}

// namespaceOf is the number of a namespace of a process, from a link such as
// "mnt:[4026531841]"; 0: the process is gone, or the kernel has no such kind.
func namespaceOf(pid string, k ns.Kind) uint64 {
	link, err := os.Readlink("/proc/" + pid + "/ns/" + string(k))
	if err != nil {
		return 0
	}
	_, number, _ := strings.Cut(strings.TrimSuffix(link, "]"), ":[")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// fewSharers is how many processes of the host are named in one namespace.
const fewSharers = 5

// namespaces tells which namespaces a container is in, and who else: all processes
// of the host are asked.
func namespaces(src Source, s engine.Subject) ([]api.Namespace, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	whose := map[int]string{}
	for _, other := range src.Subjects() {
		for _, pid := range other.Pids {
			whose[pid] = other.Name
		}
	}
	for _, pid := range s.Pids {
		whose[pid] = s.Name
	}
	first := strconv.Itoa(s.Pid)
	var list []api.Namespace
	for _, k := range kinds {
		if n := namespaceOf(first, k); n != 0 {
			list = append(list, api.Namespace{Kind: string(k), Inode: n, Host: n == namespaceOf("self", k)})
		}
	}
	more := make([]int, len(list))
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || whose[pid] == s.Name {
			continue
		}
		for i := range list {
			x := &list[i]
			if x.Host || namespaceOf(e.Name(), ns.Kind(x.Kind)) != x.Inode {
				continue
			}
			name := whose[pid]
			if name == "" {
				h, ok := holderOf(pid)
				if !ok {
					continue
				}
				name = fmt.Sprintf("%s (pid %d on the host)", h.Name, pid)
			}
			switch {
			case slices.Contains(x.SharedWith, name):
			case whose[pid] == "" && len(x.SharedWith) >= fewSharers:
				more[i]++
			default:
				x.SharedWith = append(x.SharedWith, name)
			}
		}
	}
	for i, n := range more {
		if n > 0 {
			list[i].SharedWith = append(list[i].SharedWith, fmt.Sprintf("%d more processes", n))
		}
	}
	return list, nil
}

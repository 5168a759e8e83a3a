package ide

import (
	"net/netip"
	"path"
	"slices"
	"strings"
)

// A kind of debug server, by what editors call it.
type kind struct {
	name string
	// speaks says whether a command line is one that serves debuggers.
	speaks func(args []string) bool
	// usual is the port where it listens if it was not told another one.
	usual uint16
}

// kinds are in the order in which they are asked: a program below dlv may be
// anything, and gdbserver as well.
var kinds = []kind{
	{"go", func(a []string) bool {
		return base(a) == "dlv" || strings.Contains(strings.Join(a, " "), "dlv --headless")
	}, 40000},
	{"gdb", func(a []string) bool { return base(a) == "gdbserver" || base(a) == "lldb-server" }, 2345},
	{"python", func(a []string) bool {
		return slices.ContainsFunc(a, func(s string) bool { return path.Base(s) == "debugpy" || strings.Contains(s, "/debugpy/") })
	}, 5678},
	{"java", func(a []string) bool {
		return slices.ContainsFunc(a, func(s string) bool { return strings.Contains(s, "jdwp") })
	}, 5005},
	{"node", func(a []string) bool {
		return slices.ContainsFunc(a, func(s string) bool { return strings.HasPrefix(s, "--inspect") })
	}, 9229},
}

func base(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return path.Base(args[0])
}

func kindOf(name string) (kind, bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// A listener is a TCP port that a process of the container listens on.
type listener struct {
	port    uint16
	pid     int // inside; 0: not known
	hostPid int
	args    []string // of the process; nil: not known
}

// A server is a listener that an editor can attach to.
type server struct {
	listener
	kind string
}

// serverOf chooses the listener that serves debuggers. A port or a kind that was
// asked for is taken without looking at command lines.
func serverOf(list []listener, wantPort uint16, wantKind string) []server {
	var found []server
	for _, l := range list {
		if wantPort != 0 && l.port != wantPort {
			continue
		}
		for _, k := range kinds {
			if wantKind != "" && k.name != wantKind {
				continue
			}
			asked := wantKind != "" && wantPort != 0
			// Node can be told to by a signal, and others may have forked.
			if asked || k.speaks(l.args) || l.args == nil && l.port == k.usual || k.name == "node" && base(l.args) == "node" && l.port == k.usual {
				found = append(found, server{l, k.name})
				break
			}
		}
	}
	// A debugger's own port comes before those of the program below it.
	slices.SortStableFunc(found, func(a, b server) int {
		usual := func(s server) int {
			if k, _ := kindOf(s.kind); k.usual == s.port {
				return 0
			}
			return 1
		}
		return usual(a) - usual(b)
	})
	return found
}

// portOf reads ADDRESS:PORT.
func portOf(local string) uint16 {
	if a, err := netip.ParseAddrPort(local); err == nil {
		return a.Port()
	}
	return 0
}

// A folder is a place in the container and what it is on the host.
type folder struct {
	Container string `json:"Container"`
	Host      string `json:"Host"`
}

// launch is what Visual Studio Code needs in its launch.json, by the names of its
// extensions. Folders are the container's beside the host's.
func launch(name, kind, host string, port uint16, folders []folder) map[string]any {
	c := map[string]any{"name": "attach to " + name, "request": "attach"}
	first := folder{Container: "/", Host: "${workspaceFolder}"}
	if len(folders) > 0 {
		first = folders[0]
	}
	pairs := func(from, to string) (list []map[string]string) {
		for _, f := range folders {
			list = append(list, map[string]string{from: f.Host, to: f.Container})
		}
		return list
	}
	switch kind {
	case "go":
		c["type"], c["mode"], c["host"], c["port"] = "go", "remote", host, port
		c["substitutePath"] = pairs("from", "to")
	case "node":
		c["type"], c["address"], c["port"] = "node", host, port
		c["localRoot"], c["remoteRoot"] = first.Host, first.Container
	case "python":
		c["type"], c["connect"] = "debugpy", map[string]any{"host": host, "port": port}
		c["pathMappings"] = pairs("localRoot", "remoteRoot")
	case "java":
		c["type"], c["hostName"], c["port"] = "java", host, port
	case "gdb":
		c["type"], c["request"], c["MIMode"] = "cppdbg", "launch", "gdb"
		c["miDebuggerServerAddress"], c["program"] = hostPort(host, port), "${workspaceFolder}/PROGRAM"
		files := map[string]string{}
		for _, f := range folders {
			files[f.Container] = f.Host
		}
		c["sourceFileMap"] = files
	}
	return c
}

package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/portholehq/porthole"

// A layer is a group of packages (with all below them) that may use one another
// only if together is set.
type layer struct {
	name     string
	together bool
	prefixes []string
}

// layers stand from the top to the bottom.
var layers = []layer{
	{"programs", false, []string{"cmd"}},
	{"faces", false, []string{"internal/cli", "internal/server", "internal/web", "internal/cri", "internal/oci"}},
	{"debug", false, []string{"internal/debug"}},
	{"engine", false, []string{"internal/engine"}},
	{"build", false, []string{"internal/build"}},
	{"parts", false, []string{"internal/image", "internal/network", "internal/volume", "internal/record"}},
	// The runtime speaks the shim's protocol, and the shim binary is the stage.
	{"runtime", true, []string{"internal/runtime", "internal/shim"}},
	{"leaves", true, []string{
		"internal/problem", "internal/event", "internal/sumline", "internal/atomicfile", "internal/failpoint", "internal/racing", "internal/retry", "internal/boltcheck", "internal/diskroom", "internal/steady", "internal/undo", "internal/units",
		"internal/crilog", "internal/logship", "internal/ledger", "internal/moment", "internal/tartree", "internal/pcap", "internal/buildspec", "internal/detachkeys", "internal/toolbox", "internal/ps", "internal/testenv", "internal/archtest", "internal/daemon", "api",
	}},
	{"linux", true, []string{"internal/linux"}},
	{"sys", false, []string{"internal/sys"}},
}

// beside are packages that stand outside of the layers: they may use only what
// is listed, and only those listed may use them.
var beside = []struct {
	pkg     string
	uses    []string
	usedBy  []string
	because string
}{
	{
		"client",
		[]string{"api"},
		[]string{"cmd", "internal/cli", "internal/web", "test", "bench"},
		"the client speaks to the daemon by HTTP alone; CLI, dashboard and tests use only it",
	},
}

// exclusive names the only places that may import something, directly.
var exclusive = []struct {
	path    string
	allowed []string
	because string
}{
	{"github.com/containerd/containerd/v2", []string{"internal/image", "internal/build"}, "containerd is for image and build only"},
	{"github.com/moby/buildkit", []string{"internal/build"}, "BuildKit is for build only"},
	{"github.com/google/nftables", []string{"internal/network"}, "nftables is for network only"},
	{"go.etcd.io/bbolt", []string{"internal/engine/state", "internal/image", "internal/build", "internal/record"}, "bbolt stands behind engine/state and the image store"},
	{"github.com/spf13/cobra", []string{"internal/cli", "cmd"}, "command lines are for cli and the programs"},
	{"unsafe", []string{"internal/sys"}, "unsafe and raw system calls are for internal/sys only"},
}

// programs names what a program must not contain, by whichever way.
var programs = []struct {
	cmd     string
	without []string
	because string
}{
	{
		"cmd/porthole",
		[]string{
			"github.com/containerd/containerd/v2", "github.com/moby/buildkit", "google.golang.org/grpc", "google.golang.org/protobuf",
			module + "/internal/engine", module + "/internal/image", module + "/internal/runtime",
		},
		"the CLI starts in a few milliseconds and knows the API only",
	},
	{
		"cmd/porthole-shim",
		[]string{
			"net/http", "github.com/containerd/containerd/v2", "github.com/moby/buildkit", "google.golang.org/protobuf",
			"google.golang.org/grpc", "github.com/klauspost/compress", module + "/internal/engine", module + "/internal/image", module + "/client",
		},
		"there is a shim for each container, so it stays small",
	},
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Standard   bool
}

// list asks go about all packages of the module. With -e, so that one which does
// not compile does not hide what is wrong with the others.
func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,Deps", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}

// within reports whether the package at path is prefix or below it.
func within(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func withinAny(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return within(path, p) })
}

// local returns a package's path in the module.
func local(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// place returns the layer of a package and the prefix by which it is there.
func place(path string) (index int, prefix string, ok bool) {
	for i, l := range layers {
		for _, p := range l.prefixes {
			if within(path, p) {
				return i, p, true
			}
		}
	}
	return 0, "", false
}

// outside are packages that the layers say nothing about.
func outside(path string) bool { return withinAny(path, []string{"test", "bench", "contrib", "tools"}) }

func isBeside(path string) bool {
	for _, b := range beside {
		if within(path, b.pkg) {
			return true
		}
	}
	return false
}

// complain returns what is wrong with one package importing another, or "".
func complain(from, to string) string {
	for _, b := range beside {
		if within(from, b.pkg) && !within(to, b.pkg) && !withinAny(to, b.uses) {
			return b.because
		}
		if within(to, b.pkg) && !within(from, b.pkg) && !withinAny(from, b.usedBy) {
			return b.because
		}
	}
	if isBeside(from) || isBeside(to) || outside(from) {
		return ""
	}
	up, upPrefix, ok := place(from)
	if !ok {
		return from + " is in no layer: put it into the table of internal/archtest"
	}
	down, downPrefix, ok := place(to)
	switch {
	case !ok:
		return to + " is in no layer: put it into the table of internal/archtest"
	case withinAny(from, []string{"internal/cli", "cmd/porthole"}) && layers[down].name != "leaves" && !within(to, "internal/cli"):
		return "the CLI knows the API only, by client"
	case layers[down].name == "programs" && upPrefix != downPrefix:
		return "nobody imports a program"
	case down < up:
		return fmt.Sprintf("imports point downwards, and %s is above %s", layers[down].name, layers[up].name)
	case down == up && upPrefix != downPrefix && !layers[up].together:
		return fmt.Sprintf("the %s do not know each other", layers[up].name)
	}
	return ""
}

func TestImports(t *testing.T) {
	for _, p := range list(t) {
		from, _ := local(p.ImportPath)
		for _, path := range p.Imports {
			if to, ok := local(path); ok {
				if why := complain(from, to); why != "" {
					t.Errorf("%s imports %s: %s", from, to, why)
				}
			}
			for _, e := range exclusive {
				if within(path, e.path) && !withinAny(from, e.allowed) {
					t.Errorf("%s imports %s: %s", from, path, e.because)
				}
			}
		}
	}
}

func TestPrograms(t *testing.T) {
	all := list(t)
	for _, prog := range programs {
		i := slices.IndexFunc(all, func(p pkg) bool { return p.ImportPath == module+"/"+prog.cmd })
		if i < 0 {
			t.Errorf("%s: there is no such program", prog.cmd)
			continue
		}
		for _, dep := range all[i].Deps {
			if withinAny(dep, prog.without) {
				t.Errorf("%s contains %s: %s; it comes by %s", prog.cmd, dep, prog.because, chain(all, prog.cmd, dep))
			}
		}
	}
}

// chain names the packages of this module that bring dep in.
func chain(all []pkg, cmd, dep string) string {
	var by []string
	for _, p := range all {
		from, _ := local(p.ImportPath)
		inProgram := from == cmd
		for _, q := range all {
			inProgram = inProgram || q.ImportPath == module+"/"+cmd && slices.Contains(q.Deps, p.ImportPath)
		}
		if inProgram && slices.Contains(p.Deps, dep) {
			by = append(by, from)
		}
	}
	return strings.Join(by, ", ")
}

// TestRules makes sure that the rules catch what they should.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     string // part of the complaint
	}{
		{"internal/server", "internal/engine", ""},
		{"internal/engine", "internal/server", "imports point downwards"},
		{"internal/image", "internal/network", "do not know each other"},
		{"internal/image", "internal/image/archive", ""},
		{"internal/runtime", "internal/shim/wire", ""},
		{"internal/shim", "internal/crilog", ""},
		{"internal/linux/mount", "internal/runtime", "imports point downwards"},
		{"internal/undo", "internal/engine", "imports point downwards"},
		{"internal/cli/command", "internal/engine", "the CLI knows the API only"},
		{"internal/cli/command", "client", ""},
		{"internal/engine", "client", "speaks to the daemon by HTTP alone"},
		{"client", "api", ""},
		{"client", "internal/undo", "speaks to the daemon by HTTP alone"},
		{"internal/engine", "cmd/portholed", "nobody imports a program"},
		{"cmd/porthole", "internal/cli", ""},
		{"cmd/portholed", "internal/image", ""},
		{"internal/util", "api", "is in no layer"},
		{"test/script", "internal/testenv", ""},
	} {
		got := complain(c.from, c.to)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s imports %s: complaint %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

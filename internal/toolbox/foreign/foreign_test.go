package foreign

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/testenv"
)

// rootOf makes a root with files by name; a text that begins with "->" is the
// target of a symbolic link.
func rootOf(t *testing.T, files map[string]string) Root {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		target, link := strings.CutPrefix(text, "->")
		err := error(nil)
		if link {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return Root(dir)
}

func TestFindAndCommand(t *testing.T) {
	r := rootOf(t, map[string]string{
		"usr/bin/tool":            "#!/usr/bin/interp -x\n",
		"usr/bin/env-tool":        "#!/bin/interp\n",
		"usr/bin/tabs":            "#!\t/usr/bin/interp\t-x y \n",
		"usr/bin/climbs":          "#!../../../../../usr/bin/interp\n",
		"usr/bin/nobody":          "#! \n",
		"usr/bin/interp":          "a program of which only the kernel knows what it is",
		"bin":                     "->usr/bin",
		"usr/bin/chosen":          "->/etc/alternatives/chosen",
		"etc/alternatives/chosen": "->/usr/bin/interp",
		"usr/bin/loop":            "#!/usr/bin/loop\n",
		"usr/bin/gone":            "#!/usr/bin/nosuch\n",
		"usr/bin/out":             "->/../../../etc/passwd",
	})
	in := func(name string) string { return filepath.Join(string(r), name) }
	path := in("usr/bin") + ":/bin:/usr/bin"
	for name, want := range map[string]string{
		"tool": in("usr/bin/tool"), "chosen": in("usr/bin/chosen"), "nosuch": "", "out": "", "usr/bin/tool": "",
	} {
		if got := r.Find(path, name); got != want {
			t.Errorf("find %s: %q, want %q", name, got, want)
		}
	}
	for _, tt := range []struct {
		name string
		args []string
		want []string // nil: an error
	}{
		{in("usr/bin/tool"), []string{"tool", "a"}, []string{in("usr/bin/interp"), "/usr/bin/interp", "-x", in("usr/bin/tool"), "a"}},
		{in("usr/bin/env-tool"), []string{"env-tool"}, []string{in("usr/bin/interp"), "/bin/interp", in("usr/bin/env-tool")}},
		{in("usr/bin/chosen"), []string{"chosen", "b"}, []string{in("usr/bin/interp"), "chosen", "b"}},
		{in("usr/bin/tabs"), []string{"tabs"}, []string{in("usr/bin/interp"), "/usr/bin/interp", "-x y", in("usr/bin/tabs")}},
		{in("usr/bin/climbs"), []string{"climbs"}, []string{in("usr/bin/interp"), "../../../../../usr/bin/interp", in("usr/bin/climbs")}},
		{in("usr/bin/nobody"), []string{"nobody"}, []string{in("usr/bin/nobody"), "nobody"}},
		{"/bin/ls", []string{"ls"}, []string{"/bin/ls", "ls"}},
		{in("usr/bin/loop"), []string{"loop"}, nil},
		{in("usr/bin/gone"), []string{"gone"}, nil},
	} {
		file, argv, err := r.Command(tt.name, tt.args)
		if tt.want == nil {
			if err == nil {
				t.Errorf("%s: %s %q, want an error", tt.name, file, argv)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, append([]string{file}, argv...)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got)\n%s", tt.name, err, diff)
		}
	}
	if Root("").Has("/bin/ls") || Root("").Find("/bin", "ls") != "" {
		t.Error("nothing is in a root that is none")
	}
}

// A dynamically linked program runs by its own loader.
func TestCommandLoads(t *testing.T) {
	bash := testenv.NeedsProgram(t, "bash")
	file, argv, err := Root("/proc/self/root").Command("/proc/self/root"+bash, []string{"named", "-c", "echo $0 from a loader", "here"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(file, "ld-") {
		t.Errorf("it is executed by %s, want the loader", file)
	}
	cmd := exec.CommandContext(t.Context(), file)
	cmd.Args = argv
	if out, err := cmd.CombinedOutput(); string(out) != "here from a loader\n" {
		t.Errorf("%q: %v", out, err)
	}
}

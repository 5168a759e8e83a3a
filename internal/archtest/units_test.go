package archtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/portholehq/porthole/internal/testenv"
)

// TestUnits: systemd understands all of the units, and whatever it counts among what keeps a service in its bounds is
// either set, or named with the reason why not. The reasons are given by groups, in comments.
func TestUnits(t *testing.T) {
	analyze := testenv.NeedsProgram(t, "systemd-analyze")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "portholed"), []byte("#!/bin/sh\n"), 0o755); err != nil { // which has to be there
		t.Fatal(err)
	}
	var units []string
	var service string
	for _, name := range []string{"porthole.service", "porthole.socket"} {
		text, err := os.ReadFile("../../contrib/systemd/" + name + ".in")
		if err != nil {
			t.Fatal(err)
		}
		unit := strings.ReplaceAll(string(text), "@BINDIR@", dir)
		if service == "" {
			service = unit
		}
		units = append(units, filepath.Join(dir, name))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// It ends well where it has only ignored something.
	out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify"}, units...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if err != nil || strings.Contains(line, dir) {
			t.Errorf("systemd-analyze verify: %v: %s", err, line)
		}
	}

	// What is set and what is named as not set.
	set, named := make(map[string]bool), make(map[string]bool)
	for line := range strings.Lines(service) {
		if list, ok := strings.CutPrefix(line, "#   "); ok {
			for name := range strings.FieldsSeq(list) {
				named[name] = true
			}
		} else if name, _, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			set[name] = true
		}
	}
	for name := range named {
		if set[name] {
			t.Errorf("porthole.service sets %s, and says why it does not", name)
		}
	}
	cmd := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--json=short", "--no-pager", units[0])
	out, err = cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, out)
	}
	var judged []struct{ Name string }
	if err := json.Unmarshal(out, &judged); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, j := range judged {
		names = append(names, directive.FindAllString(j.Name, -1)...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) < 30 {
		t.Fatalf("systemd-analyze security judges %q: too few", names)
	}
	for _, name := range names {
		name = strings.TrimSuffix(name, "=")
		if !set[name] && !named[name] {
			t.Errorf("porthole.service neither sets %s nor says why not", name)
		}
	}
}

// directive finds settings in what systemd-analyze calls them, like RootDirectory=/RootImage=
// or CapabilityBoundingSet=~CAP_SYS_TIME.
var directive = regexp.MustCompile(`[A-Z][A-Za-z]+=`)

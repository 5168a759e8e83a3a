package why

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/portholehq/porthole/api"
)

// TestCausesAreTold: each cause that a rule names is explained to people, and to
// those who read the code.
func TestCausesAreTold(t *testing.T) {
	causes := map[string]bool{"oom": true, "running": true, "name-unresolved": true} // those that are made in more than one piece
	names := func(pattern, name string) (list []string) {
		files, err := filepath.Glob(filepath.FromSlash(pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(name).FindAllSubmatch(text, -1) {
				list = append(list, string(m[1]))
			}
		}
		if len(list) == 0 {
			t.Errorf("%s has no %s", pattern, name)
		}
		return list
	}
	for _, cause := range append(names("*.go", `verdict\("([a-z-]+)"`), names("../diagnose/doc.go", `Kind += "([a-z-]+)"`)...) {
		causes[cause] = true
	}
	for _, state := range names("../../../api/mounts.go", `\tMount\w+ += "([a-z ]+)"`) {
		if m := (api.Mount{State: state}); m.Trouble() {
			causes[mountCause(state)] = true
		}
	}
	for _, page := range []string{"../../../docs/debugging.md", "../../../docs/design/why.md"} {
		text, err := os.ReadFile(filepath.FromSlash(page))
		if err != nil {
			t.Fatal(err)
		}
		for cause := range causes {
			if !regexp.MustCompile("(?m)^\\|.*`" + cause + "`").Match(text) {
				t.Errorf("%s has no row with `%s`", page, cause)
			}
		}
	}
}

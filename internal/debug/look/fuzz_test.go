package look

import (
	"strings"
	"testing"

	"github.com/portholehq/porthole/api"
)

// FuzzMaps has a process map files of any name. Each file that is told is one of a
// line, with the number of that line, and is in no line twice.
func FuzzMaps(f *testing.F) {
	f.Add("5581-5582 r-xp 00000000 08:01 42                         /usr/bin/a b\n7ffc-7ffd rw-p 00000000 00:00 0 [stack]\n" +
		"5582-5583 r--p 00000000 08:01 42                         /usr/bin/a b\n7f00-7f01 rw-s 00000000 00:01 7    /memfd:x (deleted)\n7f-80 r--p 0 00:2a 9 /lib/x (deleted)\n")
	f.Add("a b c d e f g\n")
	f.Fuzz(func(t *testing.T, text string) {
		found := map[string]*api.MappedFile{}
		addMaps(found, []byte(text), 7)
		addMaps(found, []byte(text), 8)
		if len(found) > strings.Count(text, "\n")+1 {
			t.Errorf("%d files of %q", len(found), text)
		}
		for _, m := range found {
			if !strings.HasPrefix(m.Path, "/") || !strings.Contains(text, m.Path) || m.Deleted && memory(m.Path) {
				t.Errorf("%q has %+v", text, m)
			}
			if len(m.Processes) != 2 {
				t.Errorf("processes %v", m.Processes)
			}
		}
	})
}

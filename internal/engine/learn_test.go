package engine

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/record/death"
)

func TestLearnFrom(t *testing.T) {
	dirs := func(paths ...string) (list []death.LearnedDir) {
		for _, p := range paths {
			list = append(list, death.LearnedDir{Path: p})
		}
		return list
	}
	m, a, d := image.Modified, image.Added, image.Deleted
	for _, tt := range []struct {
		name    string
		changes []image.Change
		want    death.Learned
	}{
		{"nothing", nil, death.Learned{}},
		{"a file", []image.Change{{Path: "/var", Kind: m}, {Path: "/var/x", Kind: a}}, death.Learned{Count: 1, Paths: []string{"/var/x"}, Dirs: dirs("/var")}},
		{"below a new directory", []image.Change{
			{Path: "/run", Kind: m}, {Path: "/run/app", Kind: a}, {Path: "/run/app/deep", Kind: a}, {Path: "/run/app/deep/pid", Kind: a},
		}, death.Learned{Count: 1, Paths: []string{"/run/app/deep/pid"}, Dirs: dirs("/run")}},
		{"a new directory of the root", []image.Change{{Path: "/data", Kind: a}, {Path: "/data/x", Kind: a}}, death.Learned{Count: 1, Paths: []string{"/data/x"}, Dirs: dirs("/data")}},
		{"at the root itself", []image.Change{{Path: "/empty", Kind: a}, {Path: "/x", Kind: a}}, death.Learned{Count: 2, Paths: []string{"/empty", "/x"}, AtRoot: []string{"/empty", "/x"}}},
		{"one below another, and names alike", []image.Change{
			{Path: "/var", Kind: m}, {Path: "/var/lib", Kind: m}, {Path: "/var/lib/x", Kind: m}, {Path: "/var/y", Kind: d}, {Path: "/var2", Kind: m}, {Path: "/var2/z", Kind: a},
		}, death.Learned{Count: 3, Paths: []string{"/var/lib/x", "/var/y", "/var2/z"}, Dirs: dirs("/var", "/var2")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(&tt.want, learnFrom(tt.changes)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

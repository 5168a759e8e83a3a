package stage

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAddGroups(t *testing.T) {
	var id identity
	id.addGroups(5, 3, 5)
	id.addGroups(3, 9)
	if diff := cmp.Diff([]uint32{5, 3, 9}, id.groups); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
}

// TestAddManyGroups: an image whose /etc/group has a user in hundreds of thousands of groups does not hold up a start.
func TestAddManyGroups(t *testing.T) {
	many := make([]int, 400_000)
	for i := range many {
		many[i] = i
	}
	var id identity
	begin := time.Now()
	id.addGroups(many...)
	if took := time.Since(begin); took > 5*time.Second || len(id.groups) != len(many) {
		t.Errorf("%d groups took %v", len(id.groups), took)
	}
}

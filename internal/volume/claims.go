package volume

import (
	"fmt"
	"os"
	"strings"

	"github.com/portholehq/porthole/internal/ledger"
)

// Claims tells which volume each directory of the store is; paths are below its
// root. What is no volume, or a damaged one, is nobody's.
func (s *Store) Claims() ([]ledger.Claim, error) {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return nil, fmt.Errorf("tell whose the files of volumes are: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []ledger.Claim
	for _, e := range entries {
		claim := ledger.Claim{Path: e.Name()}
		_, known := s.volumes[e.Name()]
		switch {
		case known:
			claim.Owner, claim.ID, claim.Name = ledger.Volume, e.Name(), e.Name()
		case strings.HasPrefix(e.Name(), unfinished):
			claim.Owner, claim.Part = ledger.Unfinished, "volumes"
		case strings.HasPrefix(e.Name(), removing):
			claim.Owner = ledger.Removing
		default:
			continue
		}
		list = append(list, claim)
	}
	return list, nil
}

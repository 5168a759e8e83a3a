package server

import (
	"net/http"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/ledger"
)

// ledger tells whose the bytes below the data root are.
func (s *Server) ledger(r *request) error {
	l, err := s.backend.Ledger(r.ctx())
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, api.DiskLedger{
		Root: l.Root, TakenAt: l.At, TotalBytes: l.Total.Disk, Accounts: diskAccounts(l.Accounts),
	})
}

func diskAccounts(list []ledger.Account) []api.DiskAccount {
	out := make([]api.DiskAccount, len(list))
	for i, a := range list {
		out[i] = api.DiskAccount{
			Owner: string(a.Owner), ID: a.ID, Name: a.Name, Part: a.Part, Users: a.Users, Path: a.Path, Paths: a.Paths,
			Bytes: a.Size.Disk, Unread: a.Size.Unread, MeasuredAt: a.At,
		}
	}
	return out
}

// orphansPrune removes what has no owner. What could not be removed is an error
// that says what; the rest is gone.
func (s *Server) orphansPrune(r *request) error {
	gone, err := s.backend.OrphansPrune(r.ctx())
	if err != nil {
		return err
	}
	out := api.OrphansPruned{Removed: diskAccounts(gone)}
	for _, a := range gone {
		out.SpaceReclaimed += a.Size.Disk
	}
	return r.json(http.StatusOK, out)
}

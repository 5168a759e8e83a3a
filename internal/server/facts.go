package server

import (
	"net/http"
	"time"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/debug/protection"
)

// facts is what Docker's info has no place for.
func (s *Server) facts(r *request) error {
	f := s.backend.Facts()
	out := api.Info{
		Isolation: api.InfoIsolation{
			UserNamespaces: f.NoUserNamespaces == nil, IDsPerContainer: f.IDsPerContainer, Seccomp: f.Seccomp,
			AppArmorProfile: f.AppArmorProfile, CgroupNamespaces: f.CgroupNamespaces,
		},
		Cgroup: api.InfoCgroup{Mode: f.CgroupMode, Parent: f.CgroupParent},
		Journal: api.InfoJournal{
			First: f.Journal.First, Last: f.Journal.Last, Segments: f.Journal.Segments, MaxSegments: f.JournalBounds.MaxSegments,
			MaxSize: f.JournalBounds.MaxSize, MaxAgeSeconds: int64(f.JournalBounds.MaxAge / time.Second),
		},
		Log: api.InfoLog{MaxSize: f.Log.MaxSize, MaxFiles: f.Log.MaxFiles, Compress: f.Log.Compress},
	}
	if f.NoUserNamespaces != nil {
		out.Isolation.Why, out.Isolation.IDsPerContainer = f.NoUserNamespaces.Error(), 0
	}
	out.Evidence.Cores = f.Cores
	if f.NoCores != nil {
		out.Evidence.CoresWhy = f.NoCores.Error()
	}
	if f.NoSignals != nil {
		out.Evidence.SignalsWhy = f.NoSignals.Error()
	} else {
		out.Evidence.Signals, out.Evidence.SignalsSeen, out.Evidence.SignalsLost = "eBPF tracepoints", f.Signals.Seen, f.Signals.Failed
		out.Evidence.DeedsSeen, out.Evidence.DeedsLost = f.Signals.Told, f.Signals.Dropped
	}
	out.Security = protection.Look(f, s.backend.Surrendered(r.ctx()))
	if s.opts.Protection != nil {
		out.Security.Checks = append(out.Security.Checks, s.opts.Protection()...)
	}
	return r.json(http.StatusOK, out)
}

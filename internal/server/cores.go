package server

import (
	"io"
	"net/http"
	"strconv"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/record/core"
)

func coreForm(r *core.Record) api.Core {
	return api.Core{
		ID: r.ID, ContainerID: r.Container, ContainerName: r.Name, Image: r.Image, Run: r.Run, Time: r.Time,
		PID: r.PID, PIDInside: r.Inside, First: r.First, Process: r.Process, UID: r.UID, Signal: signalName(r.Signal),
		Bytes: r.Bytes, DiskBytes: r.Disk, Truncated: r.Truncated,
	}
}

// cores lists those that are kept, of a container if it is named.
func (s *Server) cores(r *request) error {
	list, err := s.backend.Cores(r.form.Get("container"))
	if err != nil {
		return err
	}
	out := make([]api.Core, len(list))
	for i, c := range list {
		out[i] = coreForm(c)
	}
	return r.json(http.StatusOK, out)
}

// coreInspect tells of a core, by its id or the container whose newest it is.
func (s *Server) coreInspect(r *request) error {
	c, err := s.backend.Core(r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, coreForm(c))
}

// coreRead sends the ELF file. Its length is told before: a reader sees whether it
// has all.
func (s *Server) coreRead(r *request) error {
	c, err := s.backend.Core(r.name)
	if err != nil {
		return err
	}
	f, err := s.backend.CoreRead(c)
	if err != nil {
		return err
	}
	defer f.Close()
	h := r.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(c.Bytes, 10))
	_, err = io.Copy(r.w, f)
	return err
}

func (s *Server) coreRemove(r *request) error {
	if err := s.backend.CoreRemove(r.name); err != nil {
		return err
	}
	return r.json(http.StatusOK, struct{}{})
}

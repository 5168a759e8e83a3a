package server

import (
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
)

func (s *Server) networkList(r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	list, err := s.backend.NetworkList(r.ctx(), f)
	if err != nil {
		return err
	}
	// The list has always come in the long form, with no containers in it.
	out := make([]any, len(list))
	for i := range list {
		out[i] = networkForm(network.Inspect{Network: list[i].Network, Containers: map[string]network.EndpointResource{}})
	}
	return r.json(http.StatusOK, out)
}

func (s *Server) networkInspect(r *request) error {
	n, err := s.backend.NetworkInspect(r.ctx(), r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, networkForm(*n))
}

// networkForm returns n as versions up to 1.51 know it.
func networkForm(n network.Inspect) network.Inspect {
	n.Status = nil // since 1.52
	if n.Containers == nil {
		n.Containers = map[string]network.EndpointResource{}
	}
	return n
}

func (s *Server) networkCreate(r *request) error {
	var req network.CreateRequest
	if err := r.readJSON(&req); err != nil {
		return err
	}
	if r.before(47) {
		req.EnableIPv4 = nil // there was no network without it
	}
	out, err := s.backend.NetworkCreate(r.ctx(), req)
	if err != nil {
		return err
	}
	return r.json(http.StatusCreated, out)
}

func (s *Server) networkRemove(r *request) error {
	if err := s.backend.NetworkRemove(r.ctx(), r.name); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *Server) networkConnect(r *request) error {
	var req network.ConnectRequest
	if err := r.readJSON(&req); err != nil {
		return err
	}
	if req.EndpointConfig != nil {
		if r.before(44) {
			req.EndpointConfig.MacAddress = nil
		}
		if r.before(48) {
			req.EndpointConfig.GwPriority = 0
		}
	}
	if err := s.backend.NetworkConnect(r.ctx(), r.name, req); err != nil {
		return err
	}
	return r.done(http.StatusOK)
}

func (s *Server) networkDisconnect(r *request) error {
	var req network.DisconnectRequest
	if err := r.readJSON(&req); err != nil {
		return err
	}
	if err := s.backend.NetworkDisconnect(r.ctx(), r.name, req); err != nil {
		return err
	}
	return r.done(http.StatusOK)
}

func (s *Server) networksPrune(r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	report, err := s.backend.NetworksPrune(r.ctx(), f)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, report)
}

func (s *Server) volumeList(r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	list, err := s.backend.VolumeList(r.ctx(), f)
	if err != nil {
		return err
	}
	list.Volumes = nonNil(list.Volumes)
	return r.json(http.StatusOK, list)
}

func (s *Server) volumeInspect(r *request) error {
	vol, err := s.backend.VolumeInspect(r.ctx(), r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, vol)
}

func (s *Server) volumeCreate(r *request) error {
	var req volume.CreateRequest
	if err := r.readJSON(&req); err != nil {
		return err
	}
	if req.ClusterVolumeSpec != nil {
		return noSwarm(r)
	}
	vol, err := s.backend.VolumeCreate(r.ctx(), req)
	if err != nil {
		return err
	}
	return r.json(http.StatusCreated, vol)
}

func (s *Server) volumeUpdate(*request) error {
	return errdefs.ErrUnavailable.WithMessage("volume update only valid for cluster volumes, but swarm is unavailable")
}

func (s *Server) volumeRemove(r *request) error {
	if err := s.backend.VolumeRemove(r.ctx(), r.name, r.flag("force")); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *Server) volumesPrune(r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	if r.before(42) {
		// Named volumes went too, then.
		f["all"] = []string{"true"}
	}
	report, err := s.backend.VolumesPrune(r.ctx(), f)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, report)
}

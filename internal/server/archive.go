package server

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/engine"
)

// pathStat is the header that tells about the path of a copy.
const pathStat = "X-Docker-Container-Path-Stat"

func (r *request) setPathStat(st container.PathStat) error {
	text, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("encode facts about a path: %w", err)
	}
	r.w.Header().Set(pathStat, base64.StdEncoding.EncodeToString(text))
	return nil
}

// path reads the parameter path.
func (r *request) path() (string, error) {
	p := r.form.Get("path")
	if p == "" {
		return "", invalid("bad parameter: path cannot be empty")
	}
	return p, nil
}

func (s *Server) containerStatPath(r *request) error {
	path, err := r.path()
	if err != nil {
		return err
	}
	st, err := s.backend.ContainerStatPath(r.ctx(), r.name, path)
	if err != nil {
		return err
	}
	return r.setPathStat(st)
}

func (s *Server) containerArchive(r *request) error {
	path, err := r.path()
	if err != nil {
		return err
	}
	return r.tar(s.backend.ContainerArchive(r.ctx(), r.name, path, func(st container.PathStat) (io.Writer, error) {
		r.w.Header().Set("Content-Type", "application/x-tar")
		return r.w, r.setPathStat(st)
	}))
}

// tar ends an answer that is an archive. One that broke off must not look
// whole: the connection is aborted.
func (r *request) tar(err error) error {
	if err != nil && r.w.begun() {
		if r.ctx().Err() == nil && !errors.Is(err, syscall.EPIPE) { // else the client has gone
			r.log.Error("archive broke off", "container", r.name, "err", err)
		}
		panic(http.ErrAbortHandler)
	}
	return err
}

func (s *Server) containerExtract(r *request) error {
	path, err := r.path()
	if err != nil {
		return err
	}
	return s.backend.ContainerExtract(r.ctx(), r.name, path, r.http.Body, engine.ExtractOptions{
		KeepKinds: r.flag("noOverwriteDirNonDir"), ToUser: r.flag("copyUIDGID"),
	})
}

func (s *Server) containerExport(r *request) error {
	return r.tar(s.backend.ContainerExport(r.ctx(), r.name, func() (io.Writer, error) {
		r.w.Header().Set("Content-Type", "application/octet-stream")
		return r.w, nil
	}))
}

func (s *Server) containerChanges(r *request) error {
	changes, err := s.backend.ContainerChanges(r.ctx(), r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, nonNil(changes))
}

func (s *Server) commit(r *request) error {
	dst, err := repoTag(r.form.Get("repo"), r.form.Get("tag"))
	if err != nil {
		return err
	}
	o := engine.CommitOptions{
		Author: r.form.Get("author"), Comment: r.form.Get("comment"), Changes: r.form["changes"], Pause: r.flagOn("pause"),
	}
	if dst != nil {
		o.Repo, o.Tag = reference.FamiliarName(dst), dst.Tag()
	}
	// Some clients send null, some nothing.
	if err := r.readJSON(&o.Config); err != nil {
		return err
	}
	id, err := s.backend.ContainerCommit(r.ctx(), r.form.Get("container"), o)
	if err != nil {
		return err
	}
	return r.json(http.StatusCreated, container.CommitResponse{ID: id})
}

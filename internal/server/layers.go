package server

import (
	"net/http"
	"time"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/image"
)

// hiddenFiles is how many files that are hidden by other layers are told without
// being asked for a number.
const hiddenFiles = 10

func (s *Server) imageLayers(r *request) error {
	limit, given, err := r.number("hidden")
	switch {
	case err != nil:
		return err
	case !given:
		limit = hiddenFiles
	case limit < 0 || limit > 10000:
		return invalid("hidden must be from 0 to 10000")
	}
	l, err := s.backend.ImageLayers(r.ctx(), r.name, limit)
	if err != nil {
		return err
	}
	out := api.ImageLayers{Image: l.ID, Hidden: make([]api.HiddenFile, len(l.Hidden))}
	out.Layers, out.Build = s.layerForms(l.ID, l.Layers)
	for n, h := range l.Hidden {
		out.Hidden[n] = api.HiddenFile{Path: h.Path, Layer: h.Layer + 1, By: h.By + 1, Bytes: h.Bytes, Removed: h.Removed}
	}
	return r.json(http.StatusOK, out)
}

func (s *Server) imageBlame(r *request) error {
	path := r.form.Get("path")
	if path == "" {
		return invalid("path is missing")
	}
	b, err := s.backend.ImageBlame(r.ctx(), r.name, path)
	if err != nil {
		return err
	}
	out := api.ImageBlame{Image: b.ID, Path: b.Path, Touches: make([]api.ImageTouch, len(b.Touches))}
	all, build := s.layerForms(b.ID, b.Layers)
	out.Build = build
	for n, t := range b.Touches {
		form := api.ImageTouch{ImageLayer: all[t.Layer], Action: string(t.Action), What: t.What, Link: t.Link}
		if st := t.Stat; st.Mode != 0 {
			form.Mode, form.UID, form.GID, form.Size = st.Mode, st.Uid, st.Gid, st.Size
			form.ModifiedAt = time.Unix(st.Mtim.Unix()).UTC()
		}
		out.Touches[n] = form
	}
	return r.json(http.StatusOK, out)
}

// layerForms brings layers into the API's form, with the lines of the instructions
// that made them if there is a record of that.
func (s *Server) layerForms(imageID string, list []image.Layer) (forms []api.ImageLayer, build string) {
	forms = make([]api.ImageLayer, len(list))
	for n, l := range list {
		forms[n] = api.ImageLayer{
			Number: n + 1, DiffID: l.DiffID.String(), CreatedBy: l.CreatedBy, Created: l.Created,
			Files: l.Files, Bytes: l.Bytes, HiddenFiles: l.HiddenFiles, HiddenBytes: l.HiddenBytes,
		}
	}
	if s.opts.Builder != nil {
		build = s.opts.Builder.LocateLayers(imageID, forms)
	}
	return forms, build
}

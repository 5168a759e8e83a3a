package server

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/image/name"
	"github.com/portholehq/porthole/internal/problem"
)

func (s *Server) imageList(r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	list, err := s.backend.ImageList(r.ctx(), engine.ImageListOptions{
		All:        r.flag("all"),
		SharedSize: !r.before(42) && r.flag("shared-size"),
		Manifests:  !r.before(47) && r.flag("manifests"),
		Filters:    f,
	})
	if err != nil {
		return err
	}
	out := make([]any, len(list))
	for i := range list {
		out[i] = imageForm(r, &list[i])
	}
	return r.json(http.StatusOK, out)
}

// imageForm returns a copy of img as the client's version knows it.
func imageForm(r *request, img *image.Summary) any {
	out := *img
	if r.before(51) {
		out.Containers = -1
	}
	return imageFormCounted(r, out)
}

// imageFormCounted is imageForm for disk usage, where every version has counted
// the containers.
func imageFormCounted(r *request, out image.Summary) any {
	if r.before(43) && len(out.RepoTags) == 0 && len(out.RepoDigests) == 0 {
		out.RepoTags, out.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
	}
	out.RepoTags, out.RepoDigests = nonNil(out.RepoTags), nonNil(out.RepoDigests)
	if r.before(48) {
		out.Descriptor = nil
	}
	if r.before(44) {
		return withFields{out, fields{"VirtualSize": out.Size}}
	}
	return out
}

// Members that an image's configuration had once, although they mean nothing
// for an image, and those that were never left out.
var (
	configUntil149 = fields{
		"AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Domainname": "", "Hostname": "",
		"Image": "", "OpenStdin": false, "StdinOnce": false, "Tty": false,
		"Cmd": nil, "Entrypoint": nil, "Env": nil, "Labels": nil, "OnBuild": nil, "User": "", "Volumes": nil, "WorkingDir": "",
	}
	configUntil151 = fields{
		"Cmd": nil, "Entrypoint": nil, "Env": nil, "Labels": nil, "OnBuild": nil, "User": "", "Volumes": nil, "WorkingDir": "",
	}
)

func (s *Server) imageInspect(r *request) error {
	plats, err := r.platforms("platform")
	if err != nil {
		return err
	}
	if r.before(49) {
		plats = nil
	} else if len(plats) > 0 && r.flag("manifests") {
		return invalid("conflicting options: manifests and platform options cannot both be set")
	}
	img, err := s.backend.ImageInspect(r.ctx(), r.name)
	if err != nil {
		return err
	}
	if err := checkPlatform(r.name, img, plats); err != nil {
		return err
	}
	return r.json(http.StatusOK, imageInspectForm(r, img))
}

// checkPlatform refuses an image for a platform that it is not for.
func checkPlatform(name string, img image.InspectResponse, wanted []ocispec.Platform) error {
	have := platforms.Normalize(ocispec.Platform{OS: img.Os, Architecture: img.Architecture, Variant: img.Variant})
	for _, want := range wanted {
		if !platforms.NewMatcher(want).Match(have) {
			return errdefs.ErrNotFound.WithMessage(fmt.Sprintf(
				"image with reference %s was found but does not provide the specified platform (%s)", name, platforms.FormatAll(want)))
		}
	}
	return nil
}

// imageInspectForm returns img as the client's version knows it.
func imageInspectForm(r *request, img image.InspectResponse) any {
	img.RepoTags, img.RepoDigests = nonNil(img.RepoTags), nonNil(img.RepoDigests)
	img.Identity = nil // since 1.53
	extra := fields{
		"Parent": "", "Comment": img.Comment, "DockerVersion": "", "Author": img.Author,
		"Config": configUntil151,
	}
	if r.before(50) {
		extra["Config"] = configUntil149
	}
	if r.before(48) {
		img.Descriptor, img.Manifests = nil, nil
	}
	if r.before(45) {
		extra["Container"], extra["ContainerConfig"] = "", nil
	}
	if r.before(44) {
		extra["VirtualSize"] = img.Size
		if img.Created == "" {
			img.Created = time.Time{}.Format(time.RFC3339Nano)
		}
	}
	return withFields{img, extra}
}

func (s *Server) imageHistory(r *request) error {
	plats, err := r.platforms("platform")
	if err != nil {
		return err
	}
	if len(plats) > 0 && !r.before(48) {
		img, err := s.backend.ImageInspect(r.ctx(), r.name)
		if err != nil {
			return err
		}
		if err := checkPlatform(r.name, img, plats); err != nil {
			return err
		}
	}
	list, err := s.backend.ImageHistory(r.ctx(), r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, nonNil(list))
}

func (s *Server) imageTag(r *request) error {
	dst, err := repoTag(r.form.Get("repo"), r.form.Get("tag"))
	if err != nil {
		return err
	}
	if dst == nil {
		return invalid("invalid reference format: repository name cannot be empty")
	}
	if err := s.backend.ImageTag(r.ctx(), r.name, reference.FamiliarString(dst)); err != nil {
		return err
	}
	return r.done(http.StatusCreated)
}

// repoTag joins the parameters repo and tag; nil when there is no repo.
func repoTag(repo, tag string) (reference.NamedTagged, error) {
	if repo == "" {
		return nil, nil
	}
	ref, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return nil, argumentError{err}
	}
	if _, digested := ref.(reference.Digested); digested {
		return nil, invalid("cannot import digest reference")
	}
	if tag != "" {
		if ref, err = reference.WithTag(ref, tag); err != nil {
			return nil, argumentError{err}
		}
	}
	return name.ParseTag(ref.String())
}

func (s *Server) imageRemove(r *request) error {
	if strings.TrimSpace(r.name) == "" {
		return invalid("image name cannot be blank")
	}
	o := engine.ImageRemoveOptions{Force: r.flag("force"), NoPrune: r.flag("noprune")}
	if !r.before(50) {
		var err error
		if o.Platforms, err = r.platforms("platforms"); err != nil {
			return err
		}
	}
	list, err := s.backend.ImageRemove(r.ctx(), r.name, o)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, nonNil(list))
}

func (s *Server) imagesPrune(r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	report, err := s.backend.ImagesPrune(r.ctx(), f)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, report)
}

// progress starts a stream of progress messages.
func (r *request) progress() jsonStream {
	r.w.Header().Set("Content-Type", "application/json")
	return jsonStream{w: flushWriter{r.w}, carriage: true}
}

// fail ends a stream of progress with an error, in the stream: the status has
// been sent, or clients look for the error there in any case.
func (r *request) fail(out jsonStream, err error) error {
	if r.ctx().Err() != nil {
		return context.Cause(r.ctx())
	}
	r.log.Debug("error in stream", "err", err)
	return out.write(streamError{
		Detail: &jsonstream.Error{Message: err.Error()}, Error: err.Error(), Hint: cmp.Or(problem.Hint(err), problem.ScarceHint(err.Error())),
	})
}

func (s *Server) imageLoad(r *request) error {
	o := engine.ImageLoadOptions{Quiet: r.flagOn("quiet")}
	if !r.before(48) {
		var err error
		if o.Platforms, err = r.platforms("platform"); err != nil {
			return err
		}
		if len(o.Platforms) > 1 {
			return invalid("multiple platform parameters are not supported in this API version; use API version 1.52 or later")
		}
	}
	out := r.progress()
	var report func(any)
	if !o.Quiet {
		// A client that is gone shows in the context of the load.
		report = func(message any) { _ = out.write(message) }
	}
	loaded, err := s.backend.ImageLoad(r.ctx(), r.http.Body, o, report)
	for _, name := range loaded {
		text := "Loaded image: " + name + "\n"
		if strings.HasPrefix(name, "sha256:") {
			text = "Loaded image ID: " + name + "\n"
		}
		if err := out.write(jsonstream.Message{Stream: text}); err != nil {
			return err
		}
	}
	if err != nil {
		return r.fail(out, err)
	}
	return nil
}

func (s *Server) imageSave(r *request) error {
	names := r.form["names"]
	if r.name != "" {
		names = []string{r.name}
	}
	if len(names) == 0 {
		return invalid("no images given: name at least one")
	}
	plats, err := r.platforms("platform")
	if err != nil {
		return err
	}
	if r.before(48) {
		plats = nil
	}
	r.w.Header().Set("Content-Type", "application/x-tar")
	err = s.backend.ImageSave(r.ctx(), r.w, names, plats)
	if err != nil && r.w.begun() {
		// A cut-off archive must not look whole: abort the connection.
		r.log.Error("image save broke off", "err", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// imageCreate imports an archive, or pulls an image.
func (s *Server) imageCreate(r *request) error {
	if r.form.Get("fromImage") != "" {
		return s.imagePull(r)
	}
	source := r.form.Get("fromSrc")
	dst, err := repoTag(r.form.Get("repo"), r.form.Get("tag"))
	if err != nil {
		return err
	}
	o := engine.ImageImportOptions{Message: r.form.Get("message"), Changes: r.form["changes"]}
	if dst != nil {
		o.Repo, o.Tag = reference.FamiliarName(dst), dst.Tag()
	}
	if text := r.form.Get("platform"); text != "" {
		p, err := platforms.Parse(text)
		if err != nil {
			return argumentError{err}
		}
		o.Platform = &p
	}
	if source != "-" {
		return s.importURL(r, source, o)
	}
	id, err := s.backend.ImageImport(r.ctx(), r.http.Body, o)
	if err != nil {
		return err
	}
	return r.progress().write(jsonstream.Message{Status: id})
}

// importURL has the daemon fetch the archive.
func (s *Server) importURL(r *request, source string, o engine.ImageImportOptions) error {
	out := r.progress()
	id, err := s.backend.ImageImportURL(r.ctx(), source, o, func(message any) { _ = out.write(message) })
	switch {
	case err == nil:
		return out.write(jsonstream.Message{Status: id})
	case r.w.begun():
		return r.fail(out, err)
	}
	return err
}

package server

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"
	mobyregistry "github.com/moby/moby/api/types/registry"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/build/order"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/image/remote"
	"github.com/portholehq/porthole/internal/problem"
)

// Builder builds images.
type Builder interface {
	// Classic builds from a tar stream, as [order.Options] has it.
	Classic(ctx context.Context, contextTar io.Reader, o order.Options, report func(jsonstream.Message)) (imageID string, err error)
	// Cache lists what is kept for later builds, and PruneCache removes of it.
	Cache(ctx context.Context) ([]build.CacheRecord, error)
	PruneCache(ctx context.Context, o order.Prune) (build.CachePruneReport, error)
	// ServeGRPC serves BuildKit's API on an upgraded connection until its end.
	ServeGRPC(ctx context.Context, conn net.Conn)
	// ServeSession serves a client's session on an upgraded connection until its
	// end; header is that of its request.
	ServeSession(ctx context.Context, conn net.Conn, header map[string][]string) error
	// Builds lists the records of builds without their steps, Build is one of
	// them, and RemoveBuild removes one; see [api.Build] for how one is named.
	Builds() ([]*api.Build, error)
	// LocateLayers fills in where the instructions stand that made the layers of an
	// image, as far as is known from the record of a build, and returns its ID.
	LocateLayers(imageID string, layers []api.ImageLayer) (build string)
	Build(ref string) (*api.Build, error)
	RemoveBuild(ctx context.Context, ref string) (id string, err error)
	// Steps lists the processes of builds, with all those that have ended.
	Steps(all bool) ([]api.BuildProcess, error)
}

// grpc upgrades to BuildKit's API.
func (s *Server) grpc(r *request) error {
	return s.upgradeToBuilder(r, func(ctx context.Context, conn net.Conn) error {
		s.opts.Builder.ServeGRPC(ctx, conn)
		return nil
	})
}

// session upgrades to the session by which builds get a client's files.
func (s *Server) session(r *request) error {
	return s.upgradeToBuilder(r, func(ctx context.Context, conn net.Conn) error {
		return s.opts.Builder.ServeSession(ctx, conn, r.http.Header)
	})
}

func (s *Server) upgradeToBuilder(r *request, serve func(context.Context, net.Conn) error) error {
	if s.opts.Builder == nil {
		return unavailable("build")(r)
	}
	if proto := r.http.Header.Get("Upgrade"); proto != "h2c" {
		return invalid("protocol %q not supported: want an upgrade to h2c", proto)
	}
	h, ctx, err := s.hijack(r)
	if err != nil {
		return err
	}
	defer h.end()
	h.protocol = "h2c"
	conn, err := h.open(false)
	if err != nil {
		return h.ended(ctx, err)
	}
	stream, ok := conn.(net.Conn)
	if !ok {
		return h.ended(ctx, fmt.Errorf("connection is a %T", conn))
	}
	return h.ended(ctx, serve(ctx, stream))
}

// buildCancel ends nothing: a build ends with the connection of its client.
func (s *Server) buildCancel(r *request) error {
	if r.form.Get("id") == "" {
		return invalid("build ID not provided")
	}
	return r.done(http.StatusOK)
}

// build is the classic build of a context that comes as a tar stream.
func (s *Server) build(r *request) error {
	if s.opts.Builder == nil {
		return unavailable("build")(r)
	}
	o, err := buildOptions(r)
	if err != nil {
		return err
	}
	_ = http.NewResponseController(r.w).EnableFullDuplex() // HTTP/2 always is
	err = r.transfer(func(out jsonStream) error {
		_, err := s.opts.Builder.Classic(r.ctx(), r.http.Body, o, func(m jsonstream.Message) { _ = out.write(m) })
		return failedBuild(r, out, err)
	})
	// net/http wants a body read to its end when the answer has begun before.
	_, _ = io.Copy(io.Discard, r.http.Body)
	return err
}

// failedBuild tells in the stream why a build failed. Clients end with the code.
func failedBuild(r *request, out jsonStream, err error) error {
	failure, ok := errors.AsType[*order.Failure](err)
	if !ok || r.ctx().Err() != nil {
		return err
	}
	return out.write(streamError{
		Detail: &jsonstream.Error{Code: failure.Code, Message: failure.Message}, Error: failure.Message,
		Hint: cmp.Or(problem.Hint(err), problem.ScarceHint(failure.Message)),
	})
}

// refusedBuildFlags are options of the classic build that cannot be honoured,
// by their parameter and the flag of the command line.
var refusedBuildFlags = map[string]string{"squash": "--squash", "isolation": "--isolation", "cgroupparent": "--cgroup-parent"}

func buildOptions(r *request) (order.Options, error) {
	f := r.form
	o := order.Options{
		ID: f.Get("buildid"), Tags: f["t"], Dockerfile: f.Get("dockerfile"), Quiet: r.flag("q"), NoCache: r.flag("nocache"), Pull: r.flag("pull"),
		Remove: r.flagOn("rm"), Target: f.Get("target"), Platform: f.Get("platform"), Network: f.Get("networkmode"),
		CPUSetCPUs: f.Get("cpusetcpus"), CPUSetMems: f.Get("cpusetmems"),
	}
	for key, flag := range refusedBuildFlags {
		if v := f.Get(key); v != "" && v != "0" && v != "false" && v != "default" {
			return o, invalid("build: %s is not supported", flag)
		}
	}
	if v := f.Get("version"); v == "2" {
		return o, problem.WithHint(invalid("build: version 2 of this endpoint is not supported"),
			"use the buildx plugin, which comes by the endpoints grpc and session, or DOCKER_BUILDKIT=0")
	}
	if o.Remote = f.Get("remote"); o.Remote == "client-session" {
		return o, invalid("build: a context by session is not supported here")
	}
	for key, target := range map[string]any{
		"buildargs": &o.BuildArgs, "labels": &o.Labels, "cachefrom": &o.CacheFrom,
	} {
		if text := f.Get(key); text != "" {
			if err := json.Unmarshal([]byte(text), target); err != nil {
				return o, invalid("error reading %s: %w", key, err)
			}
		}
	}
	for key, target := range map[string]*int64{
		"memory": &o.Memory, "memswap": &o.MemorySwap, "cpushares": &o.CPUShares, "cpuperiod": &o.CPUPeriod,
		"cpuquota": &o.CPUQuota, "shmsize": &o.ShmSize,
	} {
		if text := f.Get(key); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return o, invalid("build: %s: %w", key, err)
			}
			*target = n
		}
	}
	for _, list := range f["extrahosts"] {
		for h := range strings.SplitSeq(list, ",") {
			if h != "" {
				o.ExtraHosts = append(o.ExtraHosts, h)
			}
		}
	}
	if text := f.Get("ulimits"); text != "" {
		var limits []*container.Ulimit
		if err := json.Unmarshal([]byte(text), &limits); err != nil {
			return o, invalid("error reading ulimit settings: %w", err)
		}
		for _, l := range limits {
			o.Ulimits = append(o.Ulimits, l.String())
		}
	}
	var err error
	o.Credentials, err = r.allCredentials()
	return o, err
}

// allCredentials reads what a client has for all its registries.
func (r *request) allCredentials() (map[string]engine.RegistryCredentials, error) {
	text := r.http.Header.Get("X-Registry-Config")
	if text == "" {
		return nil, nil
	}
	var configs map[string]mobyregistry.AuthConfig
	err := json.NewDecoder(base64.NewDecoder(base64.URLEncoding, strings.NewReader(text))).Decode(&configs)
	if err != nil {
		return nil, invalid("invalid X-Registry-Config header: not base64url-encoded JSON")
	}
	all := map[string]engine.RegistryCredentials{}
	for server, auth := range configs {
		all[remote.ServerDomain(server)] = credentialsOf(auth)
	}
	return all, nil
}

// buildPrune removes of the build cache what builds may do without.
func (s *Server) buildPrune(r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	if s.opts.Builder == nil {
		return r.json(http.StatusOK, build.CachePruneReport{})
	}
	o := order.Prune{All: r.flag("all"), Filters: f}
	for key, target := range map[string]*int64{
		"keep-storage": &o.Reserved, "reserved-space": &o.Reserved, "max-used-space": &o.MaxUsed, "min-free-space": &o.MinFree,
	} {
		if text := r.form.Get(key); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return invalid("%s is in bytes and expects an integer, got %s", key, text)
			}
			*target = n
		}
	}
	report, err := s.opts.Builder.PruneCache(r.ctx(), o)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, report)
}

// buildCache lists the build cache, for system df.
func (s *Server) buildCache(ctx context.Context) ([]build.CacheRecord, error) {
	if s.opts.Builder == nil {
		return nil, nil
	}
	return s.opts.Builder.Cache(ctx)
}

package build

import (
	"context"
	"errors"
	"fmt"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/moby/api/types/events"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// statusGrace bounds how long the record of a build waits for the last of its
// steps to be told.
const (
	statusGrace = 5 * time.Second
	// quietGrace is statusGrace if nothing was told at all.
	quietGrace = 100 * time.Millisecond
)

// solve is where all builds go through, whichever door they have come by: it has
// them recorded.
func (b *Builder) solve(ctx context.Context, door string, req *controlapi.SolveRequest) (*controlapi.SolveResponse, error) {
	if req.Internal {
		return b.controller.Solve(ctx, req)
	}
	if err := b.flushes.Flush(); err != nil { // the disk has failed: nothing that is built would stay
		return nil, err
	}
	b.trim()
	r, err := b.recordings.begin(ctx, b.history, b.log, door, req)
	if err != nil {
		return nil, err
	}
	defer b.recordings.remove(r)
	r.stateOf = b.states.ofVertex
	b.tellBuild(ctx, events.ActionStart, r.snapshot())
	told, stop := b.follow(ctx, r)
	defer stop()
	// What a build notes on its way is for its own use; only at its end it has to be
	// on disk.
	flushed := b.flushes.Begin()
	if door == doorClassic {
		// Not in BuildKit's own history, where nobody looks for it. For that it would
		// describe the layers of each step, each time from the lowest: of 500 steps that
		// takes longer than to find all of them in the cache.
		req.Internal = true
	}
	response, err := b.controller.Solve(context.WithValue(ctx, recordingKey{}, r), req)
	err = reworded(err)
	if e := flushed(); e != nil {
		err = errors.Join(err, fmt.Errorf("flush databases: %w", e))
	}
	b.hearOut(ctx, r, told)
	b.tellBuild(ctx, events.ActionDie, r.end(ctx, response, err))
	return response, err
}

// follow records what BuildKit tells of a build's steps. told is closed when all
// was told.
func (b *Builder) follow(ctx context.Context, r *recording) (told <-chan struct{}, stop func()) {
	ctx, stop = context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The error is that of a build which was refused before it began.
		_ = b.controller.Status(&controlapi.StatusRequest{Ref: r.build.ID}, &statusStream{ctx: ctx, status: r.status})
	}()
	return done, stop
}

// hearOut waits for the last of what is told of a build that has ended. A build
// that was refused, or was over before anybody listened, has told nothing: then
// BuildKit's own history has it, if there is anything.
func (b *Builder) hearOut(ctx context.Context, r *recording, told <-chan struct{}) {
	grace := statusGrace
	if !r.heard() {
		grace = quietGrace
	}
	select {
	case <-told:
	case <-time.After(grace):
	}
	if r.heard() {
		return
	}
	events := &controlapi.BuildHistoryRequest{Ref: r.build.ID, EarlyExit: true}
	known := false
	stream := &historyStream{statusStream: statusStream{ctx: ctx}, event: func(*controlapi.BuildHistoryEvent) { known = true }}
	if err := b.controller.ListenBuildHistory(events, stream); err != nil || !known {
		return
	}
	again, stop := b.follow(ctx, r)
	defer stop()
	select {
	case <-again:
	case <-time.After(statusGrace):
	}
}

// statusStream is the client's end of a stream, in this process.
type statusStream struct {
	grpc.ServerStream
	ctx    context.Context //nolint:containedctx // the interface has it so
	status func(*client.SolveStatus)
}

func (s *statusStream) Context() context.Context                { return s.ctx }
func (s *statusStream) SendHeader(metadata.MD) error            { return nil }
func (s *statusStream) SetHeader(metadata.MD) error             { return nil }
func (s *statusStream) Send(r *controlapi.StatusResponse) error { return s.SendMsg(r) }

// SendMsg takes one message. The logs in it are kept elsewhere.
func (s *statusStream) SendMsg(m any) error {
	if r, ok := m.(*controlapi.StatusResponse); ok && len(r.Vertexes) > 0 {
		s.status(client.NewSolveStatus(&controlapi.StatusResponse{Vertexes: r.Vertexes}))
	}
	return nil
}

// historyStream takes events of BuildKit's history.
type historyStream struct {
	statusStream
	event func(*controlapi.BuildHistoryEvent)
}

func (s *historyStream) Send(e *controlapi.BuildHistoryEvent) error {
	s.event(e)
	return nil
}

// interceptSolve makes builds that come by BuildKit's API go through solve, and
// rewords errors of all requests: buildx runs frontends by requests of their own.
func (b *Builder) interceptSolve(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if solve, ok := req.(*controlapi.SolveRequest); ok {
		return b.solve(ctx, doorBuildKit, solve)
	}
	response, err := handler(ctx, req)
	return response, reworded(err)
}

// recordedFrontend records the steps that a frontend asks for.
type recordedFrontend struct {
	frontend.Frontend
	recordings *recordings
}

// Solve builds; see [frontend.Frontend].
func (f recordedFrontend) Solve(ctx context.Context, llb frontend.FrontendLLBBridge, exec executor.Executor, opt map[string]string, inputs map[string]*pb.Definition, sid string, sm *session.Manager) (*frontend.Result, error) {
	return f.Frontend.Solve(ctx, planningBridge{FrontendLLBBridge: llb, recordings: f.recordings}, exec, opt, inputs, sid, sm)
}

// planningBridge records the steps of what a frontend has solved.
type planningBridge struct {
	frontend.FrontendLLBBridge
	recordings *recordings
}

func (b planningBridge) Solve(ctx context.Context, req frontend.SolveRequest, sid string) (*frontend.Result, error) {
	if req.Definition != nil {
		for _, r := range b.recordings.asking(ctx, sid) {
			r.define(req.Definition)
		}
	}
	return b.FrontendLLBBridge.Solve(ctx, req, sid)
}

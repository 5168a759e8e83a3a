package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/buildid"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/urlutil"
	"github.com/opencontainers/go-digest"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/build/history"
	"github.com/portholehq/porthole/internal/build/step"
	"github.com/portholehq/porthole/internal/event"
)

// Doors by which a build is asked for.
const (
	doorClassic  = "classic"
	doorBuildKit = "buildkit"
	doorDebug    = "debug" // as classic, with a debugger
)

// saveInterval is how long a change of a build under way may wait to be saved.
const saveInterval = 200 * time.Millisecond

// recordings are the builds under way.
type recordings struct {
	mu   sync.Mutex
	list map[string]*recording
}

// recording is one build under way, as it goes into the history.
type recording struct {
	store   *history.Store
	log     *slog.Logger
	session string
	mask    masker
	// hash makes what values are compared by; nil: they are not.
	hash func(...string) string
	// stateOf finds the state that a vertex has led to; may be nil.
	stateOf func(digest.Digest) string

	mu    sync.Mutex
	build api.Build
	told  bool // BuildKit has told of a step
	// known finds steps by the digests that BuildKit may call them by. It holds
	// indexes of the steps.
	known map[digest.Digest]int
	// defined are the operations that are known, as they were sent.
	defined map[string]struct{}
	// numbered is how many steps have a number.
	numbered int
	// inputs are what vertices are made of, and files what the client has sent, by
	// the name of the context: to tell later why steps were done.
	inputs map[digest.Digest]*vertexInputs
	files  map[string]*history.Files

	putting sync.Mutex // held while the record is written, so that the newest stays
	failed  bool       // to write it; guarded by putting

	changed chan struct{} // has room for one
	saving  sync.WaitGroup
	stop    chan struct{}
}

// begin makes the record of a build that is asked for. The caller ends it. A client
// gives its build an ID, which no other may have; errdefs.ErrAlreadyExists: one has.
func (rs *recordings) begin(ctx context.Context, store *history.Store, log *slog.Logger, door string, req *controlapi.SolveRequest) (*recording, error) {
	r := &recording{
		store: store, log: log, session: req.Session, known: map[digest.Digest]int{}, mask: newMasker(req.FrontendAttrs),
		changed: make(chan struct{}, 1), stop: make(chan struct{}),
		build: api.Build{ID: req.Ref, Door: door, State: api.BuildRunning, CreatedAt: time.Now().UTC()},
	}
	if o := event.OriginOf(ctx); o != nil {
		// What a program was called with may be secret.
		by := api.Actor(*o)
		by.Command = by.Command[:min(1, len(by.Command))]
		r.build.By = &by
	}
	var err error
	if r.hash, err = store.Hasher(); err != nil {
		log.Warn("inputs of builds are not recorded", "err", err)
	}
	r.ask(req)
	if err := rs.enter(r); err != nil {
		return nil, err
	}
	if store.Has(req.Ref) {
		rs.remove(r)
		return nil, idExists(req.Ref)
	}
	r.saving.Go(r.save)
	r.change()
	return r, nil
}

// enter makes a build one of those under way, unless one of its ID is.
func (rs *recordings) enter(r *recording) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.list == nil {
		rs.list = map[string]*recording{}
	}
	id := r.build.ID
	if _, ok := rs.list[id]; ok {
		return idExists(id)
	}
	rs.list[id] = r
	return nil
}

// idExists refuses the ID that a client has given a build, in BuildKit's words.
func idExists(id string) error {
	return errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("job ID %s exists", id))
}

// remove forgets a build that has ended, once its record is saved.
func (rs *recordings) remove(r *recording) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.list[r.build.ID] == r {
		delete(rs.list, r.build.ID)
	}
}

// whenIdle calls f if no build is under way. None begins until it returns.
func (rs *recordings) whenIdle(f func()) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if len(rs.list) == 0 {
		f()
	}
}

// all returns the builds under way.
func (rs *recordings) all() []*recording {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return slices.Collect(maps.Values(rs.list))
}

// recordingKey is the key of the recording of the build that a context belongs to.
type recordingKey struct{}

// asking returns the builds that ask for something: the one that ctx belongs to, or
// else those of a client's session, which several builds may share.
func (rs *recordings) asking(ctx context.Context, session string) []*recording {
	if r, ok := ctx.Value(recordingKey{}).(*recording); ok {
		return []*recording{r}
	}
	// Buildx runs its frontend itself, and asks by requests of their own.
	if id := buildid.FromIncomingContext(ctx); id != "" {
		rs.mu.Lock()
		defer rs.mu.Unlock()
		if r := rs.list[id]; r != nil {
			return []*recording{r}
		}
		return nil
	}
	return rs.ofSession(session)
}

// ofSession returns those that a client's session belongs to.
func (rs *recordings) ofSession(id string) []*recording {
	var list []*recording
	for _, r := range rs.all() {
		if id != "" && r.session == id {
			list = append(list, r)
		}
	}
	return list
}

// ask takes over what a build is asked for.
func (r *recording) ask(req *controlapi.SolveRequest) {
	b := &r.build
	for key, value := range req.FrontendAttrs {
		switch key {
		case "filename":
			b.Dockerfile = value
		case "target":
			b.Target = value
		case "context":
			b.Context = urlutil.RedactCredentials(value)
		case "platform":
			b.Platforms = strings.Split(value, ",")
		}
		if name, ok := strings.CutPrefix(key, buildArgPrefix); ok {
			if b.Args == nil {
				b.Args = map[string]string{}
			}
			b.Args[name] = argument(name, value)
		}
	}
	for _, e := range req.Exporters {
		for name := range strings.SplitSeq(e.Attrs["name"], ",") {
			if name != "" {
				b.Tags = append(b.Tags, name)
			}
		}
	}
	if req.Definition != nil {
		r.define(req.Definition)
	}
}

// change has the record saved soon.
func (r *recording) change() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// save writes the record as it changes.
func (r *recording) save() {
	for {
		select {
		case <-r.changed:
		case <-r.stop:
			return
		}
		r.put()
		select {
		case <-time.After(saveInterval):
		case <-r.stop:
			return
		}
	}
}

// put writes the record as it is now.
func (r *recording) put() {
	r.putting.Lock()
	defer r.putting.Unlock()
	if err := r.store.Put(r.snapshot()); err != nil && !r.failed {
		r.failed = true
		r.log.Warn("build is not recorded", "build", r.build.ID, "err", err)
	}
}

// snapshot is a copy of the record as it is now.
func (r *recording) snapshot() *api.Build {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.copyLocked()
}

func (r *recording) copyLocked() *api.Build {
	b := r.build
	b.Steps = slices.Clone(b.Steps)
	b.Total, b.Cached = 0, 0
	for _, s := range b.Steps {
		if s.Number > 0 {
			b.Total++
			if s.State == api.StepCached {
				b.Cached++
			}
		}
	}
	return &b
}

// status takes over what BuildKit tells of the steps.
func (r *recording) status(s *client.SolveStatus) {
	if len(s.Vertexes) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = true
	for _, v := range s.Vertexes {
		r.vertex(v)
	}
	r.change()
}

// heard tells whether BuildKit has told of any step.
func (r *recording) heard() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told
}

func (r *recording) vertex(v *client.Vertex) {
	if r.known == nil {
		return // the record is complete
	}
	told := *v
	v = &told
	v.Name, v.Error = r.mask.text(v.Name), r.mask.text(v.Error)
	i, ok := r.known[v.Digest]
	if !ok {
		// BuildKit changes the digest of an operation that it completes.
		i = slices.IndexFunc(r.build.Steps, func(s api.BuildStep) bool { return s.Name == v.Name && s.State == api.StepWaiting && s.Number > 0 })
		if i < 0 {
			i = len(r.build.Steps)
			r.build.Steps = append(r.build.Steps, api.BuildStep{Vertex: v.Digest.String(), Name: v.Name, State: api.StepWaiting})
		}
		r.known[v.Digest] = i
	}
	advance(&r.build.Steps[i], v)
}

// advance brings a step to where its vertex is. What was done once is not found
// in the cache later: BuildKit asks for a vertex as often as it is needed.
func advance(s *api.BuildStep, v *client.Vertex) {
	if v.Started == nil || s.State == api.BuildFailed {
		return
	}
	switch {
	case v.Completed == nil:
		if s.State == api.StepWaiting {
			s.State, s.StartedAt = api.BuildRunning, v.Started.UTC()
		}
		return
	case v.Error != "":
		s.State, s.Error = api.BuildFailed, v.Error
		if strings.HasSuffix(v.Error, context.Canceled.Error()) {
			s.State = api.BuildCanceled
		}
	case s.State == api.BuildDone:
		return
	case v.Cached && s.Process == "":
		s.State = api.StepCached
	default:
		s.State = api.BuildDone
	}
	if s.StartedAt.IsZero() {
		s.StartedAt = v.Started.UTC()
	}
	s.EndedAt = v.Completed.UTC()
}

// of calls fn with the step of a vertex in each build that it is part of, and
// returns those.
func (rs *recordings) of(vertex digest.Digest, fn func(*api.BuildStep)) (of []*recording) {
	if vertex == "" {
		return nil
	}
	for _, r := range rs.all() {
		r.mu.Lock()
		if i, ok := r.known[vertex]; ok {
			fn(&r.build.Steps[i])
			r.change()
			of = append(of, r)
		}
		r.mu.Unlock()
	}
	return of
}

// masked is a text about a vertex as it may be kept: without the secrets of the
// builds that it is part of.
func (rs *recordings) masked(vertex digest.Digest, text string) string {
	for _, r := range rs.of(vertex, func(*api.BuildStep) {}) {
		text = r.mask.text(text)
	}
	return text
}

// started notes the process of a step that is about to run. It is written before
// the process has printed anything: its output is found by the record.
func (rs *recordings) started(vertex digest.Digest, s *step.Step) {
	of := rs.of(vertex, func(b *api.BuildStep) {
		b.ID, b.Process, b.Command, b.MemoryLimit = s.ID, s.ID, s.Process.Args, s.Resources.Memory
		b.Ended, b.ExitCode, b.OOMKilled, b.Reason = false, 0, false, ""
	})
	for _, r := range of {
		r.put()
	}
}

// ended notes how the process of a step has ended.
func (rs *recordings) ended(vertex digest.Digest, exit step.Exit) {
	rs.of(vertex, func(b *api.BuildStep) {
		b.Ended, b.ExitCode, b.OOMKilled, b.Reason = true, exit.Code, exit.OOMKilled, exit.Reason
	})
}

// news tells whether anything in a definition is not known yet. A build that goes
// one instruction at a time defines all that it has defined before once more with
// each.
func (r *recording) news(def *pb.Definition) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.defined == nil {
		r.defined = map[string]struct{}{}
	}
	known := len(r.defined)
	for i, raw := range def.Def {
		// The last one stands for the result.
		if _, ok := r.defined[string(raw)]; !ok && i < len(def.Def)-1 {
			r.defined[string(raw)] = struct{}{}
		}
	}
	return len(r.defined) > known
}

// define adds the steps of a definition.
func (r *recording) define(def *pb.Definition) {
	if !r.news(def) {
		return
	}
	planned := planOf(def)
	var inputs map[digest.Digest]*vertexInputs
	if r.hash != nil {
		inputs = inputsOf(def, r.hash)
		for _, v := range inputs {
			v.Source = r.mask.text(v.Source)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		return // the record is complete
	}
	if r.inputs == nil {
		r.inputs = map[digest.Digest]*vertexInputs{}
	}
	maps.Copy(r.inputs, inputs)
	if r.build.Text == "" {
		r.build.Text = planned.text
	}
	if r.build.Dockerfile == "" {
		r.build.Dockerfile = planned.file
	}
	for _, s := range planned.steps {
		s.Name = r.mask.text(s.Name)
		d := digest.Digest(s.Vertex)
		if _, ok := r.known[d]; ok {
			continue
		}
		i := slices.IndexFunc(r.build.Steps, func(e api.BuildStep) bool { return e.Vertex == "" && e.First == s.First })
		if i < 0 {
			if i = r.sameStep(s, planned.steps); i >= 0 {
				r.known[d], r.known[withoutCache(d)] = i, i
				continue
			}
			i = len(r.build.Steps)
			r.build.Steps = append(r.build.Steps, api.BuildStep{})
			if !strings.HasPrefix(s.Name, "[internal]") {
				r.numbered++
				r.build.Steps[i].Number = r.numbered
			}
		}
		s.Number = r.build.Steps[i].Number
		r.build.Steps[i] = s
		r.known[d], r.known[withoutCache(d)] = i, i
	}
	r.change()
}

// sameStep finds the step that a vertex of another definition stands for already;
// less than 0: there is none. A classic build defines an instruction once more with
// each that follows, and what it takes of the client's files is then another vertex.
func (r *recording) sameStep(s api.BuildStep, planned []api.BuildStep) int {
	if r.build.Door != doorClassic || s.First == 0 {
		return -1
	}
	here := func(i int) bool {
		return slices.ContainsFunc(planned, func(p api.BuildStep) bool {
			k, ok := r.known[digest.Digest(p.Vertex)]
			return ok && k == i
		})
	}
	for i, e := range r.build.Steps {
		if e.First == s.First && plainName(e.Name) == plainName(s.Name) && !here(i) {
			return i
		}
	}
	return -1
}

// plainName is the name of a step without its number among the others: that of
// "[stage-1 2/3] RUN make" is "RUN make".
func plainName(name string) string {
	if _, plain, ok := strings.Cut(name, "] "); ok && strings.HasPrefix(name, "[") {
		return plain
	}
	return name
}

// expect adds the instructions that a build will go through one at a time, before
// anything of them is defined.
func (r *recording) expect(file string, list []instruction) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, in := range list {
		if !in.works && !in.from {
			continue
		}
		r.numbered++
		r.build.Steps = append(r.build.Steps, api.BuildStep{
			Number: r.numbered, Name: in.head, File: file, First: in.start, Last: in.end, Instruction: in.head,
			Runs: in.command != "", State: api.StepWaiting,
		})
	}
	r.change()
}

// end completes the record, saves it and returns it.
func (r *recording) end(ctx context.Context, response *controlapi.SolveResponse, err error) *api.Build {
	close(r.stop)
	r.saving.Wait()
	r.mu.Lock()
	b := &r.build
	b.EndedAt = time.Now().UTC()
	switch {
	case err == nil:
		b.State = api.BuildDone
		if b.Image = response.GetExporterResponse()["containerimage.config.digest"]; b.Image == "" {
			b.Image = response.GetExporterResponse()["containerimage.digest"]
		}
	case ctx.Err() != nil, errors.Is(err, context.Canceled):
		b.State, b.Error = api.BuildCanceled, "canceled"
	default:
		b.State, b.Error = api.BuildFailed, r.mask.text(describeError(err))
		var exit *gatewayapi.ExitError
		if errors.As(err, &exit) && exit.ExitCode != gatewayapi.UnknownExitStatus {
			b.ExitCode = int(exit.ExitCode)
		}
	}
	for i := range b.Steps {
		switch s := &b.Steps[i]; s.State {
		case api.StepWaiting:
			s.State = api.StepNotRun
			if err == nil && s.Vertex == "" {
				s.State = api.BuildDone // the same as a step before it, such as another FROM of a base
			}
		case api.BuildRunning:
			s.EndedAt, s.State = b.EndedAt, api.BuildCanceled
			if err == nil {
				s.State = api.BuildDone
			}
		}
	}
	for i := range b.Steps {
		if s := &b.Steps[i]; s.Process == "" && s.Vertex != "" && r.stateOf != nil {
			s.ID = r.stateOf(digest.Digest(s.Vertex))
		}
	}
	inputs := r.inputsLocked()
	sortSteps(b.Steps)
	record := r.copyLocked()
	r.known, r.inputs, r.files, r.defined = nil, nil, nil, nil
	r.mu.Unlock()
	r.explain(record, inputs)
	r.mu.Lock()
	r.build = *record
	r.mu.Unlock()
	if err := r.store.Put(record); err != nil {
		r.log.Error("build is not recorded", "build", record.ID, "err", err)
	}
	return record
}

// sortSteps puts those of BuildKit's own behind the others.
func sortSteps(steps []api.BuildStep) {
	slices.SortStableFunc(steps, func(a, b api.BuildStep) int {
		switch {
		case a.Number == 0 && b.Number == 0:
			return a.StartedAt.Compare(b.StartedAt)
		case a.Number == 0:
			return 1
		case b.Number == 0:
			return -1
		}
		return a.Number - b.Number
	})
}

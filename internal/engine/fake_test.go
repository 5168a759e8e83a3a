package engine

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/network"
	"github.com/portholehq/porthole/internal/record/death"
	"github.com/portholehq/porthole/internal/record/sample"
	"github.com/portholehq/porthole/internal/record/sampler"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/runtime/spec"
	"github.com/portholehq/porthole/internal/volume"
)

// fakeRuntime runs containers that only exist in memory. What a container's program does is a function of its name.
type fakeRuntime struct {
	mu       sync.Mutex
	tasks    map[string]*fakeTask
	programs map[string]func(t *fakeTask) // by the program's path; none: it lives until it is killed
	failing  map[string]error             // by the program's path: its start fails
	exits    map[string]Exit              // recorded by shims, by state directory
	begun    map[string]int               // the run that has begun and not ended, by state directory
	mute     map[string]bool              // containers whose shims do not answer
	created  int
	held     map[string]chan struct{} // by the program's path: its start waits until that is closed
	hanging  string                   // a container whose shim answers when hang is called again
	hangs    chan struct{}            // closed then
}

func newFakeRuntime() *fakeRuntime {
	return &fakeRuntime{tasks: map[string]*fakeTask{}, programs: map[string]func(*fakeTask){}, failing: map[string]error{}, exits: map[string]Exit{}, begun: map[string]int{}, held: map[string]chan struct{}{}, mute: map[string]bool{}}
}

func (r *fakeRuntime) Create(_ context.Context, b Bundle) (Task, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &fakeTask{r: r, b: b, done: make(chan struct{}), oom: make(chan struct{}, 1), input: make(chan byte, 100)}
	r.tasks[b.ID] = t
	r.created++
	return t, nil
}

// hold makes the next starts of a program wait, until the returned function is called.
func (r *fakeRuntime) hold(path string) (letGo func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := make(chan struct{})
	r.held[path] = held
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.held, path)
		close(held)
	}
}

// hang makes the shim of one container hang, and none of the others.
func (r *fakeRuntime) hang(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hangs != nil {
		close(r.hangs)
	}
	r.hanging, r.hangs = id, make(chan struct{})
}

func (r *fakeRuntime) Load(ctx context.Context, id, _, _ string) (Task, error) {
	r.mu.Lock()
	if hangs := r.hangs; r.hanging == id {
		r.mu.Unlock()
		select {
		case <-hangs:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	if r.mute[id] {
		return nil, errors.New("the shim does not answer")
	}
	if t := r.tasks[id]; t != nil {
		return t, nil
	}
	return nil, errdefs.ErrNotFound
}

func (r *fakeRuntime) Alive(id string) bool { return r.task(id) != nil }

func (r *fakeRuntime) IDs(string) (runtime.IDRange, error) {
	return runtime.IDRange{}, errdefs.ErrNotFound
}

func (r *fakeRuntime) Discard(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.tasks, id)
	return nil
}

func (r *fakeRuntime) setMute(id string, mute bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute[id] = mute
}

func (r *fakeRuntime) ReadExit(dir string) (Exit, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x, ok := r.exits[dir]; ok {
		return x, nil
	}
	return Exit{}, errdefs.ErrNotFound
}

func (r *fakeRuntime) ReadBegun(dir string) (run int, at time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if run, ok := r.begun[dir]; ok {
		return run, time.Now(), nil
	}
	return 0, time.Time{}, errdefs.ErrNotFound
}

func (r *fakeRuntime) task(id string) *fakeTask {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tasks[id]
}

func (r *fakeRuntime) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.tasks)
}

type fakeTask struct {
	r    *fakeRuntime
	b    Bundle
	done chan struct{}
	oom  chan struct{}

	mu      sync.Mutex
	limits  []*specs.LinuxResources
	started time.Time
	exit    Exit
	ended   bool
	ignore  bool // no signal but SIGKILL has an effect
	frozen  bool
	clients []*os.File
	signals []syscall.Signal
	input   chan byte
	execs   []*fakeProcess
	cleared int // calls of EndTools
}

// errHangs as a failing start is one that does not come to an end.
var errHangs = errors.New("hangs")

func (t *fakeTask) Start(ctx context.Context) error {
	path := t.b.Spec.Process.Args[0]
	t.r.mu.Lock()
	held := t.r.held[path]
	t.r.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := t.r.failing[path]; err != nil {
		if errors.Is(err, errHangs) {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return err
	}
	t.mu.Lock()
	t.started = time.Now()
	t.mu.Unlock()
	if program := t.r.programs[path]; program != nil {
		go program(t)
	}
	return nil
}

func (t *fakeTask) end(x Exit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	x.At = time.Now()
	t.exit, t.ended = x, true
	for _, p := range t.execs {
		p.end(137)
	}
	for _, c := range t.clients {
		c.Close()
	}
	close(t.done)
}

func (t *fakeTask) Pid() int             { return os.Getpid() }
func (t *fakeTask) StartedAt() time.Time { t.mu.Lock(); defer t.mu.Unlock(); return t.started }
func (t *fakeTask) Warnings() []string   { return nil }
func (t *fakeTask) NetNS() (*os.File, error) {
	return os.Open("/proc/self/ns/net")
}

func (t *fakeTask) Attach(_ context.Context, o runtime.AttachOptions) (*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		theirs.Close()
		return ours, nil
	}
	t.clients = append(t.clients, theirs)
	if o.Stdin {
		go func() {
			buf := make([]byte, 100)
			for {
				n, err := theirs.Read(buf)
				for _, b := range buf[:n] {
					t.input <- b
				}
				if err != nil {
					return
				}
			}
		}()
	}
	return ours, nil
}

func (t *fakeTask) FeedLog(context.Context) (*os.File, error) {
	return nil, errors.New("a fake feeds nobody")
}

func (t *fakeTask) Signal(_ context.Context, sig syscall.Signal) error {
	t.mu.Lock()
	ended, ignore := t.ended, t.ignore
	t.signals = append(t.signals, sig)
	t.mu.Unlock()
	if ended {
		return errdefs.ErrNotFound
	}
	if sig == syscall.SIGKILL || (!ignore && sig == syscall.SIGTERM) {
		go t.end(Exit{Code: 128 + int(sig), Signal: sig, Observed: true})
	}
	return nil
}

func (t *fakeTask) setFrozen(b bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frozen = b
	return nil
}

func (t *fakeTask) Frozen() (bool, error)                        { t.mu.Lock(); defer t.mu.Unlock(); return t.frozen, nil }
func (t *fakeTask) Freeze(context.Context) error                 { return t.setFrozen(true) }
func (t *fakeTask) Thaw(context.Context) error                   { return t.setFrozen(false) }
func (t *fakeTask) Resize(context.Context, uint16, uint16) error { return nil }
func (t *fakeTask) Done() <-chan struct{}                        { return t.done }
func (t *fakeTask) OOM() <-chan struct{}                         { return t.oom }
func (t *fakeTask) Exit() Exit                                   { t.mu.Lock(); defer t.mu.Unlock(); return t.exit }
func (t *fakeTask) Pids() ([]int, error)                         { return []int{os.Getpid()}, nil }
func (t *fakeTask) Stats() (*container.StatsResponse, error) {
	return &container.StatsResponse{Read: time.Now()}, nil
}

func (t *fakeTask) Source(*os.File) (sampler.Source, error) { return &fakeSource{}, nil }

// Inherited are the processes that have not ended, and those that have.
func (t *fakeTask) Inherited() []inheritedExec {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []inheritedExec
	for _, p := range t.execs {
		in := inheritedExec{id: p.o.ID, args: p.o.Process.Args, note: p.o.Note, proc: p}
		select {
		case <-p.done:
			in.proc, in.exit = nil, p.Exit()
		default:
		}
		list = append(list, in)
	}
	return list
}

// fakeSource counts one millisecond of CPU time more with each reading.
type fakeSource struct{ used uint64 }

func (s *fakeSource) Read(r *sampler.Reading, _ *sampler.Scratch) error {
	s.used += uint64(time.Millisecond)
	r.Known, r.CPUUsage = sample.KnownCPU, s.used
	return nil
}

func (s *fakeSource) Close() error { return nil }

func (t *fakeTask) Kill(context.Context) error {
	t.end(Exit{Code: 137, Signal: syscall.SIGKILL})
	return nil
}

func (t *fakeTask) SetLimits(r *specs.LinuxResources) (func() error, []string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits = append(t.limits, r)
	return func() error { t.mu.Lock(); defer t.mu.Unlock(); t.limits = append(t.limits, nil); return nil }, nil, nil
}

func (t *fakeTask) Delete(context.Context) error {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	if t.r.tasks[t.b.ID] == t {
		delete(t.r.tasks, t.b.ID)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.clients {
		c.Close()
	}
	return nil
}

func (t *fakeTask) Exec(_ context.Context, o runtime.ExecOptions) (Process, error) {
	p := &fakeProcess{t: t, o: o, done: make(chan struct{})}
	dup := func(f *os.File) *os.File {
		if f == nil {
			return nil
		}
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		return os.NewFile(uintptr(fd), f.Name())
	}
	p.stdin, p.stdout, p.stderr = dup(o.Stdin), dup(o.Stdout), dup(o.Stderr)
	return p, nil
}

// fakeProcess is an exec: "echo WORDS" prints, "cat" copies, "exit N" ends, "hold" leaves its output open in a grandchild.
type fakeProcess struct {
	t                     *fakeTask
	o                     runtime.ExecOptions
	stdin, stdout, stderr *os.File
	done                  chan struct{}
	once                  sync.Once
	code                  int
}

func (p *fakeProcess) Start(context.Context) error {
	args := p.o.Process.Args
	if err := p.t.r.failing[args[0]]; err != nil {
		p.closeAll()
		return err
	}
	p.t.mu.Lock()
	p.t.execs = append(p.t.execs, p)
	p.t.mu.Unlock()
	switch args[0] {
	case "echo":
		go func() { _, _ = io.WriteString(p.stdout, args[1]+"\n"); p.closeAll(); p.end(0) }()
	case "cat":
		go func() { _, _ = io.Copy(p.stdout, p.stdin); p.closeAll(); p.end(0) }()
	case "exit":
		go func() { p.closeAll(); p.end(int(args[1][0] - '0')) }()
	case "hold":
		go func() { _, _ = io.WriteString(p.stdout, "held\n"); p.end(0) }()
	}
	return nil
}

func (p *fakeProcess) closeAll() {
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		f.Close()
	}
}

func (p *fakeProcess) end(code int)                                 { p.once.Do(func() { p.code = code; close(p.done) }) }
func (p *fakeProcess) Pid() int                                     { return 1 }
func (p *fakeProcess) PTY() *os.File                                { return nil }
func (p *fakeProcess) Done() <-chan struct{}                        { return p.done }
func (p *fakeProcess) Exit() Exit                                   { return Exit{Code: p.code, At: time.Now()} }
func (p *fakeProcess) Resize(context.Context, uint16, uint16) error { return nil }
func (p *fakeProcess) Signal(_ context.Context, s syscall.Signal) error {
	p.end(128 + int(s))
	return nil
}

// fakeImages has one image, busybox, whose layer is a directory.
type fakeImages struct {
	*image.Store // nil: the verbs about images are not for this fake
	dir          string
	mu           sync.Mutex
	root         map[string]bool
	bare         bool // the image declares no volume
	fail         error
	failRemoval  atomic.Bool // of root filesystems
}

func (f *fakeImages) Resolve(_ context.Context, ref string) (image.Image, error) {
	volumes := map[string]struct{}{"/data": {}}
	if f.bare {
		volumes = nil
	}
	if ref != "busybox" && ref != "busybox:latest" {
		return image.Image{}, errdefs.ErrNotFound.WithMessage("No such image: " + ref)
	}
	return image.Image{ID: "sha256:b0", Name: "busybox:latest", Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Config: dockerspec.DockerOCIImage{
		Config: dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
			Cmd: []string{"sh"}, Env: []string{"PATH=/bin", "A=image"}, Labels: map[string]string{"from": "image"},
			Volumes: volumes, WorkingDir: "/w",
		}},
	}}, nil
}

func (f *fakeImages) ResolvePlatform(ctx context.Context, ref string, _ ocispec.Platform) (image.Image, error) {
	return f.Resolve(ctx, ref)
}
func (f *fakeImages) PlatformWarning(image.Image) string { return "" }
func (f *fakeImages) CreateRootFS(_ context.Context, id string, _ image.Image, _ ...image.Image) (image.Layers, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return image.Layers{}, f.fail
	}
	f.root[id] = true
	return f.layers(), nil
}

func (f *fakeImages) layers() image.Layers {
	return image.Layers{Base: f.dir, Lower: []string{filepath.Join(f.dir, "layer")}, Upper: filepath.Join(f.dir, "upper"), Work: filepath.Join(f.dir, "work")}
}

func (f *fakeImages) RootFS(context.Context, string) (image.Layers, error) { return f.layers(), nil }

func (f *fakeImages) MountedImage(context.Context, string, string) (image.Layers, error) {
	return f.layers(), nil
}

func (f *fakeImages) RemoveRootFS(_ context.Context, id string) error {
	if f.failRemoval.Load() {
		return unix.EBUSY
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.root, id)
	return nil
}

func (f *fakeImages) RootFSDir(string) string                               { return filepath.Join(f.dir, "upper") }
func (f *fakeImages) RootFSBaseSize(context.Context, string) (int64, error) { return 1, nil }

type fakeNetworks struct {
	*network.Manager // nil: listing is not for this fake
	mu               sync.Mutex
	attached         map[string]bool
	fail             error
	own              map[string]bool // networks of users, by name
	also             map[string]bool // those of them that containers are on
	left             []string        // networks that Leave was called for
	served           []network.SandboxSpec
}

func (f *fakeNetworks) Attach(_ context.Context, a network.AttachSpec) (network.Endpoint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return network.Endpoint{}, f.fail
	}
	f.attached[a.ContainerID] = true
	if f.own[a.Network] {
		f.also[a.Network] = true
		return fakeEndpoint(a.Network), nil
	}
	return network.Endpoint{
		EndpointID: "e1", NetworkID: "n1", Network: "bridge", Interface: "eth0", IPv4: netip.MustParsePrefix("172.20.0.2/16"),
		Gateway: netip.MustParseAddr("172.20.0.1"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1},
	}, nil
}

func (f *fakeNetworks) Detach(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.attached, id)
	return nil
}
func (f *fakeNetworks) Reconcile(context.Context, map[string]bool) error { return nil }
func (f *fakeNetworks) Endpoints(id string) []network.Endpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.attached[id] {
		return nil
	}
	eps := []network.Endpoint{{NetworkID: "n1", Network: "bridge", IPv4: netip.MustParsePrefix("172.20.0.2/16")}}
	for name := range f.also {
		eps = append(eps, fakeEndpoint(name))
	}
	return eps
}

func fakeEndpoint(name string) network.Endpoint {
	return network.Endpoint{NetworkID: name, Network: name, IPv4: netip.MustParsePrefix("172.21.0.2/16")}
}

func (f *fakeNetworks) Leave(_ context.Context, _, name string, _ *os.File) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.also[name] {
		return errdefs.ErrNotFound.WithMessage("not connected to network " + name)
	}
	delete(f.also, name)
	f.left = append(f.left, name)
	return nil
}

func (f *fakeNetworks) Serve(_ context.Context, s network.SandboxSpec) ([]network.Published, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.served = append(f.served, s)
	return nil, nil
}
func (f *fakeNetworks) Published(string) []network.Published { return nil }
func (f *fakeNetworks) Resolve(ref string) (network.Info, error) {
	info := network.Info{ID: ref, Name: ref, Driver: ref}
	if !info.Predefined() && !f.own[ref] {
		return info, errdefs.ErrNotFound.WithMessage("network " + ref + " not found")
	}
	return info, nil
}

func (f *fakeImages) RootFSList(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.root)), nil
}

func (f *fakeNetworks) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.attached)
}

type noDevices struct{}

func (noDevices) Devices(string) ([]specs.LinuxDevice, error)    { return nil, errors.New("none") }
func (noDevices) AllDevices() ([]specs.LinuxDevice, error)       { return nil, nil }
func (noDevices) Propagation(string) (string, bool, bool, error) { return "/", true, false, nil }

// world is an engine on fakes.
type world struct {
	*Engine
	t           testing.TB
	dir         string
	runtime     *fakeRuntime
	images      *fakeImages
	network     *fakeNetworks
	grace       time.Duration // see Config.UnstartedGrace
	deathBounds death.Options
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), runtime: newFakeRuntime(), network: &fakeNetworks{attached: map[string]bool{}, own: map[string]bool{}, also: map[string]bool{}}}
	w.images = &fakeImages{dir: filepath.Join(w.dir, "images"), root: map[string]bool{}}
	if err := os.MkdirAll(filepath.Join(w.images.dir, "layer", "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.images.dir, "layer", "etc", "app.conf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w.open()
	t.Cleanup(w.close)
	return w
}

func (w *world) open() {
	w.t.Helper()
	w.openUnsettled()
	settleAdoption(w.t, w.Engine)
}

// openUnsettled is open that does not wait for the adoption of what is there.
func (w *world) openUnsettled() {
	w.t.Helper()
	db, err := state.Open(filepath.Join(w.dir, "state.db"))
	if err != nil {
		w.t.Fatal(err)
	}
	journal, err := event.Open(filepath.Join(w.dir, "events"), event.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	volumes, err := volume.Open(filepath.Join(w.dir, "volumes"), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	deaths, err := death.Open(filepath.Join(w.dir, "deaths"), w.deathBounds)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Engine, err = New(context.Background(), Deps{
		Config: Config{DataRoot: w.dir, ExecRoot: w.dir, CgroupParent: "/test", UnstartedGrace: w.grace}, State: db, Events: journal, Runtime: w.runtime, Deaths: deaths,
		Images: w.images, Network: w.network, Volumes: volumes,
		Host: spec.Host{Arch: "amd64", NCPU: 2, Lookup: noDevices{}, SeccompProfile: "unconfined"},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// settleAdoption waits until an engine has looked at all that the one before it has left.
func settleAdoption(t testing.TB, e *Engine) {
	t.Helper()
	eventually(t, "the end of adoption", func() bool {
		under, err := e.Operations("")
		return err == nil && !slices.ContainsFunc(under, func(o Operation) bool {
			return o.Verb == "adoption" || o.Verb == "removal of a leftover"
		})
	})
	for _, c := range e.registry.all() {
		<-c.adopted
	}
}

func (w *world) close() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := w.Shutdown(ctx); err != nil {
		w.t.Errorf("shutdown: %v", err)
	}
	w.deps.Events.Close()
	if err := w.deps.State.Close(); err != nil {
		w.t.Error(err)
	}
}

// create makes a container that runs args.
func (w *world) create(name string, change func(*container.CreateRequest), args ...string) string {
	w.t.Helper()
	req := container.CreateRequest{Config: &container.Config{Image: "busybox", Cmd: args}, HostConfig: &container.HostConfig{}}
	if change != nil {
		change(&req)
	}
	r, err := w.ContainerCreate(context.Background(), name, req, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.ID
}

func (w *world) start(ref string) {
	w.t.Helper()
	if err := w.ContainerStart(context.Background(), ref); err != nil {
		w.t.Fatal(err)
	}
}

// wait returns the exit code once the condition is met.
func (w *world) wait(ref string, condition container.WaitCondition) int {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := w.ContainerWait(ctx, ref, condition)
	if err != nil {
		w.t.Fatal(err)
	}
	r, ok := <-c
	if !ok {
		w.t.Fatalf("wait for %s of %s timed out", condition, ref)
	}
	return int(r.StatusCode)
}

func (w *world) inspect(ref string) *container.InspectResponse {
	w.t.Helper()
	r, err := w.ContainerInspect(context.Background(), ref, false)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// actions returns the actions of all events about containers so far.
func (w *world) actions() []string {
	w.t.Helper()
	var got []string
	err := w.deps.Events.Read(context.Background(), event.ReadOptions{Since: time.Unix(1, 0), NoFollow: true}, nil, func(r event.Record) error {
		if r.Type == events.ContainerEventType {
			got = append(got, string(r.Action))
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// eventually waits for something that happens in another goroutine and has no signal of its own.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(30 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s did not happen in 30 s", what)
		}
	}
}

func (t *fakeTask) EndTools(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleared++
	return nil
}

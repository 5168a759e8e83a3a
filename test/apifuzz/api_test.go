package apifuzz

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

const (
	// fewRequests are made in each run of all tests.
	fewRequests = 1500
	// between is how many requests are made before what they made is removed.
	between = 250
	// answering is how long a request may take, on a machine that does other things too.
	answering = 30 * time.Second
	// following is how long we listen where an answer may go on for ever.
	following = 100 * time.Millisecond
	// settling is how long things may take to disappear.
	settling = 60 * time.Second
	// slack is how many descriptors and goroutines may come and go by themselves.
	slack = 10
	// maxFaults ends a run: what comes then says no more.
	maxFaults = 20
)

var (
	// follows is what may go on for as long as the client likes.
	follows = regexp.MustCompile(`^/events$|/logs$|/stats$|/attach(/ws)?$|/wait$|/stop$|/restart$|^/session$|^/grpc$|/packets$|/trace$|/exec/\{\w+\}/start$|^/build$|^/images/create$|/push$|^/images/search$|^/distribution/|^/auth$|/porthole/containers/|/porthole/build/debug|/porthole/net/check`)
	// causes are of failures that are no fault of the request's, nor ours.
	causes = regexp.MustCompile(`read-only file system|context canceled|no such host|network is unreachable|connection refused`)
	// dockers are failures in which Docker's daemon takes the blame, and clients may go by that.
	dockers = regexp.MustCompile(`^Container \w+ is not paused$|^ps: `)
	// plain is what Docker's daemon answers in plain text too: its library for WebSocket does.
	plain = regexp.MustCompile(`/attach/ws$`)
	// old is a client from before 1.24, which gets plain text.
	old = regexp.MustCompile(`^\w+ /v1(\.12)?/`)
	// creates is what makes things, so that there are some.
	creates = regexp.MustCompile(`^/(containers|networks|volumes)/create$|/exec$|^/commit$`)
	// absent is what we have not: all of it answers the same.
	absent = regexp.MustCompile(`^/(swarm|services|nodes|tasks|secrets|configs|plugins)\b`)
)

// daemon serves all tests of this package. It is nil without root.
var daemon *bed.Daemon

func TestMain(m *testing.M) {
	bed.Main(m, func() (func(), error) {
		dir, err := os.MkdirTemp(bed.WorkRoot(), "porthole-apifuzz-")
		if err != nil {
			return nil, err
		}
		bin, err := bed.Programs(filepath.Join(dir, "bin")) // which are built as long as that can be
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		if err := protectHost(dir); err != nil {
			return nil, errors.Join(fmt.Errorf("protect the host's files: %w", err), giveUp(dir))
		}
		daemon, err = bed.Start(bed.Options{Bin: bin, Dir: filepath.Join(dir, filepath.Base(dir)), Quiet: true})
		if err != nil {
			return nil, errors.Join(err, giveUp(dir))
		}
		return func() {
			if err := errors.Join(daemon.Close(), giveUp(dir)); err != nil {
				fmt.Fprintln(os.Stderr, "clean up:", err)
			}
		}, nil
	})
}

// giveUp takes away dir, and what protectHost has done.
func giveUp(dir string) error {
	err := setReadOnly("/", false)
	if e := unix.Unmount(dir, unix.MNT_DETACH); e != nil && !errors.Is(e, unix.EINVAL) { // EINVAL: it is no mount
		err = errors.Join(err, fmt.Errorf("unmount %s: %w", dir, e))
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// protectHost makes all that is mounted read-only in our mount namespace, but for
// dir and what the kernel has for itself.
func protectHost(dir string) error {
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := setReadOnly("/", true); err != nil {
		return err
	}
	return errors.Join(setReadOnly(dir, false), setReadOnly("/proc", false), setReadOnly("/sys", false))
}

// setReadOnly says whether what is mounted on path and below can be written to.
func setReadOnly(path string, yes bool) error {
	attr := &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	if yes {
		attr = &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_RECURSIVE, attr); err != nil {
		return fmt.Errorf("remount %s: %w", path, err)
	}
	return nil
}

// A run asks until there is enough of it.
type run struct {
	t      *testing.T
	make   *maker
	faults int
	seen   map[string]bool
	sum    struct{ requests, failed, silent int }
	// statuses counts answers.
	statuses map[int]int
}

// TestAPI: see the package's introduction.
func TestAPI(t *testing.T) {
	testenv.NeedsRoot(t)
	seed := rand.Uint64()
	if text := os.Getenv("PORTHOLE_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("PORTHOLE_TEST_SEED: %v", err)
		}
	}
	var end time.Time
	if text := os.Getenv("PORTHOLE_TEST_API_FUZZ"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("PORTHOLE_TEST_API_FUZZ: %v", err)
		}
		end = time.Now().Add(d)
	}
	operations, definitions := engineAPI(t)
	operations = append(operations, ownAPI(t, operations)...)
	slices.SortFunc(operations, func(a, b operation) int { return strings.Compare(a.path+" "+a.method, b.path+" "+b.method) })

	before := prepare(t)
	pid := daemon.Pid()
	r := &run{t: t, seen: map[string]bool{}, statuses: map[int]int{}, make: &maker{Rand: rand.New(rand.NewPCG(seed, 0)), definitions: definitions}}
	t.Cleanup(func() {
		t.Logf("seed %d, %d operations of the API: %d requests, %d failed for a cause elsewhere, %d went on for longer than we listened, answers by status: %v",
			seed, len(operations), r.sum.requests, r.sum.failed, r.sum.silent, r.statuses)
	})
	for i := 0; r.faults < maxFaults; i++ {
		if end.IsZero() && i >= fewRequests || !end.IsZero() && time.Now().After(end) {
			break
		}
		if i%between == 0 {
			r.removeAll()
			r.furnish()
		}
		op := pick(r.make, operations...)
		for want := r.make.one(6); absent.MatchString(op.path) && !r.make.one(10) || want && !creates.MatchString(op.path); {
			op = pick(r.make, operations...)
		}
		r.ask(r.make.make(op))
	}
	if r.removeAll(); daemon.Pid() != pid {
		t.Errorf("the daemon has ended: %s", daemon.LogTail(4096))
	}
	r.settle(before)
	if lines := daemon.Panics(0); len(lines) > 0 {
		t.Errorf("the daemon panicked: %q", lines[:min(5, len(lines))])
	}
}

// command runs the command line. One that has no end shows what the daemon is at.
func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settling)
	defer cancel()
	out, err := daemon.Porthole(ctx, args...)
	if ctx.Err() != nil {
		at, dumpErr := daemon.Get("/debug/pprof/goroutine?debug=2")
		t.Fatalf("%q has no end; the daemon's log ends so:\n%s\nits goroutines (%v):\n%s", args, daemon.LogTail(32<<10), dumpErr, at)
	}
	return out, err
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// prepare lets the daemon make what it keeps, and tells what is there then.
func prepare(t *testing.T) bed.Snapshot {
	t.Helper()
	must(t, "load", "-q", "-i", bed.Archive("busybox"))
	must(t, "run", "--rm", "-p", "127.0.0.1::80", "busybox", "true")
	before, err := daemon.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return before
}

// furnish makes what requests can be about. The base runs; its configuration is ours.
func (r *run) furnish() {
	t := r.t
	t.Helper()
	must(t, "load", "-q", "-i", bed.Archive("busybox"))
	base := must(t, "run", "-d", "--name", "base", "--stop-signal", "KILL", "--memory", "64m", "--pids-limit", "50", "busybox", "sleep", "100000")
	must(t, "create", "--name", "made", "busybox", "true")
	must(t, "network", "create", "net1")
	must(t, "volume", "create", "vol1")
	image := must(t, "inspect", "--format", "{{.Image}}", "base")
	r.make.names = []string{"base", "base", "base", base, base[:12], "made", "busybox", image, "net1", "bridge", "host", "none", "vol1", "nobody"}
}

// removeAll removes whatever there is.
func (r *run) removeAll() {
	t := r.t
	t.Helper()
	for _, step := range []struct{ list, remove []string }{
		{[]string{"ps", "-aq", "--no-trunc"}, []string{"rm", "-f", "-v"}},
		{[]string{"network", "ls", "-q", "--filter", "type=custom"}, []string{"network", "rm"}},
		{[]string{"volume", "ls", "-q"}, []string{"volume", "rm"}},
		{[]string{"images", "-q", "--no-trunc", "--filter", "reference=*"}, []string{"rmi", "-f"}},
	} {
		var names []string
		for name := range strings.FieldsSeq(must(t, step.list...)) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			// One that goes by itself meanwhile is no fault; what stays is seen at the end.
			if _, err := command(t, append(step.remove, names...)...); err != nil {
				t.Log(err)
			}
		}
	}
	must(t, "image", "prune", "-af")
	must(t, "builder", "prune", "-af")
}

// settle waits until nothing is left that was not there before.
func (r *run) settle(before bed.Snapshot) {
	must(r.t, "load", "-q", "-i", bed.Archive("busybox"))
	ctx, cancel := context.WithTimeout(r.t.Context(), settling)
	defer cancel()
	left, err := daemon.Settled(ctx, before, slack)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(left) > 0 {
		r.t.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
	}
}

// fault reports what a request has brought to light, once for each operation.
func (r *run) fault(q request, format string, args ...any) {
	r.t.Helper()
	text := fmt.Sprintf(format, args...)
	key := q.op.method + " " + q.op.path + " " + text[:min(len(text), 40)]
	if r.seen[key] {
		return
	}
	r.seen[key] = true
	r.faults++
	sent := q.Bytes()
	r.t.Errorf("request %d, %s %s: %s\nsent, %d bytes: %q", r.sum.requests, q.op.method, q.op.path, text, len(sent), sent[:min(len(sent), 2000)])
}

// ask sends a request and judges the answer.
func (r *run) ask(q request) {
	r.sum.requests++
	patience := answering
	if follows.MatchString(q.op.path) {
		patience = following
	}
	answer, body, err := send(r.t.Context(), q, patience)
	timeout := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case timeout && patience == following:
		r.sum.silent++
	case timeout:
		r.fault(q, "no answer in %v", patience)
	case answer == nil && !q.cut: // a body that is cut off has no answer that anybody could read
		r.fault(q, "no answer: %v", err)
	}
	if answer != nil && !timeout {
		r.judge(q, answer, body)
	}
	r.ping(q)
}

// send sends a request and reads the answer until it ends, or patience does.
func send(ctx context.Context, q request, patience time.Duration) (*http.Response, []byte, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", daemon.Socket)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, nil, err
	}
	// The daemon may answer and close before it has read all.
	if _, err := conn.Write(q.Bytes()); err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		return nil, nil, err
	}
	if unixConn, ok := conn.(*net.UnixConn); ok && q.cut {
		_ = unixConn.CloseWrite() // the other side may have closed
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: q.op.method})
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusSwitchingProtocols {
		return answer, nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<20))
	return answer, body, err
}

// judge looks at an answer that is whole.
func (r *run) judge(q request, answer *http.Response, body []byte) {
	status := answer.StatusCode
	var refusal struct{ Message string }
	r.statuses[status]++
	if status >= 400 {
		if q.op.method == http.MethodHead {
			_ = json.Unmarshal([]byte(answer.Header.Get(api.ErrorHeader)), &refusal) // none has no message
		} else if err := json.Unmarshal(body, &refusal); err != nil || refusal.Message == "" {
			if status < 500 && (plain.MatchString(q.op.path) || old.MatchString(q.head)) {
				return
			}
			r.fault(q, "%s without a message (%v): %q", answer.Status, err, body[:min(len(body), 300)])
			return
		}
	}
	if status == http.StatusInternalServerError {
		if !causes.MatchString(refusal.Message) && !dockers.MatchString(refusal.Message) {
			r.fault(q, "500: %s", refusal.Message)
		} else {
			r.sum.failed++
		}
	}
	if status == http.StatusOK || status == http.StatusCreated {
		if err := r.learn(answer, body); err != nil {
			r.fault(q, "%s with a body that is no JSON: %v: %q", answer.Status, err, body[:min(len(body), 300)])
		}
	}
}

// learn remembers the names of what was made, so that other requests are about it.
func (r *run) learn(answer *http.Response, body []byte) error {
	if answer.Header.Get("Content-Type") != "application/json" {
		return nil
	}
	for d := json.NewDecoder(bytes.NewReader(body)); ; {
		var value any
		if err := d.Decode(&value); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		object, _ := value.(map[string]any)
		for _, key := range []string{"Id", "ID", "id", "Name"} {
			if name, ok := object[key].(string); ok && answer.StatusCode == http.StatusCreated && len(r.make.names) < 200 {
				r.make.names = append(r.make.names, name)
			}
		}
	}
}

// ping sees that the daemon still answers others.
func (r *run) ping(q request) {
	began := time.Now()
	if _, err := daemon.Get("/_ping"); err != nil {
		r.t.Fatalf("the daemon does not answer after %v of\n%q\n%v\n%s", time.Since(began), q.Bytes(), err, daemon.LogTail(8192))
	}
}

// The schema must be there whole: a reader that finds nothing finds no fault.
func TestOperations(t *testing.T) {
	operations, definitions := engineAPI(t)
	if len(operations) < 100 || len(definitions) < 100 {
		t.Errorf("the schema has %d operations and %d definitions", len(operations), len(definitions))
	}
	own := ownAPI(t, operations)
	if len(own) < 40 || len(own[0].parameters) < 40 {
		t.Errorf("our own table has %d operations", len(own))
	}
	m := &maker{Rand: rand.New(rand.NewPCG(1, 2)), definitions: definitions, names: []string{"x"}}
	valid := 0
	for _, op := range append(operations, own...) {
		for range 20 {
			q := m.make(op)
			if _, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(q.Bytes()))); err != nil {
				t.Fatalf("%s: %v", filepath.Base(op.path), err)
			}
			var object map[string]any
			if json.Unmarshal(q.body, &object) == nil && len(object) > 0 {
				valid++
			}
		}
	}
	if valid < 60 {
		t.Errorf("%d bodies are JSON objects", valid)
	}
}

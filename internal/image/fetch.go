package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/problem"
)

// Transfers are the settings of what goes over the network. Zero fields have
// Docker's defaults.
type Transfers struct {
	Downloads int // layers fetched at once by all pulls; 3
	Uploads   int // blobs sent at once by all pushes; 5
	Attempts  int // how often a transfer is tried; 5
	// Pause is the time before the second attempt; it doubles for each one
	// after; 1 s.
	Pause time.Duration
	// Stall is how long a transfer may get nothing before its attempt is given
	// up; 1 min.
	Stall time.Duration
}

func (t Transfers) withDefaults() Transfers {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&t.Downloads, 3)
	set(&t.Uploads, 5)
	set(&t.Attempts, 5)
	if t.Pause == 0 {
		t.Pause = time.Second
	}
	if t.Stall == 0 {
		t.Stall = time.Minute
	}
	return t
}

// digestLocks lets one transfer of a blob at a time go on; others wait and
// find it done.
type digestLocks struct {
	mu   sync.Mutex
	held map[digest.Digest]chan struct{}
}

// lock waits for the blob and returns what lets it go.
func (l *digestLocks) lock(ctx context.Context, d digest.Digest) (func(), error) {
	for {
		l.mu.Lock()
		wait, taken := l.held[d]
		if !taken {
			if l.held == nil {
				l.held = map[digest.Digest]chan struct{}{}
			}
			mine := make(chan struct{})
			l.held[d] = mine
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				delete(l.held, d)
				close(mine)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// fetch brings one blob into the store, unless it is there, which it reports
// as not fresh.
func (p *pull) fetch(ctx context.Context, desc ocispec.Descriptor, report func(jsonstream.Message)) (fresh bool, err error) {
	if err := desc.Digest.Validate(); err != nil {
		return false, failf(errdefs.ErrInvalidArgument, "digest %q: %w", desc.Digest, err)
	}
	unlock, err := p.store.fetches.lock(ctx, desc.Digest)
	if err != nil {
		return false, err
	}
	defer unlock()
	if _, err := p.store.content.Info(ctx, desc.Digest); err != nil {
		if err := p.store.limits.Room(p.store.root, desc.Size); err != nil {
			return false, err
		}
	}
	// Places that the image itself names are no business of the daemon's: they
	// could be anywhere in its network.
	desc.URLs = nil
	from := &watchedFetcher{fetcher: p.fetcher, total: desc.Size, report: report, stall: p.store.transfers.Stall}
	transfer := func() error {
		return p.store.try(ctx, report, func(ctx context.Context) error {
			return from.attempt(ctx, func(ctx context.Context) error {
				if err := failpoint.Hit("image.fetch"); err != nil {
					return err
				}
				return remotes.Fetch(ctx, p.store.content, from, desc)
			})
		})
	}
	begun, statusErr := p.store.content.Status(ctx, remotes.MakeRefKey(ctx, desc))
	if err = transfer(); errdefs.IsFailedPrecondition(err) && statusErr == nil && begun.Offset > 0 {
		// What a killed pull has left was not all on the disk.
		if err := p.store.content.Abort(ctx, remotes.MakeRefKey(ctx, desc)); err != nil && !errdefs.IsNotFound(err) {
			return false, fmt.Errorf("remove unfinished download: %w", err)
		}
		err = transfer()
	}
	switch {
	case errdefs.IsAlreadyExists(err):
		fresh, err = false, nil
	case err != nil:
		// What came in is not kept: nobody may come back for it.
		gone := context.WithoutCancel(ctx)
		if e := p.store.content.Abort(gone, remotes.MakeRefKey(gone, desc)); e != nil && !errdefs.IsNotFound(e) {
			err = errors.Join(err, fmt.Errorf("remove unfinished download: %w", e))
		}
		return false, err
	default:
		fresh = true
		failpoint.Pass("image.fetched")
	}
	_, err = p.source(ctx, desc)
	return fresh, err
}

// try runs transfer until it succeeds, fails for good, or was tried often
// enough.
func (s *Store) try(ctx context.Context, report func(jsonstream.Message), transfer func(context.Context) error) error {
	pause := s.transfers.Pause
	for attempt := 1; ; attempt++ {
		err := transfer(ctx)
		if err == nil || attempt == s.transfers.Attempts || ctx.Err() != nil || !mayPass(err) {
			return err
		}
		s.logger.InfoContext(ctx, "transfer is tried again", "attempt", attempt, "err", withoutQueries(err.Error()))
		for left := pause; left > 0; left -= time.Second {
			report(jsonstream.Message{Status: "Retrying in " + units.HumanDuration(left)})
			select {
			case <-time.After(min(left, time.Second)):
			case <-ctx.Done():
				return err
			}
		}
		pause *= 2
	}
}

// errStalled ends an attempt during which nothing came any more.
var errStalled = errors.New("the registry sends nothing any more")

// mayPass tells errors that another attempt may not meet from those that stay.
func mayPass(err error) bool {
	for _, class := range []error{
		errdefs.ErrAlreadyExists, errdefs.ErrNotFound, errdefs.ErrInvalidArgument, errdefs.ErrFailedPrecondition,
		errdefs.ErrResourceExhausted, errdefs.ErrNotImplemented, docker.ErrInvalidAuthorization, unix.ENOSPC, unix.EDQUOT, unix.EIO,
	} {
		if errors.Is(err, class) {
			return false
		}
	}
	if status, ok := errors.AsType[remoteserrors.ErrUnexpectedStatus](err); ok {
		return status.StatusCode >= 500 || status.StatusCode == http.StatusTooManyRequests || status.StatusCode == http.StatusRequestTimeout
	}
	return true
}

// watchedFetcher reports how far a download is and gives up on one that
// stalls.
type watchedFetcher struct {
	fetcher remotes.Fetcher
	total   int64
	report  func(jsonstream.Message)
	stall   time.Duration
	timer   *time.Timer
}

// attempt runs one attempt, whose context ends when it stalls.
func (w *watchedFetcher) attempt(ctx context.Context, fetch func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.timer = time.AfterFunc(w.stall, func() { cancel(errStalled) })
	defer w.timer.Stop()
	err := fetch(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

func (w *watchedFetcher) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := w.fetcher.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	return &watchedReader{ReadCloser: rc, watch: w}, nil
}

// watchedReader counts what comes in. It can seek as the library's reader can,
// which is how a download is taken up in its middle.
type watchedReader struct {
	io.ReadCloser
	watch   *watchedFetcher
	n, told int64
}

func (r *watchedReader) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	if n > 0 {
		r.watch.timer.Reset(r.watch.stall)
	}
	r.n += int64(n)
	total := r.watch.total
	if total >= progressFrom && (r.n-r.told >= max(total/100, 64<<10) || r.n == total && r.told < total) {
		r.told = r.n
		r.watch.report(jsonstream.Message{Status: "Downloading", Progress: &jsonstream.Progress{Current: r.n, Total: total}})
	}
	return n, err
}

func (r *watchedReader) Seek(offset int64, whence int) (int64, error) {
	seeker, ok := r.ReadCloser.(io.Seeker)
	if !ok {
		return 0, fmt.Errorf("seek in a download: %w", errdefs.ErrNotImplemented)
	}
	n, err := seeker.Seek(offset, whence)
	if err == nil {
		r.n, r.told = n, n
	}
	return n, err
}

// registryError words an error of a registry as Docker does, and gives it its
// class. verb is "pull" or "push".
func registryError(verb string, ref reference.Named, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	name := reference.FamiliarString(ref)
	text := withoutQueries(err.Error())
	// The library begins with what is said here in Docker's words.
	if _, rest, ok := strings.Cut(text, "repository does not exist or may require authorization: "); ok {
		text = rest
	}
	status, answered := errors.AsType[remoteserrors.ErrUnexpectedStatus](err)
	denied := errors.Is(err, docker.ErrInvalidAuthorization) || errdefs.IsUnauthorized(err) ||
		answered && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden)
	switch {
	case denied && verb == "push":
		return failf(errdefs.ErrPermissionDenied, "push access denied for %s, repository does not exist or may require 'docker login': denied: %s",
			reference.FamiliarName(ref), text)
	case denied:
		return failf(errdefs.ErrNotFound, "pull access denied for %s, repository does not exist or may require 'docker login': denied: %s",
			reference.FamiliarName(ref), text)
	case answered && status.StatusCode == http.StatusTooManyRequests:
		return failf(errdefs.ErrUnavailable, "%s %s: toomanyrequests: the registry refuses for now: %s", verb, name, text)
	case errdefs.IsNotFound(err) && verb == "pull" && !problem.IsClassed(err):
		return failf(errdefs.ErrNotFound, "manifest for %s not found: manifest unknown", name)
	case errdefs.IsFailedPrecondition(err):
		// The content store's word for a digest or size that is not the claimed one.
		return failf(errdefs.ErrInvalidArgument, "%s %s: filesystem layer verification failed: %s", verb, name, text)
	}
	class := errdefs.Resolve(err)
	if errors.Is(err, unix.ENOSPC) {
		class = errdefs.ErrResourceExhausted
	}
	return problem.WithClass(class, &redactedError{text: fmt.Sprintf("%s %s: %s", verb, name, text), err: err})
}

// redactedError has another text than the error that it wraps.
type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string { return e.text }
func (e *redactedError) Unwrap() error { return e.err }

// urlQuery finds queries and user information of URLs: both may hold secrets,
// as signed addresses of storage do.
var urlQuery = regexp.MustCompile(`(https?://)(?:[^\s"/@]*@)?([^\s"?]*)(\?[^\s"]*)?`)

func withoutQueries(text string) string {
	return urlQuery.ReplaceAllString(text, "$1$2")
}

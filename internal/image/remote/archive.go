package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// stall is how long a web server may send nothing.
const stall = time.Minute

// Archive fetches a file from a web server, which need not be a registry. An
// address without a scheme is one of http. The size is -1 if the server does not
// tell; shown is the address without what may be secret: password and query. The
// caller closes the body, which fails when nothing comes for a minute.
//
// A bad address is errdefs.ErrInvalidArgument, a file that is not there
// errdefs.ErrNotFound, one that needs a password errdefs.ErrPermissionDenied.
func (r *Registries) Archive(ctx context.Context, address string) (body io.ReadCloser, size int64, shown string, err error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, 0, "", invalid("import: %q is not the address of a file", withoutSecrets(address))
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, 0, "", invalid("import: unsupported scheme %q: use http or https", u.Scheme)
	}
	shown = withoutSecrets(u.String())
	ctx, cancel := context.WithCancelCause(ctx)
	watch := time.AfterFunc(stall, func() { cancel(errStalled) })
	fail := func(err error) (io.ReadCloser, int64, string, error) {
		watch.Stop()
		if errors.Is(context.Cause(ctx), errStalled) {
			err = errStalled
		}
		cancel(nil)
		return nil, 0, shown, fmt.Errorf("failed to GET %s: %w", shown, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fail(err)
	}
	// As it is: net/http would unpack what is packed for the way only, and lose the size.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", r.Options().UserAgent)
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 30 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second,
		DisableKeepAlives: true, ForceAttemptHTTP2: true,
	}
	client := &http.Client{Transport: transport, CheckRedirect: plainRedirect}
	res, err := client.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok { // whose text has the whole address
			err = wrapped.Err
		}
		return fail(errdefs.ErrUnavailable.WithMessage(err.Error()))
	}
	if res.StatusCode >= http.StatusBadRequest || res.StatusCode < http.StatusOK {
		res.Body.Close()
		watch.Stop()
		cancel(nil)
		return nil, 0, shown, statusError(shown, res)
	}
	return &watchedBody{ReadCloser: res.Body, watch: watch, cancel: cancel, ctx: ctx}, res.ContentLength, shown, nil
}

// plainRedirect follows redirects, but from TLS only to TLS.
func plainRedirect(req *http.Request, via []*http.Request) error {
	const most = 10
	if len(via) >= most {
		return fmt.Errorf("stopped after %d redirects", most)
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return errors.New("refused to follow a redirect from https to " + req.URL.Scheme)
	}
	return nil
}

// withoutSecrets is an address without user and query. One that cannot be read
// is cut before either could begin.
func withoutSecrets(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		scheme, _, _ := strings.Cut(address, "://")
		return scheme + "://…"
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment = nil, "", false, ""
	return u.String()
}

var errStalled = errdefs.ErrUnavailable.WithMessage("the server sends nothing any more")

// watchedBody gives up when nothing comes any more.
type watchedBody struct {
	io.ReadCloser
	ctx    context.Context //nolint:containedctx // of the request that the body is the answer to
	watch  *time.Timer
	cancel context.CancelCauseFunc
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.Reset(stall) // from here: a reader may take its time
	n, err := b.ReadCloser.Read(p)
	b.watch.Stop()
	if err != nil && errors.Is(context.Cause(b.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.watch.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

package curl

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// dialError is a connection that did not come about.
type dialError struct {
	host, port, socket string
	since              time.Time
	err                error
}

func (d *dialError) Error() string { return d.err.Error() }
func (d *dialError) Unwrap() error { return d.err }

// handshakeError is one that TLS has given up.
type handshakeError struct{ err error }

func (h *handshakeError) Error() string { return h.err.Error() }
func (h *handshakeError) Unwrap() error { return h.err }

// classify gives an error curl's number and words.
func (t *transfer) classify(ctx context.Context, err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var dial *dialError
	var handshake *handshakeError
	switch {
	case errors.As(err, &dial):
		return dial.failure(ctx)
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded):
		return failed(timedOut, "Operation timed out after %d milliseconds with %d bytes received", time.Since(t.began).Milliseconds(), t.out.n)
	case errors.As(err, &handshake):
		return handshake.failure()
	case errors.Is(err, io.ErrUnexpectedEOF) && t.response != nil:
		return failed(partialFile, "transfer closed with %s", remaining(t))
	case t.response == nil && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		return failed(emptyReply, "Empty reply from server")
	case t.response == nil && strings.Contains(err.Error(), "malformed HTTP"):
		return failed(badProtocol, "Received HTTP/0.9 when not allowed, or no HTTP at all: %v", err)
	}
	return failed(recvError, "Recv failure: %s", reason(err))
}

func remaining(t *transfer) string {
	if n := t.response.ContentLength; n >= 0 {
		return fmt.Sprintf("%d bytes remaining to read", n-t.out.n)
	}
	return "outstanding read data remaining"
}

func (d *dialError) failure(ctx context.Context) *failure {
	var dns *net.DNSError
	ms := time.Since(d.since).Milliseconds()
	switch {
	case errors.As(d.err, &dns) && (dns.IsNotFound || !dns.IsTimeout):
		return failed(noName, "Could not resolve host: %s", d.host)
	case errors.As(d.err, &dns):
		return failed(timedOut, "Resolving timed out after %d milliseconds", ms)
	case ctx.Err() != nil, errors.Is(d.err, context.DeadlineExceeded), errors.Is(d.err, os.ErrDeadlineExceeded):
		return failed(timedOut, "Connection timed out after %d milliseconds", ms)
	case d.socket != "":
		return failed(noConnection, "Failed to connect to %s: %s", d.socket, reason(d.err))
	}
	return failed(noConnection, "Failed to connect to %s port %s after %d ms: %s", d.host, d.port, ms, reason(d.err))
}

func (h *handshakeError) failure() *failure {
	var verify *tls.CertificateVerificationError
	if !errors.As(h.err, &verify) {
		return failed(tlsError, "TLS connect error: %v", h.err)
	}
	text := "SSL certificate problem: " + verify.Err.Error()
	var unknown x509.UnknownAuthorityError
	if errors.As(verify.Err, &unknown) {
		text = "SSL certificate problem: unable to get local issuer certificate"
		if pool, err := x509.SystemCertPool(); err != nil || pool.Equal(x509.NewCertPool()) {
			text += "; there are no CA certificates here: --cacert, or -k to go on without"
		}
	}
	return failed(badPeer, "%s", text)
}

// reason is the innermost cause, as the system words it.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		text := errno.Error()
		return strings.ToUpper(text[:1]) + text[1:]
	}
	return err.Error()
}

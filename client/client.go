// Package client talks to a Porthole daemon, or to any Docker Engine.
//
// A [Client] is Docker's own client library with Porthole's hosts, defaults and
// endpoints added: every method of github.com/moby/moby/client is there, and the
// methods of this package ask for what only Porthole knows.
//
//	c, err := client.New(client.Options{})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	result, err := c.ContainerList(ctx, mobyclient.ContainerListOptions{})
//
// Nothing is dialled before the first request. The API version is negotiated
// with that request.
package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	mobyclient "github.com/moby/moby/client"
)

// DefaultHost is the daemon that is talked to when nothing else is named.
const DefaultHost = "unix:///run/porthole/porthole.sock"

// EnvHost names the environment variable that wins over DOCKER_HOST.
const EnvHost = "PORTHOLE_HOST"

// dialTimeout bounds connecting, not the requests that follow.
const dialTimeout = 10 * time.Second

// idleConns is the number of connections kept open for later requests.
const idleConns = 6

// Options say which daemon to talk to. The zero value asks the environment.
type Options struct {
	// Host is unix:///PATH, tcp://HOST:PORT, http(s)://HOST:PORT or
	// ssh://[USER@]HOST[:PORT][/PATH]. Empty takes PORTHOLE_HOST, then
	// DOCKER_HOST, then [DefaultHost].
	Host string
	// TLS is used for tcp hosts. Nil takes DOCKER_TLS_VERIFY, DOCKER_TLS and
	// DOCKER_CERT_PATH; with none of them set the connection is plain.
	TLS *TLS
	// APIVersion, as in "1.51", switches negotiation off. Empty takes
	// DOCKER_API_VERSION, or negotiates.
	APIVersion string
	// UserAgent is sent with each request. Empty for "porthole (OS)".
	UserAgent string
	// Headers are sent with each request.
	Headers map[string]string
}

// Client is a connection to one daemon. It is safe for concurrent use.
type Client struct {
	*mobyclient.Client

	host   string
	pinned bool // to an API version
	// plain sends the requests of our own endpoints.
	plain    *http.Client
	refusals refusals
}

// New returns a client for the daemon that o names. It reads the environment
// and certificate files but does not connect.
func New(o Options) (*Client, error) {
	host := o.Host
	if host == "" {
		host = hostFromEnv()
	}
	transport, mobyHost, err := newTransport(host, o.TLS)
	if err != nil {
		return nil, err
	}
	if o.UserAgent == "" {
		o.UserAgent = "porthole (" + runtime.GOOS + ")"
	}

	c := &Client{host: host, pinned: o.APIVersion != "" || os.Getenv(mobyclient.EnvOverrideAPIVersion) != ""}
	opts := []mobyclient.Opt{
		mobyclient.WithHost(mobyHost),
		// After WithHost, which would replace the dialer.
		mobyclient.WithHTTPClient(&http.Client{Transport: transport, CheckRedirect: mobyclient.CheckRedirect}),
		mobyclient.WithUserAgent(o.UserAgent),
		mobyclient.WithHTTPResponseHook(c.refusals.see),
	}
	if len(o.Headers) > 0 {
		opts = append(opts, mobyclient.WithHTTPHeaders(o.Headers))
	}
	if o.APIVersion != "" {
		opts = append(opts, mobyclient.WithAPIVersion(o.APIVersion))
	} else {
		opts = append(opts, mobyclient.WithAPIVersionFromEnv())
	}
	c.Client, err = mobyclient.New(opts...)
	if err != nil {
		return nil, err
	}
	c.plain = &http.Client{Transport: &http.Transport{
		// The library's dialer speaks TLS itself where it has to.
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return c.Dialer()(ctx)
		},
		DisableCompression: true,
		MaxIdleConns:       idleConns,
		IdleConnTimeout:    30 * time.Second,
	}}
	return c, nil
}

// Host returns the daemon's address as it was asked for. Unlike DaemonHost it
// keeps ssh addresses.
func (c *Client) Host() string { return c.host }

// Local tells that the daemon is reached by a unix socket, and by whatever API
// version it speaks.
func (c *Client) Local() bool { return strings.HasPrefix(c.host, "unix://") && !c.pinned }

// Close closes idle connections. Requests under way are not touched.
func (c *Client) Close() error {
	c.plain.CloseIdleConnections()
	return c.Client.Close()
}

// hostFromEnv returns the host that the environment names, or the default.
func hostFromEnv() string {
	for _, name := range []string{EnvHost, mobyclient.EnvOverrideHost} {
		if host := os.Getenv(name); host != "" {
			return host
		}
	}
	return DefaultHost
}

// newTransport returns a transport that reaches host, and the host's name in a
// form that Docker's library accepts.
func newTransport(host string, opts *TLS) (*http.Transport, string, error) {
	u, err := mobyclient.ParseHostURL(host)
	if err != nil {
		return nil, "", err
	}
	transport := &http.Transport{MaxIdleConns: idleConns, IdleConnTimeout: 30 * time.Second}
	dialer := &net.Dialer{Timeout: dialTimeout}
	switch u.Scheme {
	case "unix":
		transport.DisableCompression = true
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", u.Host)
		}
	case "tcp", "http", "https":
		// No proxy: attach and exec dial by themselves and could not follow.
		transport.DialContext = dialer.DialContext
		transport.TLSClientConfig, err = tlsConfig(u.Scheme, opts)
		if err != nil {
			return nil, "", err
		}
		// The library's dialer, which attach and our own endpoints use, takes the
		// scheme for the name of a network.
		if _, rest, found := strings.Cut(host, "://"); found {
			host = "tcp://" + rest
		}
	case "ssh":
		dial, err := sshDialer(host)
		if err != nil {
			return nil, "", err
		}
		transport.DialContext = dial
		// The name is sent in requests only; nothing resolves it.
		host = "http://porthole.ssh.localhost"
	default:
		return nil, "", fmt.Errorf("unable to parse docker host `%s`: protocol %q is not supported", host, u.Scheme)
	}
	return transport, host, nil
}

// tlsConfig returns what to use for a host of the given scheme, nil for a plain
// connection.
func tlsConfig(scheme string, opts *TLS) (*tls.Config, error) {
	if opts == nil {
		opts = TLSFromEnv()
	}
	if opts == nil && scheme == "https" {
		opts = &TLS{}
	}
	if opts == nil {
		return nil, nil
	}
	return opts.config()
}

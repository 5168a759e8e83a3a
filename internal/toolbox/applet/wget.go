package applet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// wgetCommand fetches by http and https: -O FILE or -, -q, -S, -T SECONDS, -s or
// --spider, --header, --no-check-certificate.
func wgetCommand(std IO, args []string) error {
	w := wget{std: std, timeout: 30 * time.Second}
	var urls []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		next := func() string {
			if i++; i < len(args) {
				return args[i]
			}
			return ""
		}
		switch {
		case a == "-q":
			w.quiet = true
		case a == "-S" || a == "--server-response":
			w.showHeaders = true
		case a == "-s" || a == "--spider":
			w.spider = true
		case a == "--no-check-certificate":
			w.insecure = true
		case a == "-O":
			w.file = next()
		case a == "-qO":
			w.quiet, w.file = true, next()
		case strings.HasPrefix(a, "-qO"):
			w.quiet, w.file = true, a[3:]
		case strings.HasPrefix(a, "-O"):
			w.file = a[2:]
		case a == "-T":
			d, err := seconds(next())
			if err != nil {
				return usageError("invalid time")
			}
			w.timeout = d
		case a == "--header":
			w.headers = append(w.headers, next())
		case strings.HasPrefix(a, "--header="):
			w.headers = append(w.headers, strings.TrimPrefix(a, "--header="))
		case strings.HasPrefix(a, "-") && a != "-":
			return usageError("unrecognized option: " + a)
		default:
			urls = append(urls, a)
		}
	}
	if len(urls) == 0 {
		return usageError("a URL is missing")
	}
	for _, u := range urls {
		if err := w.get(u); err != nil {
			return err
		}
	}
	return nil
}

type wget struct {
	std                                  IO
	quiet, showHeaders, spider, insecure bool
	file                                 string
	headers                              []string
	timeout                              time.Duration
}

func (w *wget) get(text string) error {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, text, http.NoBody)
	if err != nil {
		return err
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return fmt.Errorf("%s is not supported, only http and https", req.URL.Scheme)
	}
	req.Header.Set("User-Agent", "Wget")
	for _, h := range w.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return usageError("a header is NAME: VALUE, not " + h)
		}
		if value = strings.TrimSpace(value); strings.EqualFold(name, "Host") {
			req.Host = value
		} else {
			req.Header.Set(name, value)
		}
	}
	transport := &http.Transport{
		Proxy:              http.ProxyFromEnvironment,
		DialContext:        w.dial,
		DisableCompression: true,
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: w.insecure}, //nolint:gosec // it is asked for
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: w.telling(transport)}).Do(req)
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // without the method and the URL
		}
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode >= 300:
		return fmt.Errorf("server returned error: %s %s", resp.Proto, screen.Visible(resp.Status))
	case w.spider:
		return nil
	}
	return w.save(path.Base(resp.Request.URL.Path), resp.Body)
}

// telling shows the head of each response if it is asked for.
func (w *wget) telling(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if !w.quiet {
			fmt.Fprintf(w.std.Err, "Connecting to %s\n", screen.Visible(req.URL.Host))
		}
		resp, err := next.RoundTrip(req)
		if err != nil || !w.showHeaders {
			return resp, err
		}
		fmt.Fprintf(w.std.Err, "  %s %s\n", resp.Proto, screen.Visible(resp.Status))
		var names []string
		for n := range resp.Header {
			names = append(names, n)
		}
		slices.Sort(names)
		for _, n := range names {
			for _, v := range resp.Header[n] {
				fmt.Fprintf(w.std.Err, "  %s: %s\n", screen.Visible(n), screen.Visible(v))
			}
		}
		return resp, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls r.
func (r roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }

func (w *wget) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: w.timeout, Resolver: &net.Resolver{PreferGo: true}}).DialContext(ctx, network, addr)
	if err != nil || w.timeout <= 0 {
		return conn, err
	}
	return patientConn{conn, w.timeout}, nil
}

// patientConn gives every read and write its time.
type patientConn struct {
	net.Conn
	timeout time.Duration
}

func (c patientConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c patientConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (w *wget) save(name string, body io.Reader) error {
	if w.file != "" {
		name = w.file
	}
	if name == "." || name == "/" {
		name = "index.html"
	}
	out := w.std.Out
	if name != "-" {
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		defer f.Close()
		out = f
	}
	n, err := io.Copy(out, body)
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	if !w.quiet {
		fmt.Fprintf(w.std.Err, "%s: %d bytes\n", screen.Visible(name), n)
	}
	return nil
}

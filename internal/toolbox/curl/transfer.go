package curl

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// transfer is one URL with its redirects.
type transfer struct {
	c     *command
	text  string // the URL as it was given
	began time.Time
	out   *output

	hop       // the last one
	redirects int
	redirect  time.Duration // until the last hop began
	connects  int
	headerN   int64 // bytes of all heads that were received
	requestN  int64
	uploadN   int64
	failure   *failure
	dump      *os.File
	ended     time.Time
}

// hop is one request and its response.
type hop struct {
	mu       sync.Mutex
	url      *url.URL
	method   string
	response *http.Response
	local    net.Addr
	remote   net.Addr
	wire     *wire // nil: HTTP/2, or no connection

	nameDone, connected, secured, sending, firstByte time.Time
}

func (t *transfer) run(ctx context.Context) error {
	defer func() { t.ended = time.Now() }()
	u, err := parseURL(t.text)
	if err != nil {
		return err
	}
	if t.c.dumpHeader != "" && t.c.dumpHeader != "-" {
		if t.dump, err = os.Create(t.c.dumpHeader); err != nil {
			return failed(writeError, "Failed to open %s: %v", t.c.dumpHeader, err)
		}
		defer t.dump.Close()
	}
	if strings.HasSuffix(u.Path, "/") && t.c.upload != "" && t.c.upload != "-" {
		u = u.JoinPath(filepath.Base(t.c.upload))
	}
	first := u
	method, body := t.c.method, true
	for {
		req, err := t.request(ctx, u, method, body, sameHost(first, u))
		if err != nil {
			return err
		}
		next, err := t.once(ctx, req)
		if err != nil || next == nil {
			return err
		}
		t.redirects++
		if t.c.maxRedirects >= 0 && t.redirects > t.c.maxRedirects {
			return failed(redirects, "Maximum (%d) redirects followed", t.c.maxRedirects)
		}
		if next.Scheme != "http" && next.Scheme != "https" {
			return failed(badProtocol, "Protocol %q not supported in a redirect", next.Scheme)
		}
		// What was posted is not posted again, but by 307 and 308: RFC 9110, section 15.4.
		code := t.response.StatusCode
		if body && req.Method == http.MethodPost && code >= 301 && code <= 303 || code == 303 {
			body = false
		}
		t.verbose("*", "Issue another request to this URL: '"+next.String()+"'")
		u = next
		t.redirect = time.Since(t.began)
	}
}

func sameHost(a, b *url.URL) bool {
	hostA, portA := endpoint(a)
	hostB, portB := endpoint(b)
	return a.Scheme == b.Scheme && strings.EqualFold(hostA, hostB) && portA == portB
}

// verbose prints a line of -v.
func (t *transfer) verbose(mark, line string) {
	if t.c.verbose {
		fmt.Fprintln(t.c.err, strings.TrimRight(mark+" "+screen.Visible(line), " "))
	}
}

// request makes a request. Credentials go to the host that they were given for.
func (t *transfer) request(ctx context.Context, u *url.URL, method string, withBody, trusted bool) (*http.Request, error) {
	c := t.c
	if c.get && c.data != nil && t.redirects == 0 {
		copied := *u
		if copied.RawQuery != "" {
			copied.RawQuery += "&"
		}
		copied.RawQuery += string(c.data)
		u = &copied
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, failed(badURL, "URL using bad/illegal format: %v", err)
	}
	if err := t.body(req, withBody); err != nil {
		return nil, err
	}
	if c.head {
		req.Method = http.MethodHead
	}
	if method != "" {
		req.Method = method
	}
	set := func(name, value string) {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	set("User-Agent", "curl (porthole)")
	set("User-Agent", c.agent)
	set("Accept", "*/*")
	if c.json {
		set("Accept", "application/json")
	}
	set("Referer", c.referer)
	set("Cookie", c.cookie)
	if c.ranges != "" {
		set("Range", "bytes="+c.ranges)
	}
	if c.compressed {
		set("Accept-Encoding", "gzip")
	}
	user := c.user
	if user == "" && u.User != nil {
		password, _ := u.User.Password()
		user = u.User.Username() + ":" + password
	}
	if user != "" && trusted {
		set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user)))
	}
	t.headers(req, trusted)
	return req, nil
}

// headers applies -H: "Name: value", "Name:" to leave one out, "Name;" for an
// empty one.
func (t *transfer) headers(req *http.Request, trusted bool) {
	for _, h := range t.c.headers {
		name, value, ok := strings.Cut(h, ":")
		empty := false
		if !ok {
			if name, empty = strings.CutSuffix(h, ";"); !empty {
				t.c.warn(fmt.Sprintf("the header %q has no colon and is left out", screen.Visible(h)))
				continue
			}
		}
		value = strings.TrimSpace(value)
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !trusted && (canonical == "Authorization" || canonical == "Cookie"):
			continue
		case canonical == "Host":
			if value != "" {
				req.Host = value
			}
			continue
		case value == "" && !empty:
			req.Header.Del(name)
			if canonical == "User-Agent" {
				req.Header[canonical] = []string{""} // net/http's own is not sent either
			}
			continue
		}
		if slices.Contains([]string{"User-Agent", "Accept", "Content-Type", "Authorization", "Referer", "Cookie", "Range"}, canonical) {
			req.Header.Del(name)
			name = canonical
		}
		// As it was written: not all servers take upper and lower case for the same.
		req.Header[name] = append(req.Header[name], value)
	}
}

// body gives a request what it is to send.
func (t *transfer) body(req *http.Request, withBody bool) error {
	c := t.c
	switch {
	case !withBody:
	case c.upload != "":
		return t.uploadBody(req)
	case len(c.form) > 0:
		data, kind, err := encodeForm(c.form)
		if err != nil {
			return failed(readError, "%v", err)
		}
		t.bytesBody(req, data, kind)
	case c.data != nil && !c.get:
		kind := "application/x-www-form-urlencoded"
		if c.json {
			kind = "application/json"
		}
		t.bytesBody(req, c.data, kind)
	}
	return nil
}

func (t *transfer) bytesBody(req *http.Request, data []byte, kind string) {
	req.Method = http.MethodPost
	req.Body = io.NopCloser(&counted{bytes.NewReader(data), &t.uploadN})
	req.ContentLength = int64(len(data))
	if len(data) == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", kind)
}

func (t *transfer) uploadBody(req *http.Request) error {
	req.Method = http.MethodPut
	if t.c.upload == "-" {
		req.Body, req.ContentLength = io.NopCloser(&counted{t.c.in, &t.uploadN}), -1
		return nil
	}
	f, err := os.Open(t.c.upload)
	if err != nil {
		return failed(readError, "Can't open '%s'!", t.c.upload)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return failed(readError, "%v", err)
	}
	req.Body = struct {
		io.Reader
		io.Closer
	}{&counted{f, &t.uploadN}, f}
	if req.ContentLength = info.Size(); req.ContentLength == 0 {
		f.Close()
		req.Body = http.NoBody
	}
	return nil
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n *int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}

// once sends a request and takes the response. It returns where to go on.
func (t *transfer) once(ctx context.Context, req *http.Request) (*url.URL, error) {
	t.mu.Lock()
	t.url, t.method, t.response, t.wire = req.URL, req.Method, nil, nil
	t.nameDone, t.connected, t.secured, t.sending, t.firstByte = time.Time{}, time.Time{}, time.Time{}, time.Time{}, time.Time{}
	t.mu.Unlock()
	transport, err := t.transport()
	if err != nil {
		return nil, err
	}
	defer transport.CloseIdleConnections()
	req = req.WithContext(httptrace.WithClientTrace(ctx, t.trace()))
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	t.mu.Lock()
	t.response = resp
	// HTTP/2 is no text, and what goes through a proxy's tunnel is not seen.
	shown := t.wire != nil && (req.URL.Scheme == "http" || !t.secured.IsZero())
	t.mu.Unlock()
	if !shown {
		t.showParsed(req, resp)
	}
	next := redirectedTo(resp)
	err = t.take(resp, next != nil && t.c.follow)
	if t.wire != nil {
		sent, got := t.wire.heads()
		t.requestN, t.headerN = t.requestN+sent, t.headerN+got
	}
	if !t.c.follow {
		next = nil
	}
	return next, err
}

// take reads the body. Of a response that leads elsewhere it is thrown away.
func (t *transfer) take(resp *http.Response, redirect bool) error {
	c := t.c
	bad := resp.StatusCode >= 400
	if bad && c.fail {
		return failed(httpError, "The requested URL returned error: %d", resp.StatusCode)
	}
	body := io.Reader(resp.Body)
	if redirect {
		_, err := io.Copy(io.Discard, body)
		return err
	}
	if c.compressed && resp.Header.Get("Content-Encoding") == "gzip" {
		zr, err := gzip.NewReader(body)
		if err != nil && !errors.Is(err, io.EOF) {
			return failed(61, "Error while processing content unencoding: %v", err)
		}
		if err == nil {
			body = zr
		}
	}
	if c.head {
		body = bytes.NewReader(nil)
	}
	if t.out.toFile() {
		// Also of an empty body there is a file.
		if err := t.out.open(); err != nil {
			return err
		}
	}
	if _, err := io.Copy(t.out, body); err != nil {
		return err
	}
	t.verbose("*", "Connection #0 to host "+t.url.Hostname()+" left intact")
	if bad && c.failWithBody {
		return failed(httpError, "The requested URL returned error: %d", resp.StatusCode)
	}
	return nil
}

// received shows a line of a response's head where it is asked for.
func (t *transfer) received(line string) {
	t.verbose("<", line)
	c := t.c
	if t.dump != nil {
		fmt.Fprintf(t.dump, "%s\r\n", line)
	}
	if c.include || c.head || c.dumpHeader == "-" {
		if !t.out.toFile() && isTerminal(c.out) {
			line = screen.Visible(line)
		}
		_, _ = io.WriteString(t.out, line+"\r\n") // a failure is found with the body
		t.out.n -= int64(len(line) + 2)
	}
}

// showParsed shows heads that did not pass as text.
func (t *transfer) showParsed(req *http.Request, resp *http.Response) {
	proto := strings.TrimSuffix(resp.Proto, ".0")
	t.verbose(">", req.Method+" "+req.URL.RequestURI()+" "+proto)
	t.verbose(">", "Host: "+cmpOr(req.Host, req.URL.Host))
	for _, name := range sortedNames(req.Header) {
		for _, v := range req.Header[name] {
			t.verbose(">", name+": "+v)
		}
	}
	t.verbose(">", "")
	lines := []string{strings.TrimSpace(fmt.Sprintf("%s %d %s", proto, resp.StatusCode, strings.TrimPrefix(resp.Status, number(int64(resp.StatusCode))+" ")))}
	if resp.ProtoMajor == 2 {
		lines[0] = fmt.Sprintf("HTTP/2 %d ", resp.StatusCode)
	}
	for _, name := range sortedNames(resp.Header) {
		for _, v := range resp.Header[name] {
			if resp.ProtoMajor == 2 {
				name = strings.ToLower(name)
			}
			lines = append(lines, name+": "+v)
		}
	}
	for _, l := range append(lines, "") {
		t.headerN += int64(len(l) + 2)
		t.received(l)
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func sortedNames(h http.Header) []string {
	var names []string
	for n := range h {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// trace notes when what happens, and tells it by -v.
func (t *transfer) trace() *httptrace.ClientTrace {
	now := func(to *time.Time) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if to.IsZero() {
			*to = time.Now()
		}
	}
	return &httptrace.ClientTrace{
		DNSDone: func(i httptrace.DNSDoneInfo) {
			now(&t.nameDone)
			if i.Err == nil && t.c.verbose {
				var list []string
				for _, a := range i.Addrs {
					list = append(list, a.String())
				}
				t.verbose("*", "Host was resolved: "+strings.Join(list, ", "))
			}
		},
		ConnectStart: func(_, addr string) { t.verbose("*", "  Trying "+addr+"...") },
		ConnectDone: func(_, addr string, err error) {
			if err != nil {
				t.verbose("*", "connect to "+addr+" failed: "+reason(err))
			}
		},
		GotFirstResponseByte: func() { now(&t.firstByte) },
		GotConn:              func(httptrace.GotConnInfo) { now(&t.sending) },
	}
}

// transport is net/http's, with connections that can be looked at.
func (t *transfer) transport() (*http.Transport, error) {
	config, err := t.tlsConfig()
	if err != nil {
		return nil, err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!t.c.http1)
	return &http.Transport{
		Proxy:       t.proxy(),
		DialContext: t.dialPlain,
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return t.dialTLS(ctx, network, addr, config)
		},
		TLSClientConfig:        config, // behind a proxy
		DisableCompression:     true,
		ForceAttemptHTTP2:      !t.c.http1,
		Protocols:              &protocols,
		MaxResponseHeaderBytes: headMost,
	}, nil
}

func (t *transfer) tlsConfig() (*tls.Config, error) {
	c := t.c
	config := &tls.Config{InsecureSkipVerify: c.insecure} //nolint:gosec // -k is asked for
	if !c.http1 {
		config.NextProtos = []string{"h2", "http/1.1"}
	} else {
		config.NextProtos = []string{"http/1.1"}
	}
	if c.cacert != "" {
		pem, err := os.ReadFile(c.cacert)
		if err != nil {
			return nil, failed(77, "error setting certificate file: %s", c.cacert)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, failed(77, "error setting certificate file: no certificate in %s", c.cacert)
		}
	}
	if c.cert != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, cmpOr(c.key, c.cert))
		if err != nil {
			return nil, failed(58, "could not load the client certificate: %v", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (t *transfer) proxy() func(*http.Request) (*url.URL, error) {
	c := t.c
	if c.unixSocket != "" || c.noProxy == "*" {
		return nil
	}
	if !c.proxySet {
		return http.ProxyFromEnvironment
	}
	return func(r *http.Request) (*url.URL, error) {
		host := r.URL.Hostname()
		for n := range strings.SplitSeq(c.noProxy, ",") {
			n = strings.TrimPrefix(strings.TrimSpace(n), ".")
			if n != "" && (strings.EqualFold(host, n) || strings.HasSuffix(strings.ToLower(host), "."+strings.ToLower(n))) {
				return nil, nil //nolint:nilnil // net/http's word for none
			}
		}
		if c.proxy == "" {
			return nil, nil //nolint:nilnil // net/http's word for none
		}
		u, err := parseURL(c.proxy)
		if err != nil {
			return nil, failed(noProxyName, "Unsupported proxy %q", c.proxy)
		}
		return u, nil
	}
}

// dial connects to where the options lead for an address.
func (t *transfer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c := t.c
	if c.connectTime > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.connectTime)
		defer cancel()
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	for _, rule := range c.connectTo {
		p := splitColons(rule)
		if (p[0] == "" || strings.EqualFold(strings.Trim(p[0], "[]"), host)) && (p[1] == "" || p[1] == port) {
			host, port = cmpOr(strings.Trim(p[2], "[]"), host), cmpOr(p[3], port)
			break
		}
	}
	for _, key := range []string{strings.ToLower(host) + ":" + port, "*:" + port} {
		if to, ok := c.resolve[key]; ok {
			t.verbose("*", "Added "+key+":"+to+" to DNS cache")
			host = to
			break
		}
	}
	switch {
	case c.unixSocket != "":
		network, addr = "unix", c.unixSocket
		t.verbose("*", "  Trying "+addr+"...")
	default:
		addr = hostPort(host, port)
		if c.ipv4 {
			network = "tcp4"
		} else if c.ipv6 {
			network = "tcp6"
		}
	}
	d := net.Dialer{Resolver: &net.Resolver{PreferGo: true}}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, &dialError{host: host, port: port, socket: c.unixSocket, since: t.began, err: err}
	}
	t.mu.Lock()
	t.connects++
	t.local, t.remote = conn.LocalAddr(), conn.RemoteAddr()
	t.connected = time.Now()
	if t.nameDone.IsZero() {
		t.nameDone = t.began // there was nothing to ask for
	}
	t.mu.Unlock()
	if c.unixSocket != "" {
		t.verbose("*", "Connected to "+t.url.Hostname()+" ("+addr+") port "+port)
	} else if remote, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		t.verbose("*", fmt.Sprintf("Connected to %s (%s) port %d", t.url.Hostname(), remote.IP, remote.Port))
	}
	return conn, nil
}

func (t *transfer) dialPlain(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := t.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return t.tap(conn), nil
}

// tap makes what passes a connection seen.
func (t *transfer) tap(conn net.Conn) *wire {
	w := &wire{Conn: conn, sent: func(line string) { t.verbose(">", line) }, received: t.received}
	t.mu.Lock()
	t.wire = w
	t.mu.Unlock()
	return w
}

func (t *transfer) dialTLS(ctx context.Context, network, addr string, config *tls.Config) (net.Conn, error) {
	conn, err := t.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	if config.ServerName, _, err = net.SplitHostPort(addr); err != nil {
		conn.Close()
		return nil, err
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, &handshakeError{err}
	}
	t.mu.Lock()
	t.secured = time.Now()
	t.mu.Unlock()
	state := secure.ConnectionState()
	for _, line := range tlsText(state, t.c.insecure) {
		t.verbose("*", line)
	}
	if state.NegotiatedProtocol == "h2" {
		return secure, nil
	}
	return t.tap(secure), nil
}

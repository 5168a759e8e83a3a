// Package curl is the command curl of the toolbox: one request at a time by HTTP
// or HTTPS, and all that there is to see of it. [Main] takes the command's
// arguments; what it has of curl's options is in options.go, and an option that
// it does not have is an error.
//
// The transfer is net/http's. What -v and -i show of HTTP/1 are the very bytes,
// see wire.go. It does not take redirects to other protocols, keeps no cookies
// and reads no .curlrc.
package curl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"
)

// A failure is an error with curl's number for it, which is the exit status.
type failure struct {
	code int
	text string
}

func (f *failure) Error() string { return f.text }

func failed(code int, format string, args ...any) *failure {
	return &failure{code, fmt.Sprintf(format, args...)}
}

// Numbers of failures, as in curl(1).
const (
	badProtocol  = 1
	badUsage     = 2
	badURL       = 3
	noProxyName  = 5
	noName       = 6
	noConnection = 7
	partialFile  = 18
	httpError    = 22
	writeError   = 23
	readError    = 26
	timedOut     = 28
	tlsError     = 35
	redirects    = 47
	emptyReply   = 52
	recvError    = 56
	badPeer      = 60
)

// Main runs the command with the arguments after its name and returns its exit
// status.
func Main(in io.Reader, out, stderr io.Writer, args []string) int {
	c := &command{in: in, out: out, err: stderr}
	if err := c.parse(args); err != nil {
		fmt.Fprintf(stderr, "curl: %v\ncurl: try 'curl --help' for more information\n", err)
		return badUsage
	}
	switch {
	case c.help:
		c.printHelp()
		return 0
	case c.version:
		fmt.Fprintf(out, "curl (of porthole's tools) net/http\nProtocols: http https\nFeatures: HTTP2 IPv6 SSL UnixSockets\n")
		return 0
	case len(c.urls) == 0:
		fmt.Fprintln(stderr, "curl: (2) no URL specified\ncurl: try 'curl --help' for more information")
		return badUsage
	}
	status := 0
	for i, u := range c.urls {
		if code := c.fetch(u, i); code != 0 {
			status = code
		}
	}
	return status
}

// command is a call of curl.
type command struct {
	in       io.Reader
	out, err io.Writer
	options
}

// errorf tells what has gone wrong, unless it is to be silent.
func (c *command) errorf(format string, args ...any) {
	if !c.silent || c.showError {
		fmt.Fprintf(c.err, "curl: "+format+"\n", args...)
	}
}

// fetch makes one transfer, with its redirects, and returns its status.
func (c *command) fetch(text string, index int) int {
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if c.maxTime > 0 {
		ctx, cancel = context.WithTimeout(ctx, c.maxTime)
	}
	defer cancel()
	t := &transfer{c: c, began: time.Now(), text: text}
	t.out = &output{c: c, name: c.outputName(text, index)}
	err := t.run(ctx)
	if closeErr := t.out.close(); err == nil && closeErr != nil {
		err = closeErr
	}
	code := 0
	if err != nil {
		f := t.classify(ctx, err)
		code = f.code
		t.failure = f
		c.errorf("(%d) %s", f.code, f.text)
	}
	c.writeOut(t)
	return code
}

// outputName is the file for the index-th URL; "-" or empty is the output.
func (c *command) outputName(text string, index int) string {
	if index < len(c.outputs) {
		o := c.outputs[index]
		if !o.remote {
			return o.name
		}
		if u, err := parseURL(text); err == nil {
			if name := path.Base(u.Path); name != "/" && name != "." {
				return name
			}
		}
		return "curl_response"
	}
	return ""
}

// parseURL reads a URL as curl does: without a scheme it is http's.
func parseURL(text string) (*url.URL, error) {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, failed(badURL, "URL using bad/illegal format: it has a blank or a control character")
	}
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, failed(badURL, "URL using bad/illegal format: %v", err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, failed(badProtocol, "Protocol %q not supported", u.Scheme)
	case u.Hostname() == "":
		return nil, failed(badURL, "URL using bad/illegal format or missing URL: no host")
	}
	return u, nil
}

// output is where a body goes. A file is made when the first byte comes.
type output struct {
	c      *command
	name   string
	file   *os.File
	n      int64
	looked bool // whether the first bytes suit a terminal
	failed error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.write(p)
	o.n += int64(n)
	if err != nil && o.failed == nil {
		o.failed = err
	}
	return n, err
}

func (o *output) write(p []byte) (int, error) {
	if o.name == "" || o.name == "-" {
		if o.name == "" && !o.looked {
			o.looked = true
			if isTerminal(o.c.out) && strings.ContainsRune(string(p), 0) {
				o.c.warn("Binary output can mess up your terminal. Use \"--output -\" to tell curl to output it to your terminal anyway, or consider \"--output <FILE>\" to save to a file.")
				return 0, failed(writeError, "Failure writing output to destination")
			}
		}
		n, err := o.c.out.Write(p)
		if err != nil {
			err = failed(writeError, "Failure writing output to destination: %v", err)
		}
		return n, err
	}
	if err := o.open(); err != nil {
		return 0, err
	}
	n, err := o.file.Write(p)
	if err != nil {
		err = failed(writeError, "client returned ERROR on write: %v", err)
	}
	return n, err
}

func (c *command) warn(text string) {
	if !c.silent {
		fmt.Fprintln(c.err, "Warning: "+text)
	}
}

func (o *output) open() error {
	if o.file != nil {
		return nil
	}
	if o.c.createDirs {
		if err := os.MkdirAll(filepath.Dir(o.name), 0o755); err != nil {
			return failed(writeError, "%v", err)
		}
	}
	f, err := os.Create(o.name)
	if err != nil {
		return failed(writeError, "client returned ERROR on write: %v", err)
	}
	o.file = f
	return nil
}

func (o *output) toFile() bool { return o.name != "" && o.name != "-" }

func (o *output) close() error {
	if o.file == nil {
		return nil
	}
	if err := o.file.Close(); err != nil {
		return failed(writeError, "%v", err)
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// endpoint is the address of a URL's server as HOST and PORT.
func endpoint(u *url.URL) (host, port string) {
	port = u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Hostname(), port
}

// redirectedTo is where a response sends the client; nil: nowhere.
func redirectedTo(r *http.Response) *url.URL {
	if r.StatusCode < 300 || r.StatusCode > 399 {
		return nil
	}
	to, err := r.Location()
	if err != nil {
		return nil
	}
	return to
}

// hostPort is HOST:PORT for a dialer.
func hostPort(host, port string) string { return net.JoinHostPort(host, port) }

func number(n int64) string { return strconv.FormatInt(n, 10) }

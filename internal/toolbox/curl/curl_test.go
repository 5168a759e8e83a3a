package curl

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// echo answers with what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	switch r.URL.Path {
	case "/missing":
		http.Error(w, "no such page", http.StatusNotFound)
	case "/moved":
		http.Redirect(w, r, "/there", http.StatusFound)
	case "/kept":
		http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
	case "/loop":
		http.Redirect(w, r, "/loop", http.StatusFound)
	case "/header":
		w.Header().Set("X-Odd", "a\u009b31mb")
	case "/form":
		r.Body = io.NopCloser(bytes.NewReader(body))
		f, h, err := r.FormFile("f")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		data, _ := io.ReadAll(f)
		fmt.Fprintf(w, "%s %s %s\n", r.FormValue("a"), h.Filename, data)
	default:
		fmt.Fprintf(w, "%s %s\n", r.Method, r.URL.RequestURI())
		for _, h := range []string{"Accept", "Content-Type", "Authorization", "Cookie", "Range", "X-One", "Referer", "User-Agent"} {
			if v := r.Header.Get(h); v != "" {
				fmt.Fprintf(w, "%s: %s\n", h, v)
			}
		}
		if len(body) > 0 {
			fmt.Fprintf(w, "%s\n", body)
		}
	}
}

func run(t *testing.T, stdin string, args ...string) (out, stderr string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = Main(strings.NewReader(stdin), &o, &e, args)
	return o.String(), e.String(), code
}

func TestRequests(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(echo))
	defer server.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "data")
	if err := os.WriteFile(file, []byte("one\ntwo\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const common = "Accept: */*\n"
	const agent = "User-Agent: curl (porthole)\n"
	const form = "Content-Type: application/x-www-form-urlencoded\n"
	tests := []struct {
		name  string
		path  string
		args  []string
		stdin string
		out   string
		code  int
	}{
		{name: "get", path: "/a?b=c", out: "GET /a?b=c\n" + common + agent},
		{name: "method", path: "/", args: []string{"-X", "DELETE"}, out: "DELETE /\n" + common + agent},
		{name: "method in one word", path: "/", args: []string{"-sXPATCH"}, out: "PATCH /\n" + common + agent},
		{name: "data", path: "/", args: []string{"-d", "a=1", "-d", "b=2"}, out: "POST /\n" + common + form + agent + "a=1&b=2\n"},
		{name: "data of a file has no line ends", path: "/", args: []string{"-d", "@" + file}, out: "POST /\n" + common + form + agent + "onetwo\n"},
		{name: "binary data of a file has", path: "/", args: []string{"--data-binary", "@" + file}, out: "POST /\n" + common + form + agent + "one\ntwo\n\n"},
		{name: "data of the input", path: "/", args: []string{"-d", "@-"}, stdin: "x=y", out: "POST /\n" + common + form + agent + "x=y\n"},
		{name: "raw data", path: "/", args: []string{"--data-raw", "@x"}, out: "POST /\n" + common + form + agent + "@x\n"},
		{name: "encoded data", path: "/", args: []string{"--data-urlencode", "q=a b&c"}, out: "POST /\n" + common + form + agent + "q=a%20b%26c\n"},
		{name: "data in the URL", path: "/?x=1", args: []string{"-G", "-d", "a=1"}, out: "GET /?x=1&a=1\n" + common + agent},
		{name: "json", path: "/", args: []string{"--json", `{"a":1}`}, out: "POST /\nAccept: application/json\nContent-Type: application/json\n" + agent + `{"a":1}` + "\n"},
		{name: "upload", path: "/up", args: []string{"-T", file}, out: "PUT /up\n" + common + agent + "one\ntwo\n\n"},
		{name: "upload into a folder", path: "/up/", args: []string{"-T", file}, out: "PUT /up/data\n" + common + agent + "one\ntwo\n\n"},
		{name: "form", path: "/form", args: []string{"-F", "a=b", "-F", "f=@" + file + ";filename=x"}, out: "b x one\ntwo\n\n"},
		{name: "headers", path: "/", args: []string{"-H", "X-One: 1", "-H", "Accept:", "-A", "me", "-e", "from"}, out: "GET /\nX-One: 1\nReferer: from\nUser-Agent: me\n"},
		{name: "user", path: "/", args: []string{"-u", "a:b"}, out: "GET /\n" + common + "Authorization: Basic YTpi\n" + agent},
		{name: "cookie and range", path: "/", args: []string{"-b", "k=v", "-r", "0-3"}, out: "GET /\n" + common + "Cookie: k=v\nRange: bytes=0-3\n" + agent},
		{name: "not followed", path: "/moved", args: []string{"-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"}, out: "302 URL/there"},
		{name: "followed", path: "/moved", args: []string{"-L", "-w", "%{num_redirects} %{url_effective}\\n"}, out: "GET /there\n" + common + agent + "1 URL/there\n"},
		{name: "a post that is followed becomes a get", path: "/moved", args: []string{"-L", "-d", "x"}, out: "GET /there\n" + common + agent},
		{name: "but not after 307", path: "/kept", args: []string{"-L", "-d", "x"}, out: "POST /there\n" + common + form + agent + "x\n"},
		{name: "a loop", path: "/loop", args: []string{"-sL", "--max-redirs", "3"}, code: redirects},
		{name: "not found", path: "/missing", out: "no such page\n"},
		{name: "not found, to fail", path: "/missing", args: []string{"-f"}, code: httpError},
		{name: "not found, to fail with body", path: "/missing", args: []string{"--fail-with-body"}, out: "no such page\n", code: httpError},
		{name: "sizes", path: "/x", args: []string{"-s", "-o", "/dev/null", "-w", "%{size_download} %{content_type} %{http_version} %{method} %{num_connects} %{exitcode}%%"}, out: "47 text/plain; charset=utf-8 1.1 GET 1 0%"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, stderr, code := run(t, tt.stdin, append(tt.args, server.URL+tt.path)...)
			out = strings.ReplaceAll(out, server.URL, "URL")
			if diff := cmp.Diff([]any{tt.out, tt.code}, []any{out, code}); diff != "" {
				t.Errorf("(-want +got)\n%s\n%s", diff, stderr)
			}
		})
	}
}

// What -v and -i show is what passed.
func TestVerbose(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(echo))
	defer server.Close()
	out, stderr, code := run(t, "", "-sv", "-i", "-H", "x-lower: 1", server.URL+"/header")
	if code != 0 {
		t.Fatalf("status %d: %s", code, stderr)
	}
	for _, want := range []string{`\*   Trying 127\.0\.0\.1:`, `\* Connected to 127\.0\.0\.1 \(127\.0\.0\.1\) port `, `> GET /header HTTP/1\.1\n`, `> x-lower: 1\n`, `>\n`, `< HTTP/1\.1 200 OK\n`, `< X-Odd: a<U\+009B>31mb\n`} {
		if !regexp.MustCompile(want).MatchString(stderr) {
			t.Errorf("%q is not in\n%s", want, stderr)
		}
	}
	if strings.Contains(stderr, "\u009b") {
		t.Errorf("a header reaches the terminal as it is: %q", stderr)
	}
	// Into a file or a pipe they go unchanged.
	if !strings.HasPrefix(out, "HTTP/1.1 200 OK\r\n") || !strings.Contains(out, "X-Odd: a\u009b31mb\r\n") || !strings.HasSuffix(out, "\r\n\r\n") {
		t.Errorf("-i gave %q", out)
	}
	out, _, _ = run(t, "", "-I", server.URL+"/header")
	if !strings.HasPrefix(out, "HTTP/1.1 200 OK\r\n") {
		t.Errorf("-I gave %q", out)
	}
}

func TestTimes(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(echo))
	defer server.Close()
	format := "%{time_namelookup} %{time_connect} %{time_appconnect} %{time_pretransfer} %{time_starttransfer} %{time_total}"
	out, stderr, code := run(t, "", "-sk", "-o", "/dev/null", "-w", format, server.URL)
	if code != 0 {
		t.Fatalf("status %d: %s", code, stderr)
	}
	var last float64
	for i, text := range strings.Fields(out) {
		var at float64
		if _, err := fmt.Sscan(text, &at); err != nil || at < last || i > 0 && at == 0 {
			t.Errorf("times %q do not follow one another: %v", out, err)
		}
		last = at
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, data, 0o644); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := run(t, "", server.URL)
	if code != badPeer || !strings.Contains(stderr, "curl: (60) SSL certificate problem: ") {
		t.Errorf("an unknown certificate: %d, %q", code, stderr)
	}
	out, stderr, code := run(t, "", "-vi", "--cacert", ca, server.URL+"/two")
	if code != 0 || !strings.HasPrefix(out, "HTTP/2 200 \r\ncontent-length: ") || !strings.Contains(out, "GET /two\n") {
		t.Errorf("HTTP/2: %d, %q, %q", code, out, stderr)
	}
	for _, want := range []string{"* SSL connection using TLSv1.3 / ", "* ALPN: server accepted h2\n", "*  issuer: ", "> GET /two HTTP/2\n", "< HTTP/2 200\n"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not in\n%s", want, stderr)
		}
	}
	// By a name of ours: the certificate is example.com's.
	address := server.Listener.Addr().(*net.TCPAddr)
	out, stderr, code = run(t, "", "-s", "--http1.1", "--cacert", ca, "--resolve", fmt.Sprintf("example.com:%d:127.0.0.1", address.Port),
		"-w", "%{http_version} %{remote_ip} %{remote_port} %{scheme}", fmt.Sprintf("https://example.com:%d/", address.Port))
	if want := fmt.Sprintf("1.1 127.0.0.1 %d https", address.Port); code != 0 || !strings.HasSuffix(out, want) {
		t.Errorf("--resolve: %d, %q, %q", code, out, stderr)
	}
	out, stderr, code = run(t, "", "-s", "--http1.1", "--cacert", ca, "--connect-to", "example.com:443:"+address.String(), "-o", "/dev/null", "-w", "%{http_code}", "https://example.com/")
	if code != 0 || out != "200" {
		t.Errorf("--connect-to: %d, %q, %q", code, out, stderr)
	}
}

func TestUnixSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(echo)}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	out, stderr, code := run(t, "", "--unix-socket", socket, "http://any/path")
	if code != 0 || !strings.HasPrefix(out, "GET /path\n") {
		t.Errorf("%d, %q, %q", code, out, stderr)
	}
	_, stderr, code = run(t, "", "--unix-socket", socket+"x", "http://any/path")
	if code != noConnection || !strings.Contains(stderr, "No such file or directory") {
		t.Errorf("no socket: %d, %q", code, stderr)
	}
}

func TestProxy(t *testing.T) {
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.RequestURI
		fmt.Fprintln(w, "by the proxy")
	}))
	defer server.Close()
	out, stderr, code := run(t, "", "-x", server.URL, "http://nosuch.invalid/x")
	if code != 0 || out != "by the proxy\n" || asked != "http://nosuch.invalid/x" {
		t.Errorf("%d, %q, %q, asked %q", code, out, stderr, asked)
	}
}

// Credentials do not go to another host than the one they are for.
func TestCredentialsStay(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(echo))
	defer other.Close()
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/there", http.StatusFound)
	}))
	defer first.Close()
	out, _, code := run(t, "", "-sL", "-u", "a:b", "-H", "Cookie: c=d", first.URL)
	if code != 0 || strings.Contains(out, "Authorization") || strings.Contains(out, "Cookie") {
		t.Errorf("%d, %q", code, out)
	}
}

func TestFailures(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	broken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	go answer(broken)
	base := "http://" + broken.Addr().String()
	tests := []struct {
		name   string
		args   []string
		stderr string
		code   int
	}{
		{"no URL", nil, `no URL specified`, badUsage},
		{"unknown option", []string{"--nonsense", "x"}, `^curl: option --nonsense: is unknown\n`, badUsage},
		{"unknown letter", []string{"-Z", "x"}, `^curl: option -Z: is unknown\n`, badUsage},
		{"no value", []string{"x", "-o"}, `option -o: requires parameter`, badUsage},
		{"no number", []string{"-m", "soon", "x"}, `--max-time: expected a proper numerical parameter`, badUsage},
		{"two methods", []string{"-I", "-d", "x", "x"}, `only select one HTTP request`, badUsage},
		{"protocol", []string{"ftp://x/"}, `^curl: \(1\) Protocol "ftp" not supported`, badProtocol},
		{"blank in a path", []string{"http://a/b c"}, `^curl: \(3\) URL`, badURL},
		{"URL", []string{"http://a b/"}, `^curl: \(3\) URL`, badURL},
		{"nobody there", []string{"http://" + nobody}, `^curl: \(7\) Failed to connect to 127\.0\.0\.1 port \d+ after \d+ ms: Connection refused`, noConnection},
		{"too late", []string{"-m", "0.2", "http://" + silent.Addr().String()}, `^curl: \(28\) Operation timed out after \d+ milliseconds with 0 bytes received`, timedOut},
		{"silent", []string{"-s", "http://" + nobody}, `^$`, noConnection},
		{"silent, but errors", []string{"-sS", "http://" + nobody}, `^curl: \(7\)`, noConnection},
		{"empty", []string{base + "/empty"}, `^curl: \(52\) Empty reply`, emptyReply},
		{"no HTTP", []string{base + "/ssh"}, `^curl: \(1\) Received HTTP/0.9`, badProtocol},
		{"cut short", []string{base + "/short"}, `^curl: \(18\) transfer closed with 7 bytes remaining`, partialFile},
		{"variable", []string{"-s", "-w", "%{nonsense}", base + "/empty"}, `unknown --write-out variable: 'nonsense'`, emptyReply},
		{"output", []string{"-o", "/nonexistent/x", base + "/short"}, `^curl: \(23\)`, writeError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, stderr, code := run(t, "", tt.args...)
			if code != tt.code || !regexp.MustCompile(tt.stderr).MatchString(stderr) {
				t.Errorf("%d, %q; want %d, %q", code, stderr, tt.code, tt.stderr)
			}
		})
	}
}

// answer is a server with faults.
func answer(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		buf := make([]byte, 4096)
		n, _ := c.Read(buf)
		_, rest, _ := strings.Cut(string(buf[:n]), " ")
		path, _, _ := strings.Cut(rest, " ")
		_, _ = io.WriteString(c, map[string]string{
			"/ssh":   "SSH-2.0-x\r\n",
			"/short": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
		}[path])
		c.Close()
	}
}

func TestOutputFiles(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(echo))
	defer server.Close()
	t.Chdir(t.TempDir())
	if _, stderr, code := run(t, "", "--create-dirs", "-o", "d/one", "-O", "-D", "heads", server.URL+"/first", server.URL+"/dir/second"); code != 0 {
		t.Fatalf("%d: %s", code, stderr)
	}
	for name, want := range map[string]string{"d/one": "GET /first\n", "second": "GET /dir/second\n", "heads": "HTTP/1.1 200 OK\r\n"} {
		if data, err := os.ReadFile(name); err != nil || !strings.HasPrefix(string(data), want) {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

// The heads are found however they are cut.
func FuzzWire(f *testing.F) {
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"), 3)
	f.Add([]byte("\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		if size < 1 {
			size = 1
		}
		var whole, parts []string
		var a, b head
		n := a.feed(data, func(l string) { whole = append(whole, l) })
		var m int64
		for rest := data; len(rest) > 0; {
			k := min(size, len(rest))
			m += b.feed(rest[:k], func(l string) { parts = append(parts, l) })
			rest = rest[k:]
		}
		if diff := cmp.Diff(whole, parts); diff != "" || n != m {
			t.Errorf("%d and %d bytes (-whole +in parts)\n%s", n, m, diff)
		}
	})
}

func TestParseURL(t *testing.T) {
	for text, want := range map[string]string{"a": "http://a", "a:8080/x": "http://a:8080/x", "https://[::1]/": "https://[::1]/"} {
		got, err := parseURL(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.String()); diff != "" {
			t.Error(diff)
		}
	}
}

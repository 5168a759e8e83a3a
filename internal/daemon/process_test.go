package daemon

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

func TestParseHost(t *testing.T) {
	tests := []struct {
		host string
		tls  bool
		want string
		err  string
	}{
		{host: "unix:///run//x.sock", want: "unix:///run/x.sock"},
		{host: "/run/x.sock", want: "unix:///run/x.sock"},
		{host: "unix://x.sock", err: "absolute"},
		{host: "fd://", want: "fd://"},
		{host: "fd://porthole.socket", want: "fd://porthole.socket"},
		{host: "tcp://0.0.0.0", want: "tcp://0.0.0.0:2375"},
		{host: "tcp://0.0.0.0", tls: true, want: "tcp://0.0.0.0:2376"},
		{host: "tcp://", want: "tcp://127.0.0.1:2375"},
		{host: "tcp://:99", want: "tcp://127.0.0.1:99"},
		{host: "tcp://[::1]:99", want: "tcp://[::1]:99"},
		{host: "tcp://[::1]", want: "tcp://[::1]:2375"},
		{host: "localhost:99", want: "tcp://localhost:99"},
		{host: "tcp://x:port", err: "invalid port"},
		{host: "tcp://x:70000", err: "invalid port"},
		{host: "tcp://x/path", err: "path element"},
		{host: "npipe:////./pipe/x", err: "invalid bind address format"},
	}
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			got, err := ParseHost(tt.host, tt.tls)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "p.sock")
	c := Defaults()
	c.Hosts, c.Group = []string{"unix://" + path}, "1"
	listen := func() (net.Listener, error) {
		l, err := Listen(t.Context(), c, quiet)
		if err != nil {
			return nil, err
		}
		return l[0], nil
	}
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o660 || st.Sys().(*syscall.Stat_t).Gid != 1 {
		t.Errorf("mode %v, group %d", st.Mode(), st.Sys().(*syscall.Stat_t).Gid)
	}
	if _, err := listen(); err == nil || !strings.Contains(err.Error(), "is in use by another process") {
		t.Errorf("a socket in use: %v", err)
	}
	// As after a crash: the file is there, nobody listens.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	if l, err = listen(); err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	_ = l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("a file: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("somebody's file is gone: %v", err)
	}
}

// TestCloseExecRoot: who may connect passes through the exec root, and nobody else.
func TestCloseExecRoot(t *testing.T) {
	type socket struct {
		path string // below the test's folder
		mode fs.FileMode
		gid  int
		gone bool // removed before it is looked at
	}
	group := socket{path: "exec/a.sock", mode: 0o660, gid: 7}
	tests := map[string]struct {
		was     fs.FileMode
		sockets []socket
		want    fs.FileMode
		gid     int
	}{
		"a socket for a group":         {0o700, []socket{group}, 0o710, 7},
		"as older daemons made it":     {0o711, []socket{group}, 0o710, 7},
		"by a link":                    {0o711, []socket{{path: "link/a.sock", mode: 0o660, gid: 7}}, 0o710, 7},
		"in a directory inside":        {0o711, []socket{{path: "exec/in/a.sock", mode: 0o660, gid: 7}}, 0o710, 7},
		"two for one group":            {0o700, []socket{group, {path: "exec/b.sock", mode: 0o660, gid: 7}}, 0o710, 7},
		"two for two groups":           {0o700, []socket{group, {path: "exec/b.sock", mode: 0o660, gid: 8}}, 0o711, 0},
		"one more for root":            {0o700, []socket{group, {path: "exec/b.sock", mode: 0o660, gid: 0}}, 0o710, 7},
		"for everybody":                {0o700, []socket{group, {path: "exec/b.sock", mode: 0o666, gid: 7}}, 0o711, 0},
		"for root":                     {0o711, []socket{{path: "exec/a.sock", mode: 0o600, gid: 7}}, 0o700, 0},
		"one that is removed":          {0o711, []socket{{path: "exec/a.sock", mode: 0o660, gid: 7, gone: true}, {path: "exec/b.sock", mode: 0o660, gid: 8}}, 0o710, 8},
		"elsewhere":                    {0o711, []socket{{path: "a.sock", mode: 0o666, gid: 7}}, 0o700, 0},
		"a directory with other modes": {0o755, []socket{group}, 0o755, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "exec") //nolint:usetesting // the names of sockets are short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			c := Defaults()
			c.ExecRoot = filepath.Join(dir, "exec")
			if err := errors.Join(os.MkdirAll(filepath.Join(c.ExecRoot, "in"), 0o711), os.Symlink("exec", filepath.Join(dir, "link")), os.Chmod(c.ExecRoot, tt.was)); err != nil {
				t.Fatal(err)
			}
			var listeners []net.Listener
			for _, s := range tt.sockets {
				path := filepath.Join(dir, s.path)
				l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				if err := errors.Join(os.Chown(path, 0, s.gid), os.Chmod(path, s.mode)); err != nil {
					t.Fatal(err)
				}
				if s.gone {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				}
				listeners = append(listeners, l)
			}
			if err := c.CloseExecRoot(listeners); err != nil {
				t.Fatal(err)
			}
			st, err := os.Stat(c.ExecRoot)
			if err != nil {
				t.Fatal(err)
			}
			if gid := int(st.Sys().(*syscall.Stat_t).Gid); st.Mode().Perm() != tt.want || gid != tt.gid {
				t.Errorf("mode %v, group %d; want %v, %d", st.Mode().Perm(), gid, tt.want, tt.gid)
			}
		})
	}
}

func TestListenGroupMissing(t *testing.T) {
	c := Defaults()
	c.Hosts, c.Group = []string{"unix://" + filepath.Join(t.TempDir(), "s")}, "no-such-group"
	if _, err := Listen(t.Context(), c, quiet); err == nil || !strings.Contains(err.Error(), "group no-such-group not found") {
		t.Errorf("a group that was asked for: %v", err)
	}
	// Only the default group may be missing; this machine has none of that name
	// unless Porthole is installed, and then the socket is the group's.
	var log strings.Builder
	c.Group = DefaultGroup
	l, err := Listen(t.Context(), c, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer l[0].Close()
	if _, err := lookupGroup(DefaultGroup); err != nil && !strings.Contains(log.String(), "socket is for root only") {
		t.Errorf("no warning: %s", log.String())
	}
}

func TestListenFailsAsAWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	c := Defaults()
	c.Group = ""
	c.Hosts = []string{"unix://" + path, "fd://"}
	if _, err := Listen(t.Context(), c, quiet); err == nil || !strings.Contains(err.Error(), "no sockets found via socket activation") {
		t.Fatalf("error %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the first socket is left: %v", err)
	}
}

// authority makes certificates.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.key, a.cert = a.make("ca", nil)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) make(name string, parent *x509.Certificate, change ...func(*x509.Certificate)) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, c := range change {
		c(tmpl)
	}
	signer := a.key
	if parent == nil {
		parent, signer = tmpl, key
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.pem(name+".pem", "CERTIFICATE", der)
	a.pem(name+"-key.pem", "EC PRIVATE KEY", keyDER)
	return key, cert
}

func (a *authority) pem(name, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func TestListenTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	ours.make("server", ours.cert)
	ours.make("client", ours.cert)
	theirs.make("client", theirs.cert)
	ours.make("expired", ours.cert, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	ours.make("future", ours.cert, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) })
	ours.make("onlyserver", ours.cert, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	c := Defaults()
	c.Hosts, c.TLS, c.TLSVerify = []string{"tcp://127.0.0.1:0"}, true, true
	c.TLSCACert, c.TLSCert, c.TLSKey = ours.path("ca.pem"), ours.path("server.pem"), ours.path("server-key.pem")
	l, err := Listen(t.Context(), c, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer l[0].Close()
	go func() {
		for {
			conn, err := l[0].Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = fmt.Fprintln(conn, "hello")
				_ = conn.Close()
			}()
		}
	}()
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	tests := []struct {
		name string
		from *authority
		file string
		says string // empty: it is let in
	}{
		{"our client", ours, "client", ""},
		{"a client of another authority", theirs, "client", "unknown certificate authority"},
		{"no certificate", nil, "", "certificate required"},
		{"a certificate that has expired", ours, "expired", "expired certificate"},
		{"one that is not valid yet", ours, "future", "expired certificate"},
		{"one that is not for clients", ours, "onlyserver", "bad certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := &tls.Config{RootCAs: roots, NextProtos: []string{"h2", "http/1.1"}}
			if tt.from != nil {
				pair, err := tls.LoadX509KeyPair(tt.from.path(tt.file+".pem"), tt.from.path(tt.file+"-key.pem"))
				if err != nil {
					t.Fatal(err)
				}
				// Sent also if the server has not asked for its authority.
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
			}
			conn, err := tls.Dial("tcp", l[0].Addr().String(), config)
			line := ""
			if err == nil {
				defer conn.Close()
				if p := conn.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
					t.Errorf("protocol %q", p)
				}
				line, err = bufio.NewReader(conn).ReadString('\n')
			}
			if tt.says == "" && (err != nil || line != "hello\n") {
				t.Errorf("%q, %v", line, err)
			}
			if tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("%q, %v; want %q", line, err, tt.says)
			}
		})
	}
	c.TLSKey = ours.path("client-key.pem")
	if _, err := Listen(t.Context(), c, quiet); err == nil || !strings.Contains(err.Error(), "invalid TLS configuration") {
		t.Errorf("a key of another certificate: %v", err)
	}
}

func TestInsecureListenerIsWarnedOf(t *testing.T) {
	var log strings.Builder
	c := Defaults()
	c.Hosts = []string{"tcp://127.0.0.1:0"}
	l, err := Listen(t.Context(), c, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer l[0].Close()
	if !strings.Contains(log.String(), "without --tlsverify is insecure") {
		t.Errorf("log %q", log.String())
	}
}

func TestClaim(t *testing.T) {
	dir := t.TempDir()
	c := Defaults()
	c.DataRoot, c.ExecRoot = filepath.Join(dir, "data"), filepath.Join(dir, "exec")
	c.Pidfile = filepath.Join(c.ExecRoot, "portholed.pid")
	h, err := Claim(c)
	if err != nil {
		t.Fatal(err)
	}
	me := fmt.Sprint(os.Getpid())
	if text, err := os.ReadFile(c.Pidfile); err != nil || string(text) != me {
		t.Errorf("pid file %q, %v", text, err)
	}
	if st, err := os.Stat(c.DataRoot); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("data root %v, %v", st.Mode(), err)
	}
	want := fmt.Sprintf("data root %q is in use by another daemon, pid %s", c.DataRoot, me)
	if _, err := Claim(c); err == nil || err.Error() != want {
		t.Errorf("a second daemon: %v, want %s", err, want)
	}
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
	for was, want := range map[fs.FileMode]fs.FileMode{0o711: 0o700, 0o755: 0o755, fs.ModeSticky | 0o711: fs.ModeSticky | 0o711} {
		if err := os.Chmod(c.DataRoot, was); err != nil {
			t.Fatal(err)
		}
		if h, err = Claim(c); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(c.DataRoot); err != nil || st.Mode()&^fs.ModeDir != want {
			t.Errorf("a data root with mode %v has %v afterwards, %v; want %v", was, st.Mode(), err, want)
		}
		if err := h.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(c.Pidfile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pid file is left: %v", err)
	}
	// A pid file that names a process of another program is a leftover.
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	if err := os.WriteFile(c.Pidfile, fmt.Append(nil, sleep.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err = Claim(c); err != nil {
		t.Fatalf("a leftover pid file: %v", err)
	}
	_ = h.Release()
	// One that names a running daemon is not.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command(self, "-test.run=^TestHelperSleeps$")
	other.Env = append(os.Environ(), "HELPER_SLEEPS=1")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	if err := os.WriteFile(c.Pidfile, fmt.Append(nil, other.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	want = fmt.Sprintf("process with PID %d is still running", other.Process.Pid)
	if _, err := Claim(c); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a running daemon's pid file: %v, want %s", err, want)
	}
}

// TestHelperSleeps is no test: TestClaim runs it as a daemon.
func TestHelperSleeps(t *testing.T) {
	if os.Getenv("HELPER_SLEEPS") != "" {
		select {} // until it is killed
	}
}

func TestCheckHost(t *testing.T) {
	if err := CheckHost(); err != nil {
		t.Errorf("this machine runs the tests of containers, but: %v", err)
	}
}

func TestFindShim(t *testing.T) {
	if _, err := FindShim(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a shim that is not there: %v", err)
	}
	if _, err := FindShim(""); err == nil || !strings.Contains(err.Error(), "name it with --shim") {
		t.Errorf("no shim beside the test: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(filepath.Dir(self), "porthole-shim")
	if err := os.WriteFile(beside, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(beside) }) // for a test that runs more than once
	if got, err := FindShim(""); err != nil || got != beside {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDumpStacks(t *testing.T) {
	path, err := DumpStacks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "TestDumpStacks") {
		t.Errorf("%v: %.200s", err, text)
	}
	if !strings.HasPrefix(filepath.Base(path), "goroutine-stacks-") {
		t.Errorf("path %s", path)
	}
}

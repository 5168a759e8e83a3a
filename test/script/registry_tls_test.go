package script

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

// registryAddr is where the registries of these tests are: no loopback address, which would be asked without TLS.
const registryAddr = "192.0.2.50"

// The password of the registry, as htpasswd has it.
const (
	registryUser     = "tester"
	registryPassword = "secret"
	registryHash     = "tester:$2y$05$fD9QBv7aWTow9cmQqm6utO7IYRbFdKXXgruqtGfU8nTp6sTBuaZIa\n"
)

// TestRegistryTLS uses a registry with a certificate of an authority of its own, which certs.d names, with a password
// that a credential helper keeps, by both command lines.
func TestRegistryTLS(t *testing.T) {
	testenv.NeedsProgram(t, "docker-registry")
	certs := t.TempDir()
	d := startDaemon(t, "--registry-certs-dir", certs)
	d.addAddress(registryAddr)
	ca := d.tlsRegistry(registryAddr + ":5000")
	name := registryAddr + ":5000/team/busybox:1"
	d.porthole("load", "-q", "-i", filepath.Join(bed.ImageDir(), "busybox_latest.tar"))
	d.porthole("tag", "busybox", name)

	// Nobody vouches for it.
	if out, err := d.Porthole(t.Context(), "pull", name); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("without its authority: %q, %v", out, err)
	}
	writeFile(t, filepath.Join(certs, registryAddr+":5000", "ca.crt"), ca, 0o644)
	if out, err := d.Porthole(t.Context(), "push", name); err == nil || !strings.Contains(err.Error(), "push access denied") {
		t.Errorf("without a password: %q, %v", out, err)
	}
	for _, program := range []string{d.Program("porthole"), "docker"} {
		t.Run(filepath.Base(program), func(t *testing.T) {
			h := newHelper(t)
			run := func(stdin string, args ...string) (string, error) {
				cmd := exec.CommandContext(t.Context(), program, args...)
				cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.Host(), "DOCKER_CONFIG="+h.config, "PATH="+h.bin+":"+os.Getenv("PATH"))
				cmd.Stdin = strings.NewReader(stdin)
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			must := func(args ...string) string {
				t.Helper()
				out, err := run("", args...)
				if err != nil {
					t.Fatalf("%q: %v\n%s", args, err, out)
				}
				return out
			}
			if out, err := run("wrong", "login", "-u", registryUser, "--password-stdin", registryAddr+":5000"); err == nil || h.stored() != "" {
				t.Errorf("a wrong password: %q, %v; kept %q", out, err, h.stored())
			}
			if out, err := run(registryPassword, "login", "-u", registryUser, "--password-stdin", registryAddr+":5000"); err != nil {
				t.Fatalf("login: %v\n%s", err, out)
			}
			if !strings.Contains(h.stored(), `"Secret":"`+registryPassword+`"`) {
				t.Errorf("the helper keeps %q", h.stored())
			}
			if config := readFile(t, filepath.Join(h.config, "config.json")); strings.Contains(config, `"auth":`) {
				t.Errorf("the file keeps the password beside the helper: %s", config)
			}
			must("push", "-q", name)
			must("rmi", name)
			must("pull", "-q", name)
			if out := must("run", "--rm", name, "echo", "it runs"); out != "it runs\n" {
				t.Errorf("run: %q", out)
			}
			must("logout", registryAddr+":5000")
			if h.stored() != "" {
				t.Errorf("after logout the helper keeps %q", h.stored())
			}
			if out, err := run("", "pull", name); err == nil || !strings.Contains(out, "pull access denied") {
				t.Errorf("pull after logout: %q, %v", out, err)
			}
		})
	}
	// The name of the user is no secret, the password is.
	basic := "dGVzdGVyOnNlY3JldA" // of both, as it is sent
	for what, text := range map[string]string{
		"log": readFile(t, d.LogPath()), "events": d.porthole("events", "--since", "10m", "--until", "0s", "--actor", "--format", "json"),
	} {
		for _, secret := range []string{`"` + registryPassword, "=" + registryPassword, " " + registryPassword, basic} {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("the %s has %q: …%s…", what, secret, text[max(0, at-200):min(len(text), at+50)])
			}
		}
	}
}

// TestRegistryMirror pulls an image of Docker Hub from a mirror.
func TestRegistryMirror(t *testing.T) {
	const at = "127.0.0.1:5001"
	d := startDaemon(t, "--registry-mirror", "http://"+at)
	d.addAddress("127.0.0.1")
	var l net.Listener
	var err error
	testenv.InNetNS(t, d.net, func() error {
		l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", at)
		return err
	})
	server := httptest.NewUnstartedServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)

	d.porthole("load", "-q", "-i", filepath.Join(bed.ImageDir(), "busybox_latest.tar"))
	d.porthole("tag", "busybox", at+"/library/mirrored:1")
	d.porthole("push", "-q", at+"/library/mirrored:1")
	d.porthole("rmi", at+"/library/mirrored:1")
	if out := d.porthole("pull", "mirrored:1"); !strings.Contains(out, "Downloaded newer image for mirrored:1") {
		t.Errorf("pull: %q", out)
	}
	if out := d.porthole("run", "--rm", "--network", "none", "mirrored:1", "echo", "it runs"); strings.TrimSpace(out) != "it runs" {
		t.Errorf("run: %q", out)
	}
	if out := d.porthole("info", "--format", "{{.RegistryConfig.Mirrors}} {{(index .RegistryConfig.IndexConfigs \"docker.io\").Mirrors}}"); strings.TrimSpace(out) != "[http://127.0.0.1:5001/] [http://127.0.0.1:5001/]" {
		t.Errorf("info: %q", out)
	}
}

// addAddress gives the daemon's network an address, and brings its loopback interface up.
func (d *ownDaemon) addAddress(addr string) {
	d.t.Helper()
	testenv.InNetNS(d.t, d.net, func() error {
		for _, args := range [][]string{{"link", "set", "lo", "up"}, {"addr", "replace", addr + "/32", "dev", "lo"}} {
			if out, err := exec.CommandContext(d.t.Context(), "ip", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %q: %w: %s", args, err, out)
			}
		}
		return nil
	})
}

// tlsRegistry starts a registry with a password in the daemon's network, and returns its authority's certificate.
func (d *ownDaemon) tlsRegistry(addr string) (ca []byte) {
	t := d.t
	t.Helper()
	dir := t.TempDir()
	host, _, _ := net.SplitHostPort(addr)
	ca, cert, key := certificates(t, host)
	for name, data := range map[string][]byte{
		"cert.pem": cert, "key.pem": key, "htpasswd": []byte(registryHash),
		"config.yml": fmt.Appendf(nil, `version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: %[1]s/data}}
http: {addr: "%[2]s", tls: {certificate: %[1]s/cert.pem, key: %[1]s/key.pem}}
auth: {htpasswd: {realm: test, path: %[1]s/htpasswd}}
`, dir, addr),
	} {
		writeFile(t, filepath.Join(dir, name), data, 0o600)
	}
	var output bytes.Buffer
	cmd := exec.Command("docker-registry", "serve", filepath.Join(dir, "config.yml"))
	cmd.Stdout, cmd.Stderr = &output, &output
	testenv.InNetNS(t, d.net, cmd.Start)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("the registry said:\n%s", output.String())
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var err error
		testenv.InNetNS(t, d.net, func() error {
			var conn net.Conn
			if conn, err = net.DialTimeout("tcp", addr, time.Second); err == nil {
				conn.Close()
			}
			return nil
		})
		if err == nil {
			return ca
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry does not come up: %v", err)
		}
	}
}

// certificates makes an authority, and a certificate by it for an address.
func certificates(t *testing.T, host string) (ca, cert, key []byte) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	check(err)
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		IPAddresses: []net.IP{net.ParseIP(host)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, server, authority, &own.PublicKey, authorityKey)
	check(err)
	keyDER, err := x509.MarshalECPrivateKey(own)
	check(err)
	return block("CERTIFICATE", authorityDER), block("CERTIFICATE", der), block("EC PRIVATE KEY", keyDER)
}

// helper is a credential helper that keeps one entry in a file, and a client's configuration that names it.
type helper struct {
	t           *testing.T
	bin, config string
}

func newHelper(t *testing.T) *helper {
	t.Helper()
	h := &helper{t, t.TempDir(), t.TempDir()}
	writeFile(t, filepath.Join(h.config, "config.json"), []byte(`{"credsStore": "test"}`), 0o600)
	writeFile(t, filepath.Join(h.bin, "docker-credential-test"), fmt.Appendf(nil, `#!/bin/sh
case $1 in
store) cat >%[1]s/kept ;;
get) test -e %[1]s/kept && cat %[1]s/kept || { echo credentials not found in native keychain; exit 1; } ;;
erase) rm -f %[1]s/kept ;;
list) echo '{}' ;;
esac
`, h.bin), 0o755)
	return h
}

// stored is what the helper keeps; empty: nothing.
func (h *helper) stored() string {
	data, err := os.ReadFile(filepath.Join(h.bin, "kept"))
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	return strings.ReplaceAll(string(data), `": "`, `":"`)
}

func writeFile(t *testing.T, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

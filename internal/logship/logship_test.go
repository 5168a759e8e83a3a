package logship

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = time.Date(2026, 11, 24, 3, 4, 5, 678901234, time.UTC)

func info(config map[string]string) *Info {
	return &Info{
		Config: config, ContainerID: strings.Repeat("0123456789abcdef", 4), ContainerName: "/web", ContainerEntrypoint: "sh",
		ContainerArgs: []string{"-c", "true"}, ContainerImageID: "sha256:fedcba9876543210", ContainerImageName: "busybox:latest",
		ContainerEnv: []string{"A=1", "APP_X=2", "B=3"}, ContainerLabels: map[string]string{"com.example.tier": "front", "other": "x"}, DaemonName: "docker",
	}
}

func TestTag(t *testing.T) {
	for text, want := range map[string]string{
		"": "0123456789ab", "x": "x", "{{.Name}}/{{.ID}}": "web/0123456789ab", "{{.FullID}}": strings.Repeat("0123456789abcdef", 4),
		"{{.ImageName}}|{{.ImageID}}|{{.ImageFullID}}": "busybox:latest|sha256:fedcb|sha256:fedcba9876543210",
		"{{.DaemonName}} {{.Command}}":                 "docker sh -c true", `{{index .ContainerLabels "other"}}`: "x", "{{upper .Name}}": "WEB",
	} {
		got, err := info(map[string]string{"tag": text}).Tag("{{.ID}}")
		if err != nil || got != want {
			t.Errorf("tag %q: %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"{{", "{{.Nope}}"} {
		if CheckTag(text) == nil {
			t.Errorf("tag %q is taken", text)
		}
	}
}

func TestExtra(t *testing.T) {
	got, err := info(map[string]string{"labels": "other,none", "labels-regex": "^com", "env": "B", "env-regex": "^APP"}).Extra(fieldName)
	want := map[string]string{"OTHER": "x", "COM_EXAMPLE_TIER": "front", "B": "3", "APP_X": "2"}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := info(map[string]string{"env-regex": "("}).Extra(nil); err == nil {
		t.Error("a bad pattern is taken")
	}
}

func TestParseSyslog(t *testing.T) {
	for _, tt := range []struct{ key, value, err string }{
		{"syslog-address", "http://x", "unsupported scheme: 'http'"},
		{"syslog-address", "unix:///none/such", "stat /none/such: no such file or directory"},
		{"syslog-facility", "24", "invalid syslog facility"},
		{"syslog-facility", "nope", "invalid syslog facility"},
		{"syslog-format", "json", "Invalid syslog format"},
	} {
		if _, err := ParseSyslog(info(map[string]string{tt.key: tt.value})); err == nil || err.Error() != tt.err {
			t.Errorf("%s=%s: %v", tt.key, tt.value, err)
		}
	}
	for text, want := range map[string]string{"tcp://h": "tcp h:514", "udp://h:1": "udp h:1", "tcp+tls://[::1]": "tcp+tls [::1]:514", "": " "} {
		network, address, err := parseAddress(text)
		if got := network + " " + address; err != nil || got != want {
			t.Errorf("address %q: %q, %v", text, got, err)
		}
	}
}

// TestSyslogForms holds the bytes that Docker's driver sends, but for the time.
func TestSyslogForms(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	h, pid := regexp.QuoteMeta(host), fmt.Sprint(os.Getpid())
	for format, want := range map[string]string{
		"":             `^<30>[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d web\[` + pid + `\]: hello\n$`,
		"rfc3164":      `^<30>[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d ` + h + ` web\[` + pid + `\]: hello\n$`,
		"rfc5424":      `^<30>1 2026-11-2\dT\d\d:\d\d:05[^. ]+ ` + h + ` web ` + pid + ` web - hello\n$`,
		"rfc5424micro": `^<30>1 2026-11-2\dT\d\d:\d\d:05\.678901[^ ]+ ` + h + ` web ` + pid + ` web - hello\n$`,
	} {
		s, err := ParseSyslog(info(map[string]string{"syslog-format": format, "tag": "{{.Name}}"}))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.appendMessage(nil, Message{Time: at}, []byte("hello")); !regexp.MustCompile(want).Match(got) {
			t.Errorf("format %q: %q, want %s", format, got, want)
		}
	}
	s, err := ParseSyslog(info(map[string]string{"syslog-format": "rfc5424", "syslog-address": "tcp+tls://h", "syslog-facility": "local7"}))
	if err != nil {
		t.Fatal(err)
	}
	got := string(s.appendMessage(nil, Message{Time: at, Stderr: true}, []byte("a\x00b")))
	size, rest, _ := strings.Cut(got, " ")
	if size != fmt.Sprint(len(rest)) || !strings.HasPrefix(rest, "<187>1 ") || !strings.HasSuffix(rest, " - a#000b\n") {
		t.Errorf("over TLS: %q", got)
	}
}

// log is a log in memory that a Shipment reads.
type log struct {
	lines []string
	first uint64 // lines that are gone
}

func (l *log) read(ctx context.Context, after uint64, fn func(Entry) error) error {
	for i, line := range l.lines {
		n := uint64(i + 1)
		if n <= max(after, l.first) {
			continue
		}
		e := Entry{Message: Message{Time: at, Line: []byte(line), Stderr: i%2 == 1}, Number: n}
		if n == l.first+1 && l.first > after {
			e.Dropped = l.first - after
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func shipment(t *testing.T, l *log, open func(context.Context) (Sink, error)) *Shipment {
	t.Helper()
	return &Shipment{Open: open, Read: l.read, Cursor: filepath.Join(t.TempDir(), "cursor"), Logger: slog.New(slog.DiscardHandler)}
}

// TestSyslogTransports sends over each kind of connection.
func TestSyslogTransports(t *testing.T) {
	dir := t.TempDir()
	cert, ca := certificate(t, dir)
	stream := func(l net.Listener) func() string {
		got := make(chan string, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				got <- err.Error()
				return
			}
			defer conn.Close()
			b, err := io.ReadAll(conn)
			if err != nil {
				b = append(b, err.Error()...)
			}
			got <- string(b)
		}()
		return func() string { return <-got }
	}
	packets := func(p net.PacketConn) func() string {
		return func() string {
			var all bytes.Buffer
			b := make([]byte, 64<<10)
			if err := p.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return err.Error()
			}
			for range 3 {
				n, _, err := p.ReadFrom(b)
				if err != nil {
					return err.Error()
				}
				all.Write(b[:n])
			}
			return all.String()
		}
	}
	listen := func(network, address string) net.Listener {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	listenPacket := func(network, address string) net.PacketConn {
		p, err := net.ListenPacket(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	}
	tcp, udp := listen("tcp", "127.0.0.1:0"), listenPacket("udp", "127.0.0.1:0")
	secure := listen("tcp", "127.0.0.1:0")
	un, unixgram := listen("unix", filepath.Join(dir, "s")), listenPacket("unixgram", filepath.Join(dir, "g"))
	for _, tt := range []struct {
		address string
		got     func() string
	}{
		{"tcp://" + tcp.Addr().String(), stream(tcp)},
		{"udp://" + udp.LocalAddr().String(), packets(udp)},
		{"unix://" + filepath.Join(dir, "s"), stream(un)},
		{"unixgram://" + filepath.Join(dir, "g"), packets(unixgram)},
		{"tcp+tls://" + secure.Addr().String(), stream(tls.NewListener(secure, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))},
	} {
		s, err := ParseSyslog(info(map[string]string{"syslog-address": tt.address, "syslog-format": "rfc5424micro", "syslog-tls-ca-cert": ca}))
		if err != nil {
			t.Fatal(err)
		}
		sh := shipment(t, &log{lines: []string{"one", "two", "three"}}, s.Open)
		sh.Run(t.Context())
		got := tt.got()
		if strings.Count(got, " - ") != 3 || !strings.Contains(got, " - three\n") {
			t.Errorf("%s: got %q", tt.address, got)
		}
		if st := sh.Status(); st.Sent != 3 || st.Number != 3 || st.Err != "" {
			t.Errorf("%s: %+v", tt.address, st)
		}
	}
}

// certificate makes one for 127.0.0.1 and returns it with its file.
func certificate(t *testing.T, dir string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, name
}

// TestJournal takes what a journal would, small and large.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	j, err := ParseJournal(info(map[string]string{"labels": "other", "env": "A", "tag": "{{.Name}}"}), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Check(); err != nil {
		t.Error(err)
	}
	large := strings.Repeat("x", 1<<20)
	sh := shipment(t, &log{lines: []string{"one", "two\nlines", large}}, j.Open)
	go sh.Run(t.Context())
	for _, want := range []string{
		"\nPRIORITY=6\nSYSLOG_TIMESTAMP=2026-11-24T03:04:05.678901234Z\nMESSAGE=one\n",
		"\nPRIORITY=3\nSYSLOG_TIMESTAMP=2026-11-24T03:04:05.678901234Z\nMESSAGE\n\x09\x00\x00\x00\x00\x00\x00\x00two\nlines\n",
		"\nMESSAGE=" + large + "\n",
	} {
		got := receiveEntry(t, conn)
		for _, field := range []string{want, "CONTAINER_ID=0123456789ab\n", "CONTAINER_NAME=web\n", "CONTAINER_TAG=web\n", "SYSLOG_IDENTIFIER=web\n", "IMAGE_NAME=busybox:latest\n", "OTHER=x\n", "\nA=1\n"} {
			if !strings.Contains("\n"+got, field) {
				t.Errorf("no %.100q in %.600q", field, got)
			}
		}
	}
	if _, err := ParseJournal(info(nil), path+"x"); err != nil {
		t.Error(err)
	}
	if err := (&Journal{socket: path + "x"}).Check(); !errors.Is(err, ErrNoJournal) {
		t.Errorf("without a journal: %v", err)
	}
}

func receiveEntry(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	b, oob := make([]byte, 256<<10), make([]byte, 64)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, oobn, _, _, err := conn.ReadMsgUnix(b, oob)
	if err != nil {
		t.Fatal(err)
	}
	if oobn == 0 {
		return string(b[:n])
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d control messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("descriptors %v, %v", fds, err)
	}
	f := os.NewFile(uintptr(fds[0]), "entry")
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(io.NewSectionReader(f, 0, st.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// brittle is a sink that breaks after some messages.
type brittle struct {
	mu   *sync.Mutex
	got  *[]string
	left int
}

func (b *brittle) Close() error { return nil }
func (b *brittle) Send(m Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left == 0 {
		return errors.New("broken")
	}
	b.left--
	*b.got = append(*b.got, string(m.Line))
	return nil
}

func TestOutage(t *testing.T) {
	var mu sync.Mutex
	var got []string
	opened := 0
	l := &log{lines: []string{"1", "2", "3", "4", "5", "6", "7"}, first: 2}
	sh := shipment(t, l, func(context.Context) (Sink, error) {
		opened++
		if opened == 2 {
			return nil, errors.New("refused")
		}
		return &brittle{&mu, &got, 3}, nil
	})
	sh.Run(t.Context())
	want := []string{"porthole: 2 lines dropped here: rotated away before they could be sent", "3", "4", "5", "6", "7"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("sent %q, want %q", got, want)
	}
	// The next one goes on behind.
	l.lines = append(l.lines, "8")
	got = nil
	next := &Shipment{Open: sh.Open, Read: l.read, Cursor: sh.Cursor, Logger: sh.Logger}
	next.Run(t.Context())
	if fmt.Sprint(got) != "[8]" || next.Status().Number != 8 {
		t.Errorf("after a restart %q was sent, %+v", got, next.Status())
	}
}

// TestPeerThatDoesNotRead holds that the end of the daemon does not wait for it.
func TestPeerThatDoesNotRead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := ParseSyslog(info(map[string]string{"syslog-address": "tcp://" + l.Addr().String()}))
	if err != nil {
		t.Fatal(err)
	}
	many := &log{}
	for range 2000 {
		many.lines = append(many.lines, strings.Repeat("x", 16<<10))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	sh := shipment(t, many, s.Open)
	go func() { defer close(done); sh.Run(ctx) }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for last := uint64(0); ; <-tick.C { // until it stands still
		now := sh.Status().Sent
		if now > 0 && now == last {
			break
		}
		last = now
	}
	cancel()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("it waits for a peer that does not read")
	}
}

func FuzzRunCursor(f *testing.F) {
	f.Add("00000000000000000012\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		name := filepath.Join(t.TempDir(), "cursor")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := loadCursor(name)
		if err != nil && n != 0 {
			t.Errorf("%d with %v", n, err)
		}
		if err := saveCursor(name, 12345); err != nil {
			t.Fatal(err)
		}
		if n, err := loadCursor(name); len(text) <= 21 && (err != nil || n != 12345) {
			t.Errorf("%d, %v", n, err)
		}
	})
}

package logship

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	syslogPort = "514"
	syslogTLS  = "tcp+tls"
	// syslogPart is the most of a line that one message holds, as in Docker: a
	// datagram has an end, and so have receivers' buffers.
	syslogPart = 16 << 10
	// sendTimeout is how long a peer may not take a message.
	sendTimeout = 10 * time.Second
	// Severities (RFC 5424, 6.2.1).
	severityErr  = 3
	severityInfo = 6
)

// localSyslog is where syslog may listen on this host.
var localSyslog = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

// facilities by number (RFC 5424, 6.2.1).
var facilities = []string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

// Syslog is where and how to write. Make one by ParseSyslog.
type Syslog struct {
	network, address string // empty: this host's
	facility         int
	format           string // empty, rfc3164, rfc5424, rfc5424micro
	tls              *tls.Config
	tag, hostname    string
}

// SyslogOptions are the log options that only the syslog driver has.
var SyslogOptions = []string{
	"syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify",
}

// ParseSyslog reads the log options of the syslog driver, with Docker's errors.
func ParseSyslog(i *Info) (*Syslog, error) {
	s := &Syslog{format: i.Config["syslog-format"]}
	var err error
	if s.network, s.address, err = parseAddress(i.Config["syslog-address"]); err != nil {
		return nil, err
	}
	if s.facility, err = parseFacility(i.Config["syslog-facility"]); err != nil {
		return nil, err
	}
	switch s.format {
	case "", "rfc3164", "rfc5424", "rfc5424micro":
	default:
		return nil, errors.New("Invalid syslog format")
	}
	if s.network == syslogTLS {
		if s.tls, err = tlsConfig(i.Config); err != nil {
			return nil, err
		}
	}
	if s.tag, err = i.Tag("{{.ID}}"); err != nil {
		return nil, err
	}
	s.tag = endless.Replace(s.tag)
	if s.hostname, err = os.Hostname(); err != nil {
		return nil, err
	}
	return s, nil
}

// endless takes from a text, which may be a label of an image, what ends a message:
// a NUL does for many receivers, and a newline for all by stream.
var endless = strings.NewReplacer("\x00", "#000", "\n", "#012")

func parseAddress(text string) (network, address string, err error) {
	if text == "" {
		return "", "", nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", "", err
	}
	switch u.Scheme {
	case "unix", "unixgram":
		if _, err := os.Stat(u.Path); err != nil {
			return "", "", err
		}
		return u.Scheme, u.Path, nil
	case "udp", "tcp", syslogTLS:
	default:
		return "", "", fmt.Errorf("unsupported scheme: '%s'", u.Scheme)
	}
	host := u.Host
	if _, _, err := net.SplitHostPort(host); err != nil {
		if !strings.Contains(err.Error(), "missing port in address") {
			return "", "", err
		}
		host = net.JoinHostPort(strings.Trim(host, "[]"), syslogPort)
	}
	return u.Scheme, host, nil
}

func parseFacility(text string) (int, error) {
	if text == "" {
		text = "daemon"
	}
	for n, name := range facilities {
		if name == text {
			return n, nil
		}
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < len(facilities) {
		return n, nil
	}
	return 0, errors.New("invalid syslog facility")
}

func tlsConfig(options map[string]string) (*tls.Config, error) {
	_, skip := options["syslog-tls-skip-verify"]
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skip} //nolint:gosec // that is what the option says
	if name := options["syslog-tls-ca-cert"]; name != "" {
		pem, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %q", name)
		}
	}
	cert, key := options["syslog-tls-cert"], options["syslog-tls-key"]
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// ErrNoSyslog has Docker's words for a host without syslog.
var ErrNoSyslog = errors.New("Unix syslog delivery error")

// Check tells whether there is anything to connect to, as far as this host can
// tell at once.
func (s *Syslog) Check() error {
	if s.network != "" {
		return nil
	}
	for _, path := range localSyslog {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
	}
	return ErrNoSyslog
}

// Open connects.
func (s *Syslog) Open(ctx context.Context) (Sink, error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	return &syslogSink{s: s, conn: conn}, nil
}

func (s *Syslog) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: sendTimeout}
	switch s.network {
	case "":
		for _, path := range localSyslog {
			for _, network := range []string{"unixgram", "unix"} {
				if conn, err := d.DialContext(ctx, network, path); err == nil {
					return conn, nil
				}
			}
		}
		return nil, ErrNoSyslog
	case syslogTLS:
		return (&tls.Dialer{NetDialer: &d, Config: s.tls}).DialContext(ctx, "tcp", s.address)
	}
	return d.DialContext(ctx, s.network, s.address)
}

type syslogSink struct {
	s    *Syslog
	conn net.Conn
	buf  []byte
	once sync.Once
	err  error
}

func (k *syslogSink) Close() error {
	k.once.Do(func() { k.err = k.conn.Close() })
	return k.err
}

func (k *syslogSink) Send(m Message) error {
	for line := m.Line; len(line) > 0; {
		part := line[:min(len(line), syslogPart)]
		line = line[len(part):]
		k.buf = k.s.appendMessage(k.buf[:0], m, part)
		if err := k.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
			return err
		}
		if _, err := k.conn.Write(k.buf); err != nil {
			return err
		}
	}
	return nil
}

// appendMessage writes one message in the form that Docker gives it, with the
// time of the line in place of that of sending.
func (s *Syslog) appendMessage(b []byte, m Message, part []byte) []byte {
	severity := severityInfo
	if m.Stderr {
		severity = severityErr
	}
	priority, t, pid := s.facility<<3|severity, m.Time.Local(), os.Getpid()
	// See endless; a line has no newline.
	part = bytes.ReplaceAll(part, []byte{0}, []byte("#000"))
	var text []byte
	switch s.format {
	case "rfc3164":
		text = fmt.Appendf(nil, "<%d>%s %s %s[%d]: %s\n", priority, t.Format(time.Stamp), s.hostname, s.tag, pid, part)
	case "rfc5424":
		text = fmt.Appendf(nil, "<%d>1 %s %s %s %d %s - %s\n", priority, t.Format(time.RFC3339), s.hostname, s.tag, pid, s.tag, part)
	case "rfc5424micro":
		text = fmt.Appendf(nil, "<%d>1 %s %s %s %d %s - %s\n", priority, t.Format("2006-01-02T15:04:05.000000Z07:00"), s.hostname, s.tag, pid, s.tag, part)
	default:
		text = fmt.Appendf(nil, "<%d>%s %s[%d]: %s\n", priority, t.Format(time.Stamp), s.tag, pid, part)
	}
	if s.network == syslogTLS && strings.HasPrefix(s.format, "rfc5424") {
		b = strconv.AppendInt(b, int64(len(text)), 10) // RFC 5425, 4.3.1
		b = append(b, ' ')
	}
	return append(b, text...)
}

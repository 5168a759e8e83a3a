package curl

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"sync"
)

// wire is a connection on which HTTP/1 is spoken, and shows the heads of
// requests and responses as they pass, byte for byte:
//
//	request:  HEAD CRLF CRLF BODY
//	response: (HEAD of status 1xx CRLF CRLF)* HEAD CRLF CRLF BODY
type wire struct {
	net.Conn
	sent, received func(line string) // each line of a head, without its end

	mu       sync.Mutex // the transport reads and writes at the same time
	out, in  head
	sentHead int64 // bytes
	gotHead  int64
}

// head collects the lines of a head until it is over.
type head struct {
	line    []byte
	over    bool
	interim bool // the status is 1xx, so that another head follows
	begun   bool
}

// headMost bounds a line that is shown; the transport fails at longer ones.
const headMost = 1 << 20

// feed takes bytes and calls show for each line. It returns how many bytes
// belong to heads.
func (h *head) feed(p []byte, show func(string)) (n int64) {
	for len(p) > 0 && !h.over {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			if len(h.line)+len(p) < headMost {
				h.line = append(h.line, p...)
			}
			return n + int64(len(p))
		}
		line := strings.TrimSuffix(string(append(h.line, p[:end]...)), "\r")
		h.line = h.line[:0]
		n += int64(end + 1)
		p = p[end+1:]
		if !h.begun {
			h.begun = true
			_, status, _ := strings.Cut(line, " ")
			h.interim = strings.HasPrefix(line, "HTTP/") && strings.HasPrefix(status, "1") && !strings.HasPrefix(status, "101")
		}
		show(line)
		if line == "" {
			h.over, h.begun = !h.interim, false
		}
	}
	return n
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.mu.Lock()
	w.sentHead += w.out.feed(p[:n], w.sent)
	w.mu.Unlock()
	return n, err
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	w.gotHead += w.in.feed(p[:n], w.received)
	w.mu.Unlock()
	return n, err
}

// heads are the sizes of what has passed.
func (w *wire) heads() (sent, received int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sentHead, w.gotHead
}

// tlsText is the connection as -v tells it.
func tlsText(s tls.ConnectionState, insecure bool) []string {
	lines := []string{"SSL connection using " + strings.ReplaceAll(tls.VersionName(s.Version), "TLS 1", "TLSv1") + " / " + tls.CipherSuiteName(s.CipherSuite)}
	if s.NegotiatedProtocol != "" {
		lines = append(lines, "ALPN: server accepted "+s.NegotiatedProtocol)
	} else {
		lines = append(lines, "ALPN: server did not agree on a protocol. Uses default.")
	}
	if len(s.PeerCertificates) > 0 {
		const layout = "Jan _2 15:04:05 2006 GMT"
		cert := s.PeerCertificates[0]
		lines = append(lines, "Server certificate:", " subject: "+cert.Subject.String(),
			" start date: "+cert.NotBefore.UTC().Format(layout), " expire date: "+cert.NotAfter.UTC().Format(layout))
		if len(cert.DNSNames) > 0 {
			lines = append(lines, " subjectAltName: "+strings.Join(cert.DNSNames, ", "))
		}
		lines = append(lines, " issuer: "+cert.Issuer.String())
	}
	if insecure {
		return append(lines, " SSL certificate verification is off (-k)")
	}
	return append(lines, " SSL certificate verify ok.")
}

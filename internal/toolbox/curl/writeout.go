package curl

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// writeOut prints what -w asks for.
func (c *command) writeOut(t *transfer) {
	to := c.out
	format := c.writeOutFormat
	for len(format) > 0 {
		switch {
		case strings.HasPrefix(format, "%%"):
			_, _ = io.WriteString(to, "%")
			format = format[2:]
		case strings.HasPrefix(format, "%{"):
			name, rest, ok := strings.Cut(format[2:], "}")
			if !ok {
				_, _ = io.WriteString(to, format)
				return
			}
			format = rest
			switch name {
			case "stdout":
				to = c.out
			case "stderr":
				to = c.err
			case "onerror":
				if t.failure == nil {
					return
				}
			default:
				text, known := t.variable(name)
				if !known {
					fmt.Fprintf(c.err, "curl: unknown --write-out variable: '%s'\n", name)
				}
				if isTerminal(to) {
					text = screen.Visible(text)
				}
				_, _ = io.WriteString(to, text)
			}
		case len(format) > 1 && format[0] == '\\':
			text, ok := map[byte]string{'n': "\n", 'r': "\r", 't': "\t"}[format[1]]
			if !ok {
				text = format[:2]
			}
			_, _ = io.WriteString(to, text)
			format = format[2:]
		default:
			_, _ = io.WriteString(to, format[:1])
			format = format[1:]
		}
	}
}

// variable is a value of --write-out, see curl(1). Times are seconds since the
// beginning; what did not come about took 0.
func (t *transfer) variable(name string) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	since := func(at time.Time) string {
		if at.IsZero() {
			return seconds(0)
		}
		return seconds(at.Sub(t.began))
	}
	header := func(key string) string {
		if t.response == nil {
			return ""
		}
		return t.response.Header.Get(key)
	}
	switch name {
	case "http_code", "response_code":
		code := 0
		if t.response != nil {
			code = t.response.StatusCode
		}
		return fmt.Sprintf("%03d", code), true
	case "time_namelookup":
		return since(t.nameDone), true
	case "time_connect":
		return since(t.connected), true
	case "time_appconnect":
		return since(t.secured), true
	case "time_pretransfer":
		return since(t.sending), true
	case "time_starttransfer":
		return since(t.firstByte), true
	case "time_redirect":
		return seconds(t.redirect), true
	case "time_total":
		return since(t.ended), true
	case "size_download":
		return number(t.out.n), true
	case "size_upload":
		return number(t.uploadN), true
	case "size_header":
		return number(t.headerN), true
	case "size_request":
		return number(t.requestN), true
	case "speed_download":
		return t.speed(t.out.n), true
	case "speed_upload":
		return t.speed(t.uploadN), true
	case "local_ip", "local_port":
		return addressPart(t.local, name == "local_port"), true
	case "remote_ip", "remote_port":
		return addressPart(t.remote, name == "remote_port"), true
	case "num_connects":
		return number(int64(t.connects)), true
	case "num_redirects":
		return number(int64(t.redirects)), true
	case "redirect_url":
		if t.response != nil && !t.c.follow {
			if to := redirectedTo(t.response); to != nil {
				return to.String(), true
			}
		}
		return "", true
	case "url":
		return t.text, true
	case "url_effective":
		if t.url == nil {
			return t.text, true
		}
		return t.url.String(), true
	case "scheme":
		if t.url == nil {
			return "", true
		}
		return t.url.Scheme, true
	case "content_type":
		return header("Content-Type"), true
	case "method":
		return t.method, true
	case "http_version":
		if t.response == nil {
			return "0", true
		}
		if t.response.ProtoMajor == 2 {
			return "2", true
		}
		return fmt.Sprintf("%d.%d", t.response.ProtoMajor, t.response.ProtoMinor), true
	case "ssl_verify_result":
		if t.failure != nil && t.failure.code == badPeer {
			return "20", true // X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
		}
		return "0", true
	case "filename_effective":
		return t.out.name, true
	case "exitcode":
		if t.failure != nil {
			return number(int64(t.failure.code)), true
		}
		return "0", true
	case "errormsg":
		if t.failure != nil {
			return t.failure.text, true
		}
		return "", true
	}
	if key, ok := strings.CutPrefix(name, "header:"); ok {
		return header(key), true
	}
	return "", false
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }

func (t *transfer) speed(n int64) string {
	took := t.ended.Sub(t.began).Seconds()
	if took <= 0 {
		return "0"
	}
	return number(int64(float64(n) / took))
}

func addressPart(a net.Addr, port bool) string {
	tcp, ok := a.(*net.TCPAddr)
	switch {
	case !ok && port:
		return "0"
	case !ok:
		return ""
	case port:
		return number(int64(tcp.Port))
	}
	return tcp.IP.String()
}

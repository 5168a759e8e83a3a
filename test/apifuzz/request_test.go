package apifuzz

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// A maker makes requests. What it makes depends on its seed and on what the
// daemon has answered before.
type maker struct {
	*rand.Rand
	definitions definitions
	// names are of things that are there, or were.
	names []string
}

// A request is what is sent, byte for byte.
type request struct {
	op   operation
	head string
	body []byte
	// cut says that the connection is closed for writing before the body is whole.
	cut bool
}

// Bytes are the request as it goes over the wire.
func (r request) Bytes() []byte { return append([]byte(r.head), r.body...) }

var (
	// starts is what would run a container with a made-up configuration.
	starts = regexp.MustCompile(`^/containers/\{\w+\}/(start|restart)$|/start-once$`)
	// runs is what makes such a container and starts it at once.
	runs = regexp.MustCompile(`^/porthole/containers/run$`)
	// archives is what reads an archive and no JSON.
	archives = regexp.MustCompile(`^/build$|^/images/load$|^/images/create$|/archive$|^/session$|^/grpc$|^/plugins/create$`)
)

func pick[T any](m *maker, list ...T) T { return list[m.IntN(len(list))] }

// one is true once in n times.
func (m *maker) one(n int) bool { return m.IntN(n) == 0 }

// text is any string, most often one that means something somewhere.
func (m *maker) text() string {
	switch m.IntN(12) {
	case 0:
		return ""
	case 1:
		return strings.Repeat(pick(m, "a", "/", "ä", "../", "[", "\x00", "{\"a\":"), 1<<m.IntN(14))
	case 2:
		return pick(m, "\x00", "\xff\xfe", "a\nb", "../../etc", "%s%n", "\u202e", "😀", " ", "-", "--", "=", ":", "/", ".", "..", "a=b", "~", "$HOME", "\\", "\"", "null", "NaN")
	case 3:
		return fmt.Sprint(m.number())
	case 4:
		return pick(m, "1", "0", "true", "false", "all", "1s", "-1h", "2026-01-01T00:00:00Z", "1.5", "0x10", "1e9", "10m", "host", "none", "bridge", "default", "container:base",
			"always", "on-failure", "unless-stopped", "no", "private", "shareable", "json-file", "local", "syslog", "journald", "tcp://x:1", "unix:///x", "root", "0:0", "65536:65536", "SIGKILL", "KILL", "99")
	case 5:
		return pick(m, "busybox", "busybox:latest", "x/y:z", "a@sha256:"+strings.Repeat("0", 64), "localhost:1/x", "sha256:"+strings.Repeat("f", 64), "docker.io/library/x", ":", "@", "A")
	case 6:
		return pick(m, "10.9.0.0/24", "10.9.0.1", "fd00::/64", "::1", "0.0.0.0/0", "300.1.1.1", "80/tcp", "80", "1-99999/udp", "80/xxx", "127.0.0.1:80:80", "02:42:ac:11:00:02", "/", "/etc", "/proc", "/a/b", "a:/b", "/a:/b:ro", "vol:/b:rw,z", "/a:/b:c:d", "type=bind")
	case 7:
		return pick(m, `{"label":["a=b"]}`, `{"label":{"a":true}}`, `{"name":["["]}`, `{"until":["x"]}`, `{"dangling":["maybe"]}`, `{"status":["x"]}`, `[]`, `{`, `{"a":1}`, `{"id":[null]}`)
	case 8, 9:
		return m.name()
	default:
		b := make([]byte, m.IntN(20))
		for i := range b {
			b[i] = byte(m.IntN(256))
		}
		return string(b)
	}
}

// name is of something that is there, with luck.
func (m *maker) name() string {
	if m.one(12) {
		return m.text()
	}
	return pick(m, m.names...)
}

func (m *maker) number() any {
	switch m.IntN(6) {
	case 0:
		return pick[any](m, json.Number("1e400"), json.Number("99999999999999999999999"), json.Number("-0"), 0.5, 1e308)
	case 1:
		return pick[any](m, int64(1)<<62, -int64(1)<<62, uint64(1)<<63, 1<<31, -1<<31, 65536)
	default:
		return m.IntN(1<<(1+m.IntN(20))) - pick(m, 0, 0, 1, 10)
	}
}

// value is one that s allows, as far as a schema tells. What is nested deeper than
// depth is left out.
func (m *maker) value(s schema, depth int) any {
	s = m.definitions.resolve(s)
	if values, ok := s["enum"].([]any); ok && !m.one(5) {
		return pick(m, values...)
	}
	for _, key := range []string{"example", "default"} {
		if v, ok := s[key]; ok && m.one(3) {
			return v
		}
	}
	switch s["type"] {
	case "boolean":
		return m.one(2)
	case "integer", "number":
		return m.number()
	case "array":
		items, _ := s["items"].(map[string]any)
		list := []any{}
		for range m.IntN(4) {
			if depth > 0 {
				list = append(list, m.value(items, depth-1))
			}
		}
		return list
	case "object":
		return m.object(s, depth)
	default:
		if _, ok := s["properties"]; ok {
			return m.object(s, depth)
		}
		return m.text()
	}
}

func (m *maker) object(s schema, depth int) any {
	out := map[string]any{}
	if depth == 0 {
		return out
	}
	properties, _ := s["properties"].(map[string]any)
	share := pick(m, 1, 4, 16, 64) // few fields most often: one wrong field hides what the others do
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if p, ok := properties[name].(map[string]any); ok && m.one(share) {
			out[name] = m.value(p, depth-1)
		}
	}
	if more, ok := s["additionalProperties"].(map[string]any); ok {
		for range m.IntN(3) {
			out[m.text()] = m.value(more, depth-1)
		}
	}
	if _, ok := properties["Image"]; ok && !m.one(4) {
		out["Image"] = "busybox"
	}
	return out
}

// spoil changes something within v into what no schema allows.
func (m *maker) spoil(v any) any {
	if m.one(3) {
		return m.anything(3)
	}
	switch v := v.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		if len(keys) == 0 {
			return m.anything(2)
		}
		key := pick(m, keys...)
		if v[key] = m.spoil(v[key]); m.one(6) {
			v[strings.ToUpper(key)] = m.anything(1)
		}
		return v
	case []any:
		if len(v) == 0 {
			return m.anything(2)
		}
		i := m.IntN(len(v))
		v[i] = m.spoil(v[i])
		return v
	}
	return m.anything(2)
}

// anything is any JSON.
func (m *maker) anything(depth int) any {
	switch m.IntN(8) {
	case 0, 1:
		return nil
	case 2:
		return m.one(2)
	case 3:
		return m.number()
	case 4:
		if depth > 0 {
			return []any{m.anything(depth - 1), m.anything(depth - 1)}
		}
	case 5:
		if depth > 0 {
			return map[string]any{m.text(): m.anything(depth - 1)}
		}
	}
	return m.text()
}

// json is a body for s.
func (m *maker) json(s schema) []byte {
	v := m.value(s, 7)
	if m.one(3) {
		v = m.spoil(v)
	}
	text, err := json.Marshal(v)
	if err != nil { // a number that JSON cannot have
		text = []byte(`{"x":1e999}`)
	}
	switch m.IntN(24) {
	case 0:
		return text[:m.IntN(len(text)+1)]
	case 1:
		depth := 1 << m.IntN(15)
		return []byte(strings.Repeat(pick(m, `[`, `{"a":`, `{"HostConfig":`), depth))
	case 2:
		if len(text) > 2 && text[0] == '{' && text[1] == '"' { // each key twice
			return slices.Concat(text[:len(text)-1], []byte(","), text[1:])
		}
	case 3:
		return bytes.ReplaceAll(text, []byte(`":`), []byte("\xff\":"))
	case 4:
		return append(text, m.text()...)
	case 5:
		return []byte(m.text())
	}
	return text
}

// archive is a small archive, more or less.
func (m *maker) archive() []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for range 1 + m.IntN(3) {
		name := pick(m, "Dockerfile", "manifest.json", "index.json", "oci-layout", "a/b", "../x", "/etc/x", m.text())
		content := pick(m, "FROM scratch\nLABEL a=b\n", "FROM busybox\nCOPY . /\n", `[{"Config":"c.json","Layers":["l.tar"]}]`, "FROM "+m.text(), m.text(), string(m.json(schema{})))
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if m.one(4) {
			h.Typeflag, h.Linkname, h.Size = pick(m, byte(tar.TypeSymlink), tar.TypeLink, tar.TypeDir, tar.TypeChar), m.text(), 0
		}
		if w.WriteHeader(h) == nil && h.Size > 0 {
			_, _ = w.Write([]byte(content)) // a buffer takes all
		}
	}
	if !m.one(4) {
		_ = w.Close() // the same
	}
	b := buf.Bytes()
	if m.one(4) && len(b) > 0 {
		b[m.IntN(len(b))] ^= byte(1 + m.IntN(255))
	}
	return b
}

// make makes a request for op.
func (m *maker) make(op operation) request {
	r := request{op: op}
	path := regexp.MustCompile(`\{\w+\}`).ReplaceAllStringFunc(op.path, func(string) string {
		name := m.name()
		if starts.MatchString(op.path) {
			name = pick(m, "base", "nobody", "\xff", "..")
		}
		return url.PathEscape(name)
	})
	query := url.Values{}
	var header strings.Builder
	share := pick(m, 1, 4, 16)
	for _, p := range op.parameters {
		if p.in == "path" || !m.one(share) {
			continue
		}
		value := fmt.Sprint(m.value(p.schema, 2))
		if m.one(8) {
			value = m.text()
		}
		if p.in == "header" {
			header.WriteString(p.name + ": " + url.PathEscape(value) + "\r\n")
			continue
		}
		query.Add(p.name, value)
		if m.one(10) {
			query.Add(p.name, m.text())
		}
	}
	target := pick(m, "", "/v1.40", "/v1.44", "/v1.51") + path
	target += "?" + query.Encode()
	if m.one(40) {
		target = pick(m, "/v9.99", "/v1.12", "/v1", "/v..", "/vx") + path + "?" + query.Encode()
	}
	if m.one(40) {
		target += pick(m, "&%zz", "?;", "&a=%", "&&&=")
	}
	kind := "application/json"
	switch {
	case archives.MatchString(op.path) && !m.one(6):
		r.body, kind = m.archive(), "application/x-tar"
	case runs.MatchString(op.path):
		r.body = []byte(m.text()) // nothing that could be started
	case op.body != nil:
		r.body = m.json(op.body)
	case op.method != "GET" && m.one(3):
		r.body = m.json(schema{"type": "object"})
	}
	if m.one(20) {
		kind = pick(m, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=latin1", "x", ";")
	}
	header.WriteString("Host: porthole\r\nConnection: close\r\nContent-Type: " + kind + "\r\n")
	if strings.Contains(op.path, "attach/ws") && !m.one(4) {
		header.WriteString("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")
	}
	r.finish(m, target, header.String())
	return r
}

// finish puts the head before the body, and says how long it is, or lies.
func (r *request) finish(m *maker, target, header string) {
	length := len(r.body)
	switch {
	case length > 0 && m.one(4):
		header += "Transfer-Encoding: chunked\r\n"
		middle := m.IntN(length)
		var b bytes.Buffer
		for _, chunk := range [][]byte{r.body[:middle], r.body[middle:]} {
			if len(chunk) > 0 {
				fmt.Fprintf(&b, "%x\r\n%s\r\n", len(chunk), chunk)
			}
		}
		if r.cut = m.one(8); !r.cut {
			b.WriteString("0\r\n\r\n")
		}
		r.body = b.Bytes()
	case length > 0 && m.one(12):
		r.cut = true
		header += fmt.Sprintf("Content-Length: %d\r\n", length+1+m.IntN(1000))
	default:
		header += fmt.Sprintf("Content-Length: %d\r\n", length)
	}
	r.head = fmt.Sprintf("%s %s HTTP/1.1\r\n%s\r\n", r.op.method, target, header)
}

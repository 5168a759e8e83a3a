package logship

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// written is a peer that keeps what it is sent.
type written struct {
	net.Conn
	messages [][]byte
}

func (w *written) Write(p []byte) (int, error) {
	w.messages = append(w.messages, bytes.Clone(p))
	return len(p), nil
}
func (*written) SetWriteDeadline(time.Time) error { return nil }

// FuzzSyslog has a container write any line, and its creator say any tag. Each
// message has one line, and the messages have the whole of it: a container cannot
// write messages of others.
func FuzzSyslog(f *testing.F) {
	f.Add([]byte("plain"), "rfc3164", "{{.Name}}")
	f.Add([]byte("\x00<0>1 fake\r"), "rfc5424", "a\nb")
	f.Add([]byte(strings.Repeat("x", syslogPart+5)), "", "tag[1]: <")
	f.Fuzz(func(t *testing.T, line []byte, format, tag string) {
		if bytes.IndexByte(line, '\n') >= 0 || len(line) == 0 {
			return // lines have no end in them, see Message
		}
		s, err := ParseSyslog(&Info{ContainerID: "0123456789abcdef", ContainerName: "/web", Config: map[string]string{
			"syslog-format": format, "tag": tag, "syslog-address": "tcp://192.0.2.1",
		}})
		if err != nil {
			return
		}
		peer := &written{}
		if err := (&syslogSink{s: s, conn: peer}).Send(Message{Line: line, Time: time.Unix(1, 0)}); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for _, m := range peer.messages {
			if bytes.Count(m, []byte("\n")) != 1 || m[len(m)-1] != '\n' || bytes.IndexByte(m, 0) >= 0 {
				t.Errorf("message %q is none of one line", m)
			}
			if !bytes.HasPrefix(m, fmt.Appendf(nil, "<%d>", 3<<3|severityInfo)) {
				t.Errorf("message %q begins otherwise", m)
			}
			before := len(peer.messages[0]) - 1 - len(bytes.ReplaceAll(line[:min(len(line), syslogPart)], []byte{0}, []byte("#000")))
			got = append(got, m[before:len(m)-1]...)
		}
		if want := bytes.ReplaceAll(line, []byte{0}, []byte("#000")); !bytes.Equal(got, want) {
			t.Errorf("sent %q of %q", got, want)
		}
	})
}

// FuzzJournal has a container write anything, and its creator give it any labels.
// What the journal reads are the fields that we write and no others.
func FuzzJournal(f *testing.F) {
	f.Add([]byte("plain"), "label", "value", "{{.ID}}")
	f.Add([]byte("a\nMESSAGE=b\n"), "_message", "x\nPRIORITY=0", "t\nCONTAINER_ID=other")
	f.Fuzz(func(t *testing.T, line []byte, label, value, tag string) {
		if strings.Contains(label, ",") {
			return
		}
		i := &Info{
			ContainerID: "0123456789abcdef", ContainerName: "/web", ContainerImageName: value,
			ContainerLabels: map[string]string{label: value}, Config: map[string]string{"labels": label, "tag": tag},
		}
		j, err := ParseJournal(i, "")
		if err != nil {
			return
		}
		got := journalFields(t, j.appendEntry(nil, Message{Line: line}))
		if string(got["MESSAGE"]) != string(line) || string(got["CONTAINER_ID"]) != i.ID() || string(got["IMAGE_NAME"]) != value {
			t.Errorf("the journal reads %q", got)
		}
		ours := []string{"CONTAINER_ID", "CONTAINER_ID_FULL", "CONTAINER_NAME", "CONTAINER_TAG", "IMAGE_NAME", "SYSLOG_IDENTIFIER", "PRIORITY", "SYSLOG_TIMESTAMP", "MESSAGE"}
		want := len(ours)
		if name := fieldName(label); name != "" && label != "" && !slices.Contains(append(ours, "CONTAINER_PARTIAL_MESSAGE"), name) {
			want++
		}
		if len(got) != want {
			t.Errorf("%d fields, want %d: %q", len(got), want, got)
		}
	})
}

// journalFields reads the native protocol as the journal does.
func journalFields(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	fields := map[string][]byte{}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			t.Fatalf("no end of line behind %q", b)
		}
		name, value, short := bytes.Cut(line, []byte("="))
		if !short {
			if len(rest) < 8 {
				t.Fatalf("no length behind %q", name)
			}
			n := binary.LittleEndian.Uint64(rest)
			if n >= uint64(len(rest)-8) || rest[8+n] != '\n' {
				t.Fatalf("field %q of %d bytes", name, n)
			}
			value, rest = rest[8:8+n], rest[8+n+1:]
		}
		if string(name) != fieldName(string(name)) || len(name) == 0 {
			t.Errorf("a field is called %s", strconv.Quote(string(name)))
		}
		if _, twice := fields[string(name)]; twice {
			t.Errorf("field %q comes twice", name)
		}
		fields[string(name)], b = value, rest
	}
	return fields
}

package logship

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// JournalSocket is where systemd's journal takes entries.
const JournalSocket = "/run/systemd/journal/socket"

// ErrNoJournal has Docker's words for a host without a journal.
var ErrNoJournal = errors.New("journald is not enabled on this host")

// Journal is where and what to write to the journal. Make one by ParseJournal.
type Journal struct {
	socket string
	fields []byte // those that are the same for all entries
}

// ParseJournal reads the log options of the journald driver. socket is
// JournalSocket but in tests.
func ParseJournal(i *Info, socket string) (*Journal, error) {
	tag, err := i.Tag("{{.ID}}")
	if err != nil {
		return nil, err
	}
	fields := map[string]string{
		"CONTAINER_ID": i.ID(), "CONTAINER_ID_FULL": i.FullID(), "CONTAINER_NAME": i.Name(), "CONTAINER_TAG": tag,
		"IMAGE_NAME": i.ImageName(), "SYSLOG_IDENTIFIER": tag,
	}
	extra, err := i.Extra(fieldName)
	if err != nil {
		return nil, err
	}
	j := &Journal{socket: socket}
	for name, value := range fields {
		j.fields = appendField(j.fields, name, []byte(value))
	}
	for name, value := range extra {
		// A label of an image must not speak for the container, or for what it says.
		if _, ours := fields[name]; !ours && name != "" && !slices.Contains(ofEntry, name) {
			j.fields = appendField(j.fields, name, []byte(value))
		}
	}
	return j, nil
}

// ofEntry are the fields that are not the same for all entries.
var ofEntry = []string{"PRIORITY", "SYSLOG_TIMESTAMP", "CONTAINER_PARTIAL_MESSAGE", "MESSAGE"}

// fieldName makes a name that the journal takes: capital letters, digits and
// underscores, of which none stands first (journald-util.c, journal_field_valid).
func fieldName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
	return strings.TrimLeft(s, "_")
}

// appendField adds a field of the native protocol
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): NAME=VALUE, or where the value
// has newlines, NAME, its length as 64 bits little endian, and the value.
func appendField(b []byte, name string, value []byte) []byte {
	b = append(b, name...)
	if bytes.IndexByte(value, '\n') < 0 {
		b = append(b, '=')
	} else {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	}
	b = append(b, value...)
	return append(b, '\n')
}

// Check tells whether there is a journal.
func (j *Journal) Check() error {
	if _, err := os.Stat(j.socket); err != nil {
		return ErrNoJournal
	}
	return nil
}

// Open connects.
func (j *Journal) Open(ctx context.Context) (Sink, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unixgram", j.socket)
	if err != nil {
		return nil, err
	}
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("connect to %q: not a unix socket", j.socket)
	}
	return &journalSink{j: j, conn: uc}, nil
}

type journalSink struct {
	j    *Journal
	conn *net.UnixConn
	buf  []byte
	once sync.Once
	err  error
}

func (k *journalSink) Close() error {
	k.once.Do(func() { k.err = k.conn.Close() })
	return k.err
}

// appendEntry writes one entry.
func (j *Journal) appendEntry(b []byte, m Message) []byte {
	severity := severityInfo
	if m.Stderr {
		severity = severityErr
	}
	b = append(b, j.fields...)
	b = appendField(b, "PRIORITY", strconv.AppendInt(nil, int64(severity), 10))
	b = appendField(b, "SYSLOG_TIMESTAMP", m.Time.UTC().AppendFormat(nil, time.RFC3339Nano))
	if m.Partial {
		b = appendField(b, "CONTAINER_PARTIAL_MESSAGE", []byte("true"))
	}
	return appendField(b, "MESSAGE", m.Line)
}

func (k *journalSink) Send(m Message) error {
	b := k.j.appendEntry(k.buf[:0], m)
	k.buf = b
	if err := k.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err := k.conn.Write(b)
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		return k.sendFile(b)
	}
	return err
}

// sendFile passes an entry that is too large for a datagram, as a sealed file.
func (k *journalSink) sendFile(b []byte) error {
	fd, err := unix.MemfdCreate("journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "journal-entry")
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	rc, err := k.conn.SyscallConn()
	if err != nil {
		return err
	}
	rights := unix.UnixRights(int(f.Fd()))
	var serr error
	err = rc.Write(func(fd uintptr) bool {
		// Go's own call refuses connected datagram sockets.
		serr = unix.Sendmsg(int(fd), nil, rights, nil, unix.MSG_NOSIGNAL)
		return !errors.Is(serr, unix.EAGAIN)
	})
	return errors.Join(err, os.NewSyscallError("sendmsg", serr))
}

package crilog

import (
	"bytes"
	"time"
)

// A record is one line of a segment:
//
//	2026-11-24T03:00:00.000000000Z stdout F the line as the process wrote it
//	<-------- stampSize --------->        ^ tag
//
// Tag P says that the line goes on in the next record of the same stream, F
// that it is complete. F:n is F for a line that ended without a newline: CRI
// readers look at the first part of a tag only (kubelet, parseCRILog).
const (
	stampSize  = len("2026-11-24T03:00:00.000000000Z")
	prefixSize = stampSize + len(" stdout F ")

	tagPartial   = "P"
	tagFull      = "F"
	tagNoNewline = "F:n"

	// maxPart is the most that one record holds of a line; containerd and
	// Docker split at the same size.
	maxPart = 16 << 10
	// maxRecord is what a reader takes for a record; anything longer is not
	// ours.
	maxRecord = maxPart + 256
)

// record is one parsed line of a segment. Its content aliases the input.
type record struct {
	stamp   []byte
	stream  Stream
	partial bool // tag P
	bare    bool // tag F:n
	content []byte
}

// parseRecord reads a line without its newline.
func parseRecord(line []byte) (record, bool) {
	var r record
	var ok bool
	if len(line) >= prefixSize && line[stampSize] == ' ' {
		r.stamp, line = line[:stampSize], line[stampSize+1:]
	} else if r.stamp, line, ok = bytes.Cut(line, []byte{' '}); !ok {
		return record{}, false
	}
	switch {
	case bytes.HasPrefix(line, []byte("stdout ")):
		r.stream = Stdout
	case bytes.HasPrefix(line, []byte("stderr ")):
		r.stream = Stderr
	default:
		return record{}, false
	}
	line = line[len("stdout "):]
	if len(line) >= 2 && line[1] == ' ' {
		r.partial, r.content = line[0] == 'P', line[2:]
		return r, line[0] == 'P' || line[0] == 'F'
	}
	tag, content, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return record{}, false
	}
	r.content = content
	first, _, _ := bytes.Cut(tag, []byte{':'})
	r.partial = string(first) == tagPartial
	r.bare = string(tag) == tagNoNewline
	return r, r.partial || string(first) == tagFull
}

// appendStamp adds t as RFC 3339 in UTC with all nine digits.
func appendStamp(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000000Z")
}

// stampReader turns stamps into times; a run of equal stamps, as one chunk of
// output has, is parsed once.
type stampReader struct {
	last [stampSize]byte
	time time.Time
}

func (s *stampReader) parse(stamp []byte) (time.Time, bool) {
	if len(stamp) == stampSize && !s.time.IsZero() && [stampSize]byte(stamp) == s.last {
		return s.time, true
	}
	t, ok := parseStamp(stamp)
	if ok && len(stamp) == stampSize {
		s.last, s.time = [stampSize]byte(stamp), t
	}
	return t, ok
}

func parseStamp(b []byte) (time.Time, bool) {
	t, ok := parseOwnStamp(b)
	if ok {
		return t, true
	}
	t, err := time.Parse(time.RFC3339Nano, string(b))
	return t.UTC(), err == nil
}

// parseOwnStamp reads the form that appendStamp writes.
func parseOwnStamp(b []byte) (time.Time, bool) {
	if len(b) != stampSize || b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' ||
		b[16] != ':' || b[19] != '.' || b[29] != 'Z' {
		return time.Time{}, false
	}
	year, ok1 := digits(b[0:4])
	month, ok2 := digits(b[5:7])
	day, ok3 := digits(b[8:10])
	hour, ok4 := digits(b[11:13])
	minute, ok5 := digits(b[14:16])
	sec, ok6 := digits(b[17:19])
	nsec, ok7 := digits(b[20:29])
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6 && ok7) ||
		month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || sec > 59 {
		return time.Time{}, false
	}
	return time.Date(year, time.Month(month), day, hour, minute, sec, nsec, time.UTC), true
}

func digits(b []byte) (int, bool) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

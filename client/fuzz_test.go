package client

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/portholehq/porthole/api"
)

// frames cuts a stream as the documentation of the API has it; the last one may be
// torn.
func frames(stream []byte) (list [][]byte) {
	for len(stream) >= frameHead {
		n := min(frameHead+uint64(binary.BigEndian.Uint32(stream[4:])), uint64(len(stream)))
		list, stream = append(list, stream[:n]), stream[n:]
	}
	return list
}

// FuzzEndedStream has a daemon send anything behind a process's output. What is read
// are the frames in front of the end, whatever pieces they come in, and no end is
// made up.
func FuzzEndedStream(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x02hi\x04\x00\x00\x00\x00\x00\x00\x0e"+`{"ExitCode":3}`), 5)
	f.Add([]byte("\x02\x00\x00\x00\xff\xff\xff\xfftorn"), 1)
	f.Add([]byte("\x04\x00\x00\x00\xff\xff\xff\xff{}"), 0)
	f.Fuzz(func(t *testing.T, stream []byte, piece int) {
		var want []byte
		var end *api.End
		for _, frame := range frames(stream) {
			if frame[0] == api.EndFrame {
				e := new(api.End)
				if json.Unmarshal(frame[frameHead:], e) == nil {
					end = e
				}
				break
			}
			want = append(want, frame...)
		}
		var in io.Reader = bytes.NewReader(stream)
		if piece%2 == 0 {
			in = iotest.OneByteReader(in)
		}
		s := &EndedStream{r: bufio.NewReaderSize(in, 16)}
		got, buf := []byte(nil), make([]byte, max(piece%64, 1))
		for {
			n, err := s.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				if !errors.Is(err, io.EOF) && end != nil {
					t.Errorf("%v", err)
				}
				break
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("read %q, want %q", got, want)
		}
		if (s.end == nil) != (end == nil) || end != nil && s.end.ExitCode != end.ExitCode {
			t.Errorf("ended %+v, want %+v", s.end, end)
		}
	})
}

// FuzzLogReader has a daemon send any log. What is handed out is in its frames, in
// their order.
func FuzzLogReader(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x01\x00\x00\x00\x04one\n\x02\x01\x00\x00\x00\x00\x00\x03two\x00\x00\x00\x00\x00\x00\x00\x0c"+`{"number":7}`), uint64(3))
	f.Add([]byte("\x05\x00\x00\x00\x00\x00\x00\x03bad\x01\x00\x00\x00\xff\xff\xff\xff"), uint64(0))
	f.Fuzz(func(t *testing.T, stream []byte, after uint64) {
		list := frames(stream)
		in := logReader{r: bufio.NewReaderSize(bytes.NewReader(stream), 16), number: after}
		for number := after; ; list = list[1:] {
			got, err := in.next()
			if err != nil {
				if errors.Is(err, io.EOF) && len(list) > 0 {
					t.Errorf("the end before %q", list[0])
				}
				return
			}
			if len(list) == 0 {
				t.Fatalf("frame %+v out of nothing", got)
			}
			head, text := list[0][:frameHead], list[0][frameHead:]
			number += uint64(binary.BigEndian.Uint16(head[2:]))
			if got.Notice != nil {
				number = got.Notice.Number
			} else if !bytes.Equal(got.Text, text) || got.Stream != head[0] {
				t.Errorf("frame %+v of %q", got, list[0])
			}
			if len(text) != int(binary.BigEndian.Uint32(head[4:])) || got.Number != number {
				t.Errorf("frame %+v of %q, number %d", got, list[0], number)
			}
		}
	})
}

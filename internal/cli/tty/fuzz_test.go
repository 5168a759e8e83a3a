package tty

import (
	"bytes"
	"encoding/binary"
	"testing"
	"testing/iotest"
)

// FuzzDemux compares with frames taken apart one by one.
func FuzzDemux(f *testing.F) {
	frame := func(stream byte, text string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{stream, 0, 0, 0}, uint32(len(text))), text...)
	}
	f.Add(append(frame(1, "out"), frame(2, "err")...), false)
	f.Add(append(frame(0, ""), frame(3, "gone")...), true)
	f.Add(frame(1, "torn")[:10], true)
	f.Add([]byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 'x'}, false)
	f.Add(frame(9, "x"), false)
	f.Fuzz(func(t *testing.T, data []byte, slow bool) {
		var wantOut, wantErr []byte
		fails := false
		for rest := data; len(rest) >= 8 && !fails; {
			n := min(uint64(binary.BigEndian.Uint32(rest[4:])), uint64(len(rest)-8))
			switch payload := rest[8 : 8+n]; rest[0] {
			case 0, 1:
				wantOut = append(wantOut, payload...)
			case 2:
				wantErr = append(wantErr, payload...)
			default:
				fails = true
			}
			rest = rest[8+n:]
		}
		var out, errOut bytes.Buffer
		r := iotest.DataErrReader(bytes.NewReader(data))
		if slow {
			r = iotest.OneByteReader(r)
		}
		err := Demux(&out, &errOut, r)
		if (err != nil) != fails || !bytes.Equal(out.Bytes(), wantOut) || !bytes.Equal(errOut.Bytes(), wantErr) {
			t.Errorf("out %q, want %q; err %q, want %q; %v", out.Bytes(), wantOut, errOut.Bytes(), wantErr, err)
		}
	})
}

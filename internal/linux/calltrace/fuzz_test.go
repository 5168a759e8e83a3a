package calltrace

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

// FuzzEvent takes records apart that no kernel would write: nothing is told that
// does not stand in them.
func FuzzEvent(f *testing.F) {
	for kind := range uint32(8) {
		h := head{Kind: kind, Number: 257, Length: 32, Args: [6]uint64{1, 2, 3, 80, 65536, 5}}
		h.Sizes[0], h.Sizes[1], h.Offsets[1] = 8, 200, 8
		copy(h.Comm[:], "program")
		b, err := binary.Append(nil, binary.NativeEndian, &h)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(b, "/etc/x\x00\x00a\x00bc\x00 and more than that"...))
		f.Add(b)
	}
	f.Add([]byte("short"))
	c := &clocks{now: time.Unix(1e9, 0)}
	f.Fuzz(func(t *testing.T, record []byte) {
		e, err := c.event(record)
		if err != nil {
			return
		}
		if e.Took < 0 {
			t.Errorf("it took %v", e.Took)
		}
		for _, a := range append(e.Args, e.File, e.Comm, e.SenderName) {
			if len(a) > len(record) || !bytes.Contains(record, []byte(a)) {
				t.Errorf("%q is not in the record", a)
			}
		}
		for _, m := range e.Memory {
			if !bytes.Contains(record, m.Data) {
				t.Errorf("memory %q is not in the record", m.Data)
			}
		}
		_ = e.Old.String() + e.New.String() + e.From.String() + e.To.String()
	})
}

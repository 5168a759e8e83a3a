package witness

import (
	"encoding/binary"
	"testing"
	"time"
)

// FuzzDeed takes records apart that no kernel would write: nothing is told that
// does not stand in them.
func FuzzDeed(f *testing.F) {
	for kind := Exec; kind <= Listen+1; kind++ {
		h := deedHead{Kind: uint32(kind), File: 5, Args: 4, ArgsTotal: 9, Family: 2, OwnPort: 80, OtherPort: 65535, Number: 9}
		copy(h.Comm[:], "program")
		b, err := binary.Append(nil, binary.NativeEndian, &h)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(b, make([]byte, 40)...))
		f.Add(append(b, append(make([]byte, fileRoom), "a\x00bc"...)...))
	}
	f.Add([]byte("short"))
	w := &Witness{now: time.Unix(1e9, 0)}
	f.Fuzz(func(t *testing.T, record []byte) {
		d, err := w.deed(record)
		if err != nil {
			return
		}
		size := len(d.File) + len(d.Comm) + len(d.From.Name)
		for _, a := range d.Args {
			size += len(a) + 1
		}
		if size > len(record)+1 || d.Kind < Exec || d.Kind > Listen {
			t.Errorf("%+v out of %d bytes", d, len(record))
		}
		_ = d.Local.String() + d.Remote.String() + d.Status.Signal().String()
	})
}

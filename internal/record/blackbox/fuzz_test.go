package blackbox

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/api"
)

// FuzzDecode sees that what a box says is the same after it was written again.
func FuzzDecode(f *testing.F) {
	good := &Kept{Events: []*api.TraceEvent{{Kind: api.TraceCall, PID: 7, Call: "openat", Args: "()"}, {Kind: api.TraceExit}}}
	good.Version = Version
	b, err := good.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Add([]byte("(\xb5/\xfd"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := Decode(data)
		if err != nil {
			return
		}
		again, err := k.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(again)
		if diff := cmp.Diff(k, got); err != nil || diff != "" {
			t.Errorf("%v (-before +after)\n%s", err, diff)
		}
	})
}

package detachkeys

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// FuzzReader sees that all that is typed comes through but for the keys, in its
// order, and that the keys are noticed wherever they stand.
func FuzzReader(f *testing.F) {
	f.Add("", []byte("hello\x10\x11rest"), false)
	f.Add("a,a,b", []byte("aaab"), true)
	f.Add("a,b,a,b,c", []byte("ababababc"), true)
	f.Add("x", []byte("12x3"), false)
	f.Add("ctrl-@,DEL", []byte{0, 0, 127}, true)
	f.Fuzz(func(t *testing.T, text string, typed []byte, slow bool) {
		keys, err := Parse(text)
		if err != nil {
			return
		}
		if len(keys) == 0 {
			t.Fatalf("Parse(%q) has no keys", text)
		}
		var in io.Reader = bytes.NewReader(typed)
		if slow {
			in = iotest.OneByteReader(in)
		}
		got, err := io.ReadAll(NewReader(in, keys))
		at := bytes.Index(typed, keys)
		if at < 0 {
			if err != nil || !bytes.Equal(got, typed) {
				t.Errorf("%q of keys %q gives %q, %v", typed, keys, got, err)
			}
			return
		}
		// Keys that came slowly may have been passed on, see Reader; so may no more than the last is missing.
		if !errors.Is(err, ErrDetached) || len(got) < at || !bytes.HasPrefix(typed[:at+len(keys)-1], got) {
			t.Errorf("%q of keys %q gives %q, %v", typed, keys, got, err)
		}
	})
}

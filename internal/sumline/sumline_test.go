package sumline

import (
	"bytes"
	"testing"
)

func TestLine(t *testing.T) {
	line := Append([]byte("before"), []byte(`{"a":1}`))[len("before"):]
	if len(line) != len(`{"a":1}`)+Overhead {
		t.Errorf("%d bytes: %q", len(line), line)
	}
	got, err := Cut(line)
	if err != nil || string(got) != `{"a":1}` {
		t.Fatalf("%q, %v", got, err)
	}
	// Nothing that is cut or changed anywhere is taken for good.
	for n := range line {
		if _, err := Cut(line[:n]); err == nil {
			t.Errorf("good without its last %d bytes", len(line)-n)
		}
		bad := bytes.Clone(line)
		bad[n] ^= 1
		if _, err := Cut(bad); err == nil {
			t.Errorf("good with a wrong byte %d", n)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add(Append(nil, []byte("x")))
	f.Add([]byte("00000000 \n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		content, err := Cut(line)
		if err == nil && !bytes.Equal(Append(nil, content), line) {
			t.Errorf("%q came from %q", content, line)
		}
	})
}

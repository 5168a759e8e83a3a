package detachkeys

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []byte // nil: an error
	}{
		{"", []byte{16, 17}},
		{"ctrl-p,ctrl-q", []byte{16, 17}},
		{"a", []byte("a")},
		{"ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", []byte{0, 27, 28, 29, 30, 31}},
		{"DEL,Ctrl-A", []byte{127, 1}},
		{"ctrl-ab", nil},
		{"ctrl-1", nil},
		{"ab", nil},
		{"a,,b", nil},
		{"shift-a", nil},
	} {
		got, err := Parse(tt.text)
		if (err != nil) != (tt.want == nil) {
			t.Errorf("Parse(%q): error %v", tt.text, err)
		}
		if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
			t.Errorf("Parse(%q): %s", tt.text, diff)
		}
	}
}

func TestReader(t *testing.T) {
	for _, tt := range []struct {
		name, keys, typed, passed string
		detached                  bool
	}{
		{"nothing special", "ctrl-p,ctrl-q", "hello", "hello", false},
		{"sequence", "ctrl-p,ctrl-q", "ab\x10\x11cd", "ab", true},
		{"partial is released", "ctrl-p,ctrl-q", "a\x10b\x10", "a\x10b\x10", false},
		{"first key twice", "ctrl-p,ctrl-q", "a\x10\x10\x11", "a\x10", true},
		{"overlap", "a,a,b", "aaab", "a", true},
		{"single key", "x", "12x3", "12", true},
	} {
		for _, split := range []struct {
			name string
			wrap func(io.Reader) io.Reader
		}{{"whole", func(r io.Reader) io.Reader { return r }}, {"byte by byte", iotest.OneByteReader}} {
			t.Run(tt.name+", "+split.name, func(t *testing.T) {
				keys, err := Parse(tt.keys)
				if err != nil {
					t.Fatal(err)
				}
				var out bytes.Buffer
				_, err = io.Copy(&out, NewReader(split.wrap(bytes.NewReader([]byte(tt.typed))), keys))
				if out.String() != tt.passed || errors.Is(err, ErrDetached) != tt.detached {
					t.Errorf("passed %q, err %v; want %q, detached %v", out.String(), err, tt.passed, tt.detached)
				}
			})
		}
	}
}

// TestReaderIsPatient holds what a program sees of keys that are typed with pauses.
func TestReaderIsPatient(t *testing.T) {
	for _, tt := range []struct {
		name, keys string
		typed      []string // a moment passes after each
		passed     []string // what was passed on until then
		detached   bool
	}{
		{"alone", "ctrl-p,ctrl-q", []string{"\x10", "x"}, []string{"\x10", "\x10x"}, false},
		{"after text", "ctrl-p,ctrl-q", []string{"ab\x10", "c"}, []string{"ab\x10", "ab\x10c"}, false},
		{"the rest is late", "ctrl-p,ctrl-q", []string{"\x10", "\x11"}, []string{"\x10", "\x10"}, true},
		{"the rest follows", "ctrl-p,ctrl-q", []string{"\x10\x11"}, []string{""}, true},
		{"twice", "ctrl-p,ctrl-q", []string{"\x10", "\x10", "\x11"}, []string{"\x10", "\x10\x10", "\x10\x10"}, true},
		{"part of what was passed on", "a,b,a,c", []string{"a", "b", "ab", "ac"}, []string{"a", "ab", "abab", "abab"}, true},
		{"longer", "a,b,c", []string{"a", "b", "x"}, []string{"a", "ab", "abx"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				keys, err := Parse(tt.keys)
				if err != nil {
					t.Fatal(err)
				}
				terminal, person := io.Pipe()
				program := make(chan []byte, 100)
				end := make(chan error, 1)
				go func() {
					r := NewReader(terminal, keys)
					for {
						buf := make([]byte, 10)
						n, err := r.Read(buf)
						program <- buf[:n]
						if err != nil {
							end <- err
							return
						}
					}
				}()
				var got strings.Builder
				for i, text := range tt.typed {
					if _, err := io.WriteString(person, text); err != nil {
						t.Fatal(err)
					}
					<-time.After(patience + time.Millisecond)
					synctest.Wait()
					for len(program) > 0 {
						got.Write(<-program)
					}
					if got.String() != tt.passed[i] {
						t.Errorf("after %q the program has %q, want %q", tt.typed[:i+1], got.String(), tt.passed[i])
					}
				}
				person.Close()
				if err := <-end; errors.Is(err, ErrDetached) != tt.detached {
					t.Errorf("error %v, want detached %v", err, tt.detached)
				}
			})
		})
	}
}

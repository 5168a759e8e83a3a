package plan

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fill sets every field that v reaches to something of its own.
func fill(t testing.TB, v reflect.Value, next *int) {
	t.Helper()
	*next++
	switch v.Kind() {
	case reflect.String:
		v.SetString(string(rune('a'+*next%26)) + "\x00é")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(int64(*next) * -1001)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*next) + 1<<(v.Type().Bits()-1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), next)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), next)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(t, field, next)
		}
	default:
		t.Fatalf("a plan has a field of kind %s, which nobody encodes", v.Kind())
	}
}

// No field is forgotten, and none is taken for another.
func TestEncodeEveryField(t *testing.T) {
	var p Plan
	n := 0
	fill(t, reflect.ValueOf(&p).Elem(), &n)
	for _, format := range []int{Format, FormatJSON, Format + 1} {
		got, err := Decode(encode(t, &p, format))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&p, got); diff != "" {
			t.Errorf("format %d: decoded otherwise (-want +got):\n%s", format, diff)
		}
	}
}

func encode(t testing.TB, p *Plan, format int) []byte {
	t.Helper()
	b, err := p.Encode(format)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEncodeShared: plans share parts, which encoding only reads. (The race detector sees it if not.)
func TestEncodeShared(t *testing.T) {
	var p Plan
	n := 0
	fill(t, reflect.ValueOf(&p).Elem(), &n)
	want := encode(t, &p, Format)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if got := encode(t, &p, Format); !bytes.Equal(got, want) {
				t.Error("encoded otherwise")
			}
		})
	}
	all.Wait()
}

// A changed layout needs another number, or a daemon and a shim of two builds
// would misunderstand each other.
func TestFormatIsThatOfTheLayout(t *testing.T) {
	const known = "1 3f2bbf2241faada6"
	var layout func(t reflect.Type) string
	layout = func(t reflect.Type) string {
		switch t.Kind() {
		case reflect.Pointer:
			return "*" + layout(t.Elem())
		case reflect.Slice:
			return "[]" + layout(t.Elem())
		case reflect.Struct:
			var s strings.Builder
			s.WriteString("{")
			for field := range t.Fields() {
				s.WriteString(field.Name + " " + layout(field.Type) + ";")
			}
			return s.String() + "}"
		default:
			return t.Kind().String()
		}
	}
	sum := sha256.Sum256([]byte(layout(reflect.TypeFor[Plan]())))
	if got := fmt.Sprintf("%d %x", Format, sum[:8]); got != known {
		t.Errorf("format and layout are %q, were %q: a new layout needs a new Format, then put both here", got, known)
	}
}

func TestEncodeNothing(t *testing.T) {
	got, err := Decode(encode(t, &Plan{}, Format))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Plan{}, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("decoded otherwise (-want +got):\n%s", diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := encode(t, &Plan{ID: "x", Steps: []Step{{Name: "exec", Op: OpExec, Rows: 3}}}, Format)
	cases := map[string][]byte{
		"nothing":            {},
		"another format":     append([]byte{Format + 1}, good[1:]...),
		"more than a plan":   append(bytes.Clone(good), 0),
		"not quite JSON":     []byte("{]"),
		"text beyond end":    {Format, 200, 'x'},
		"list beyond memory": {Format, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"number of 65 bits":  {Format, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02},
	}
	for n := range good {
		cases[fmt.Sprintf("cut off at %d", n)] = good[:n]
	}
	for name, b := range cases {
		if p, err := Decode(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %+v, %v", name, p, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	var p Plan
	n := 0
	fill(f, reflect.ValueOf(&p).Elem(), &n)
	f.Add(encode(f, &p, Format))
	f.Add(encode(f, &Plan{}, Format))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(encode(t, p, Format))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("changes when encoded again:\n%s", diff)
		}
	})
}

package packed

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func gzipOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstdOf(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func TestOpen(t *testing.T) {
	text := []byte(strings.Repeat("what comes out ", 1000))
	zeros := make([]byte, 3<<20)
	for name, c := range map[string]struct {
		data   []byte
		limits Limits
		kind   Kind
		want   []byte
		class  error
		text   string // part of the error
	}{
		"plain":                   {data: text, kind: None, want: text},
		"empty":                   {data: nil, kind: None, want: nil},
		"gzip":                    {data: gzipOf(t, text), kind: Gzip, want: text},
		"zstd":                    {data: zstdOf(t, text), kind: Zstd, want: text},
		"damaged gzip":            {data: append(gzipOf(t, text)[:40], make([]byte, 100)...), class: errdefs.ErrInvalidArgument, text: "packed data is damaged"},
		"xz":                      {data: []byte{0xfd, '7', 'z', 'X', 'Z', 0, 1}, class: errdefs.ErrInvalidArgument, text: "xz compression is not supported"},
		"more than is allowed":    {data: text, limits: Limits{Unpacked: 100}, class: errdefs.ErrInvalidArgument, text: "unpacks to more than 100B"},
		"packed beyond reason":    {data: gzipOf(t, zeros), limits: Limits{RatioFrom: 1 << 20, Ratio: 10}, class: errdefs.ErrInvalidArgument, text: "more than 10 times as much"},
		"plain has no ratio":      {data: zeros, limits: Limits{RatioFrom: 1 << 20, Ratio: 1}, kind: None, want: zeros},
		"more than fits the disk": {data: make([]byte, CheckEvery+1), limits: Limits{KeepFree: 1 << 60}, class: errdefs.ErrResourceExhausted, text: "free on"},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := Open(bytes.NewReader(c.data), c.limits.WithDefaults(), t.TempDir())
			var got []byte
			if err == nil {
				got, err = io.ReadAll(stream)
				if closeErr := stream.Close(); closeErr != nil && err == nil {
					t.Error(closeErr)
				}
			}
			if c.class != nil {
				if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("error %v, want %v with %q", err, c.class, c.text)
				}
				return
			}
			if err != nil || stream.Kind != c.kind || !bytes.Equal(got, c.want) {
				t.Errorf("kind %v, %d bytes, %v; want %v, %d", stream.Kind, len(got), err, c.kind, len(c.want))
			}
		})
	}
}

func TestBudgetEntry(t *testing.T) {
	b := Budget{limits: Limits{Entries: 2, Unpacked: 100}.WithDefaults(), dir: t.TempDir()}
	if err := b.Entry(60); err != nil {
		t.Error(err)
	}
	if err := b.Entry(60); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a sparse file beyond the limit: %v", err)
	}
	if err := b.Entry(0); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "more than 2 entries") {
		t.Errorf("a third entry: %v", err)
	}
	if b.Claimed() != 120 {
		t.Errorf("%d bytes were claimed, want 120", b.Claimed())
	}
}

func TestLayerMediaType(t *testing.T) {
	for want, data := range map[string][]byte{
		ocispec.MediaTypeImageLayer:     []byte("anything"),
		ocispec.MediaTypeImageLayerGzip: gzipOf(t, nil),
		ocispec.MediaTypeImageLayerZstd: zstdOf(t, nil),
		"":                              []byte("BZh9"),
	} {
		kind, err := Detect(bufio.NewReader(bytes.NewReader(data)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := kind.LayerMediaType(); got != want || (err != nil) != (want == "") {
			t.Errorf("%q has %q, %v; want %q", data, got, err, want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte("plain"))
	f.Add(gzipOf(f, []byte("text")))
	f.Add(zstdOf(f, []byte("text")))
	f.Add([]byte("BZh91AY&SY"))
	limits := Limits{Unpacked: 1 << 20, Ratio: 100, RatioFrom: 1 << 16}.WithDefaults()
	f.Fuzz(func(t *testing.T, data []byte) {
		stream, err := Open(bytes.NewReader(data), limits, ".")
		if err != nil {
			return
		}
		defer stream.Close()
		if n, _ := io.Copy(io.Discard, stream); n > limits.Unpacked {
			t.Errorf("%d bytes came out, more than %d", n, limits.Unpacked)
		}
	})
}

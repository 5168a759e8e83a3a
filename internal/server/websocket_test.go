package server

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/portholehq/porthole/internal/engine"
)

func TestAttachWebsocket(t *testing.T) {
	for name, tty := range map[string]bool{"frames are taken out": false, "terminal": true} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			var got engine.AttachOptions
			d := serve(t, &fake{tty: tty, attach: func(ctx context.Context, o engine.AttachOptions, open func() (engine.Stream, error)) error {
				defer close(ended)
				got = o
				s, err := open()
				if err != nil {
					return err
				}
				go func() { // as the engine does, the input is read beside
					_, _ = io.Copy(io.Discard, s)
				}()
				if tty {
					_, err = s.Write([]byte("hello"))
				} else {
					_, err = s.Write([]byte("\x01\x00\x00\x00\x00\x00\x00\x05hello"))
				}
				<-ctx.Done()
				return err
			}})
			conn, err := net.Dial("unix", d.socket)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			config, err := websocket.NewConfig("ws://d/v1.51/containers/web/attach/ws?stream=1&stdout=1", "http://d")
			if err != nil {
				t.Fatal(err)
			}
			ws, err := websocket.NewClient(config, conn)
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 5)
			if _, err := io.ReadFull(ws, buf); err != nil || string(buf) != "hello" {
				t.Errorf("%q, %v", buf, err)
			}
			_ = ws.Close()
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				t.Fatal("the attachment goes on without its client")
			}
			if got.Stdin || !got.Stdout || got.Stderr || !got.Stream {
				t.Errorf("options %+v", got)
			}
		})
	}
}

func TestAttachWebsocketWithoutHandshake(t *testing.T) {
	d := serve(t, &fake{attach: func(_ context.Context, _ engine.AttachOptions, open func() (engine.Stream, error)) error {
		_, err := open()
		return err
	}})
	if resp, _ := d.ask(t, get, "/containers/web/attach/ws", ""); resp.StatusCode != 400 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestUnframer(t *testing.T) {
	const stream = "\x01\x00\x00\x00\x00\x00\x00\x03one\x02\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x03two"
	for size := 1; size <= len(stream); size++ {
		if got := unframed(t, []byte(stream), size); got != "onetwo" {
			t.Errorf("in pieces of %d: %q", size, got)
		}
	}
}

func FuzzUnframer(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x03one\x02\x00\x00\x00\x00\x00\x00\x00"), 3)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		whole, pieces := unframed(t, stream, len(stream)), unframed(t, stream, size)
		if whole != pieces {
			t.Errorf("%q as a whole, %q in pieces of %d", whole, pieces, size)
		}
	})
}

// unframed returns the payloads of a stream that is written in pieces.
func unframed(t *testing.T, stream []byte, size int) string {
	t.Helper()
	var out bytes.Buffer
	var u unframer
	for p := stream; len(p) > 0; {
		n := min(max(size, 1), len(p))
		if _, err := u.write(&out, p[:n]); err != nil {
			t.Fatal(err)
		}
		p = p[n:]
	}
	return out.String()
}

package dap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-dap"
)

// FuzzListen has an editor say anything before a build has begun. Each request is
// answered once, and what the editor gets are messages with numbers of their own.
func FuzzListen(f *testing.F) {
	seed := func(bodies ...string) {
		var b bytes.Buffer
		for _, body := range bodies {
			if err := dap.WriteBaseMessage(&b, []byte(body)); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(b.Bytes())
	}
	seed(
		`{"seq":1,"type":"request","command":"initialize","arguments":{"adapterID":"x"}}`,
		`{"seq":2,"type":"request","command":"launch","arguments":{"contextPath":"/nowhere","args":{"A":"b"}}}`,
		`{"seq":3,"type":"request","command":"setBreakpoints","arguments":{"source":{"path":"/nowhere/Dockerfile"},"breakpoints":[{"line":3}]}}`,
		`{"seq":4,"type":"request","command":"configurationDone"}`, `{"seq":5,"type":"request","command":"threads"}`,
	)
	seed(
		`{"seq":1,"type":"request","command":"stackTrace","arguments":{"threadId":1,"levels":-1}}`, `{"seq":2,"type":"request","command":"scopes","arguments":{"frameId":9}}`,
		`{"seq":3,"type":"request","command":"variables","arguments":{"variablesReference":-9}}`, `{"seq":4,"type":"request","command":"evaluate","arguments":{"expression":":help"}}`,
		`{"seq":5,"type":"request","command":"reverseContinue"}`, `{"seq":6,"type":"request","command":"unheard of"}`, `{"seq":7,"type":"event","event":"stopped"}`,
		`{"seq":8,"type":"request","command":"disconnect"}`, `{"seq":9,"type":"request","command":"threads"}`,
	)
	f.Add([]byte("Content-Length: 99999999999999999999\r\n\r\n{}"))
	f.Fuzz(func(t *testing.T, said []byte) {
		var out bytes.Buffer
		s := &session{w: &out, catching: true, started: true} // so that no build is begun
		s.ctx, s.cancel = context.WithCancel(t.Context())
		_ = s.listen(bufio.NewReader(bytes.NewReader(said)))
		s.cancel()
		s.running.Wait()

		var asked, answered []int
		for r := bufio.NewReader(bytes.NewReader(said)); ; {
			m, err := dap.ReadProtocolMessage(r)
			if unknown, ok := errors.AsType[*dap.DecodeProtocolMessageFieldError](err); ok {
				asked = append(asked, unknown.Seq)
				continue
			}
			if err != nil {
				break
			}
			if q, ok := m.(dap.RequestMessage); ok {
				asked = append(asked, q.GetSeq())
				if _, last := m.(*dap.DisconnectRequest); last {
					break
				}
			}
		}
		number := 0
		for r := bufio.NewReader(&out); ; {
			m, err := dap.ReadProtocolMessage(r)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("what the editor gets: %v", err)
			}
			if number++; m.GetSeq() != number {
				t.Errorf("message %d has the number %d", number, m.GetSeq())
			}
			if a, ok := m.(dap.ResponseMessage); ok {
				answered = append(answered, a.GetResponse().RequestSeq)
			}
		}
		slices.Sort(asked)
		slices.Sort(answered)
		if !slices.Equal(asked, answered) {
			t.Errorf("asked %v, answered %v", asked, answered)
		}
	})
}

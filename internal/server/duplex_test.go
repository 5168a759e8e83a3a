package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRefusedBeforeTheBodyEnds: a client that is answered while it still sends the body of its request gets the whole
// answer, and then nothing: the connection ends.
func TestRefusedBeforeTheBodyEnds(t *testing.T) {
	for _, path := range []string{"/porthole/containers/nosuch/trace", "/porthole/containers/nosuch/trace?last=never", "/porthole/containers/nosuch/packets"} {
		t.Run(strings.ReplaceAll(path, "/", " "), func(t *testing.T) {
			d := serve(t, &fake{Backend: &netFake{}})
			conn, r := d.dial(t, "POST "+path+" HTTP/1.1\nHost: d\nTransfer-Encoding: chunked\n", "")
			answer, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode < 400 {
				t.Errorf("answer %s, %v", answer.Status, err)
			}
			// The server closes as soon as it has answered, or once the body has ended.
			if _, err := fmt.Fprint(conn, "0\r\n\r\n"); err != nil && !errors.Is(err, unix.EPIPE) {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(r); err != nil && !errors.Is(err, unix.ECONNRESET) || len(rest) > 0 {
				t.Errorf("after the end of the body: %q, %v", rest, err)
			}
			if text := d.logs.String(); strings.Contains(text, "panic") {
				t.Errorf("the server panicked: %s", text)
			}
		})
	}
}

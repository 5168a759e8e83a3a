package server

import (
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestBrowser: pages of other sites get nowhere, programs everywhere. Each row is a request as browsers or programs
// send it to port 2375 of this machine.
func TestBrowser(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := serve(t, &fake{})
	go func() { _ = d.Serve(l) }()
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	for _, c := range []struct {
		what, method, host string
		header             map[string]string
		want               int
	}{
		{"docker", get, addr, nil, 200},
		{"docker by name", get, "localhost:" + port, nil, 200},
		{"docker by the machine's name", get, strings.ToUpper(name) + ":" + port, nil, 200},
		{"a client of websockets", get, addr, map[string]string{"Origin": "http://" + addr}, 200},
		{"a browser's address line", get, addr, map[string]string{"Sec-Fetch-Site": "none"}, 200},
		{"a form of another site", post, addr, map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, 403},
		{"an old browser's form", post, addr, map[string]string{"Origin": "https://evil.example"}, 403},
		{"a page from a file", post, addr, map[string]string{"Origin": "null"}, 403},
		{"another port of this machine", post, "localhost:" + port, map[string]string{"Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-site"}, 403},
		{"an image in another site", get, addr, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"a question before", http.MethodOptions, addr, map[string]string{"Origin": "https://evil.example"}, 403},
		{"a name that leads here", get, "evil.example:" + port, nil, 403},
		{"a name that leads here, with its page", post, "evil.example:" + port, map[string]string{"Origin": "http://evil.example:" + port, "Sec-Fetch-Site": "same-origin"}, 403},
		{"a name that begins like ours", get, "127.0.0.1.evil.example", nil, 403},
	} {
		t.Run(c.what, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+addr+"/_ping", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			for key, value := range c.header {
				req.Header.Set(key, value)
			}
			tr := &http.Transport{DisableKeepAlives: true}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != c.want {
				t.Errorf("status %d, want %d", resp.StatusCode, c.want)
			}
		})
	}
	// Nobody's page reaches a socket of the file system.
	if resp, body := d.ask(t, get, "/_ping", ""); resp.StatusCode != 200 {
		t.Errorf("by the socket: %d %s", resp.StatusCode, body)
	}
}

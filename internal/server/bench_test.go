package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/engine"
)

// BenchmarkLogs sends lines of 60 bytes to a client that reads them.
func BenchmarkLogs(b *testing.B) {
	line := []byte("2026 some line that an application wrote, sixty bytes long.\n")
	lines := 0
	f := &fake{logs: func(_ context.Context, _ engine.LogsOptions, fn func(engine.LogEntry) error) error {
		at := time.Now()
		for range lines {
			if err := fn(engine.LogEntry{Time: at, Stream: engine.Stdout, Line: line}); err != nil {
				return err
			}
		}
		return nil
	}}
	s, err := New(Options{Backend: f, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	socket := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	defer func() { _ = s.Shutdown(b.Context()) }()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}
	for name, query := range map[string]string{"plain": "", "timestamps": "&timestamps=1"} {
		b.Run(name, func(b *testing.B) {
			lines = b.N
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			resp, err := client.Get("http://d/containers/web/logs?stdout=1" + query)
			if err != nil {
				b.Fatal(err)
			}
			defer resp.Body.Close()
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				b.Fatal(err)
			}
		})
	}
}

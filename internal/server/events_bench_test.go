package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/event"
)

// journaled is a backend whose events are those of a journal.
type journaled struct {
	*fake
	j *event.Journal
}

func (b journaled) Events(ctx context.Context, o engine.EventsOptions, fn engine.EventFunc) error {
	return b.j.Read(ctx, event.ReadOptions{Since: o.Since, Until: o.Until, After: o.After}, o.Opened, fn)
}

// BenchmarkEvents publishes events and reads them at the same time as a client does: from the socket, each with its
// number, none missing. The publisher is never further ahead than the journal keeps.
func BenchmarkEvents(b *testing.B) {
	j, err := event.Open(b.TempDir(), event.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	s, err := New(Options{Backend: journaled{&fake{}, j}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	socket := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	defer func() { _ = s.Shutdown(context.Background()) }() //nolint:usetesting // the benchmark's context has ended
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}
	resp, err := client.Get("http://d/events")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	m := events.Message{Type: events.ContainerEventType, Action: events.ActionStart, Actor: events.Actor{
		ID: strings.Repeat("0123456789abcdef", 4), Attributes: map[string]string{"image": "nginx:latest", "name": "web", "maintainer": "someone"},
	}}
	by := &event.Origin{UID: new(uint32(1000)), PID: 4242, Command: []string{"docker", "start", "web"}, Request: "abc-17"}
	const ahead = 50_000
	room := make(chan struct{}, ahead) // one for each event that was published and not read yet
	b.ResetTimer()
	go func() {
		for range b.N {
			room <- struct{}{}
			if _, err := j.PublishBy(by, m); err != nil {
				b.Error(err)
				return
			}
		}
	}()
	lines := bufio.NewReaderSize(resp.Body, 64<<10)
	for n := range b.N {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			b.Fatal(err)
		}
		if got, err := seqOf(line); err != nil || got != n+1 {
			b.Fatalf("event %d has number %d, %v: %s", n+1, got, err, line)
		}
		<-room
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// seqOf finds the number in an event's line. It does not decode the line, which is the reader's business.
func seqOf(line []byte) (int, error) {
	_, rest, found := bytes.Cut(line, []byte(`"porthole":{"seq":`))
	if !found {
		return 0, fmt.Errorf("no number")
	}
	digits, _, _ := bytes.Cut(rest, []byte(","))
	return strconv.Atoi(string(digits))
}

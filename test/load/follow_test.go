package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"

	portholeapi "github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/test/bed"
)

const (
	// lines that the container writes.
	lines = 20000
	// starts of containers that make events.
	starts = 20
)

// TestFollowers has many clients follow a log and the events. Some others ask
// for the same and never read. All that read get everything; nobody waits for those
// who do not.
func TestFollowers(t *testing.T) {
	begin(t)
	n := size(t, "PORTHOLE_TEST_LOAD_FOLLOWERS", 200)
	porthole(t, "run", "-d", "--name", "source", "busybox", "sh", "-c",
		fmt.Sprintf("until [ -e /go ]; do usleep 10000; done; seq 1 %d; sleep 100000", lines))
	t.Cleanup(func() { rm(t, "source") })
	before := measure(t)

	for _, path := range []string{
		"GET /containers/source/logs?follow=1&stdout=1", "GET /porthole/containers/source/logs?follow=1&stdout=1", "GET /events",
		"POST /containers/source/attach?stream=1&stdout=1",
	} {
		conn := askAndNeverRead(t, path)
		defer conn.Close()
	}

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var ready, clients sync.WaitGroup
	var got atomic.Int64
	for i := range n {
		ready.Add(1)
		if i%2 == 0 {
			clients.Go(func() { followLog(ctx, t, &ready, &got) })
		} else {
			clients.Go(func() { followEvents(ctx, t, &ready, &got) })
		}
	}
	ready.Wait()
	began := time.Now()
	porthole(t, "exec", "source", "touch", "/go")
	bed.InParallel(t, starts, func(int) error {
		_, err := daemon.Porthole(ctx, "run", "--rm", "--label", "load=event", "busybox", "true")
		return err
	})
	clients.Wait()
	took := time.Since(began)
	want := int64(n-n/2)*lines + int64(n/2)*starts
	if got.Load() != want {
		t.Errorf("%d lines and events came, want %d", got.Load(), want)
	}
	figure(t, "%d followers beside 4 clients that read nothing: %d of %d lines and events, in %v", n, got.Load(), want, took.Round(time.Millisecond))
	figure(t, "daemon after the followers: %v", measure(t))
	// The clients that do not read are still there. Others come and go, as those of the last starts.
	most := state{heap: before.heap, fds: before.fds + 8, goroutines: before.goroutines + 24}
	now := measure(t)
	for end := time.Now().Add(settling); !flat(most, now, 8<<20) && time.Now().Before(end); now = measure(t) {
		<-time.After(100 * time.Millisecond)
	}
	wantFlat(t, most, now, 8<<20)
}

// rm removes a container though the test is over.
func rm(t *testing.T, name string) {
	t.Helper()
	if _, err := daemon.Porthole(context.WithoutCancel(t.Context()), "rm", "-f", name); err != nil {
		t.Error(err)
	}
}

// askAndNeverRead sends a request and leaves the answer where it is.
func askAndNeverRead(t *testing.T, request string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", daemon.Socket)
	if err != nil {
		t.Fatal(err)
	}
	head := " HTTP/1.1\r\nHost: porthole\r\n"
	if strings.Contains(request, "/attach") {
		head += "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n"
	}
	if _, err := fmt.Fprintf(conn, "%s%s\r\n", request, head); err != nil {
		t.Fatal(err)
	}
	return conn
}

// errEnough ends a stream of which everything has come.
var errEnough = errors.New("enough")

// followLog follows the log until its last line, and sees that none is missing.
func followLog(ctx context.Context, t *testing.T, ready *sync.WaitGroup, got *atomic.Int64) {
	next, number := []byte("1\n"), 1
	var line []byte
	once := sync.OnceFunc(ready.Done)
	defer once()
	// There is nothing to read at first: it waits.
	idle := func() { once() }
	o := client.LogsOptions{Idle: idle}
	o.ShowStdout, o.Follow = true, true
	err := api.Logs(ctx, "source", o, func(f client.LogFrame) error {
		if f.Notice != nil && f.Notice.Dropped > 0 {
			return errors.New(f.Notice.String())
		}
		line = append(line, f.Text...)
		for {
			one, rest, whole := bytes.Cut(line, []byte("\n"))
			if !whole {
				return nil
			}
			if !bytes.Equal(one, next[:len(next)-1]) {
				return fmt.Errorf("line %d is %q", number, one)
			}
			got.Add(1)
			line = rest
			if number++; number > lines {
				return errEnough
			}
			next = fmt.Appendf(next[:0], "%d\n", number)
		}
	})
	if !errors.Is(err, errEnough) {
		t.Errorf("follow the log: %v, after %d lines", err, number-1)
	}
}

// followEvents follows the events until all containers have been destroyed.
func followEvents(ctx context.Context, t *testing.T, ready *sync.WaitGroup, got *atomic.Int64) {
	once := sync.OnceFunc(ready.Done)
	defer once()
	seen, last := 0, uint64(0)
	o := client.EventsOptions{}
	o.Since = fmt.Sprint(time.Now().Add(-time.Minute).Unix())
	// An event of the past tells that the stream is there.
	err := api.FollowEvents(ctx, o, func(e portholeapi.Event) error {
		once()
		if e.Porthole.Seq <= last {
			return fmt.Errorf("event %d came after %d", e.Porthole.Seq, last)
		}
		last = e.Porthole.Seq
		if e.Type == events.ContainerEventType && e.Action == events.ActionDestroy && e.Actor.Attributes["load"] == "event" {
			got.Add(1)
			if seen++; seen == starts {
				return errEnough
			}
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Errorf("follow the events: %v, after %d", err, seen)
	}
}

package engine

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSlowClientHoldsUpNoShim: what is left when a container has ended is taken from the shim at once, however slow the
// client is, and the client gets all of it.
func TestSlowClientHoldsUpNoShim(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	shim, daemon := os.NewFile(uintptr(fds[0]), "shim"), os.NewFile(uintptr(fds[1]), "daemon")
	defer daemon.Close()
	sock, err := streamConn(daemon)
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	client, slow := io.Pipe() // takes nothing but what is read
	ended, copied := make(chan struct{}), make(chan error, 1)
	go func() {
		err := copyToClient(slow, sock, ended)
		slow.Close()
		copied <- err
	}()
	output := bytes.Repeat([]byte("0123456789abcde\n"), 4<<20/16) // more than any socket holds
	half := len(output) / 2
	written := make(chan error, 1)
	go func() {
		_, err := shim.Write(output[:half])
		if err == nil {
			_, err = shim.Write(output[half:])
		}
		shim.Close()
		written <- err
	}()
	select {
	case <-written:
		t.Fatal("a slow client does not hold up a container that runs")
	case <-time.After(50 * time.Millisecond):
	}
	close(ended)
	if err := <-written; err != nil {
		t.Errorf("the shim's end: %v", err)
	}
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, output) {
		t.Errorf("the client got %d bytes of %d, %v", len(got), len(output), err)
	}
	if err := <-copied; err != nil {
		t.Error(err)
	}
}

// TestOutputOfNoEnd: without an end the copy is one.
func TestOutputOfNoEnd(t *testing.T) {
	var got bytes.Buffer
	if err := copyToClient(&got, bytes.NewReader([]byte("all of it")), nil); err != nil || got.String() != "all of it" {
		t.Errorf("%q %v", got.String(), err)
	}
}

package sockdiag

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// find lists this process's namespace and returns the sockets that match.
func find(t *testing.T, k Kind, match func(Socket) bool) []Socket {
	t.Helper()
	ns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	all, err := Dump(ns, k)
	if err != nil {
		t.Fatal(err)
	}
	var list []Socket
	for _, s := range all {
		if match(s) {
			list = append(list, s)
		}
	}
	return list
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := netip.MustParseAddrPort(l.Addr().String())
	c, err := net.Dial("tcp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// It is in the queue of those that were not accepted.
	list := find(t, TCP4, func(s Socket) bool { return s.Local == at && s.State == Listening })
	if len(list) != 1 || list[0].RecvQueue != 1 || list[0].SendQueue == 0 || list[0].Inode == 0 || list[0].Remote.IsValid() {
		t.Errorf("listening: %+v", list)
	}
	if _, err := c.Write([]byte("12345")); err != nil {
		t.Fatal(err)
	}
	list = find(t, TCP4, func(s Socket) bool { return s.Remote == at })
	if len(list) != 1 || list[0].State.String() != "ESTAB" || list[0].Local.String() != c.LocalAddr().String() || list[0].RTT == 0 {
		t.Errorf("connected: %+v", list)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list = find(t, TCP4, func(s Socket) bool { return s.Local == at && s.State != Listening })
	if len(list) != 1 || list[0].RecvQueue != 5 {
		t.Errorf("accepted, with 5 bytes to read: %+v", list)
	}
}

func TestUDP(t *testing.T) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	at := netip.MustParseAddrPort(c.LocalAddr().String())
	if list := find(t, UDP4, func(s Socket) bool { return s.Local == at }); len(list) != 1 || list[0].State != Unconnected {
		t.Errorf("%+v", list)
	}
}

func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, name := range []string{path, "@sockdiag\x00" + path} {
		l, err := net.Listen("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	abstract := "@sockdiag@" + path
	for _, want := range []string{path, abstract} {
		list := find(t, Unix, func(s Socket) bool { return s.Name == want })
		if len(list) != 1 || list[0].State != Listening || list[0].Type != unix.SOCK_STREAM || list[0].UID != uint32(os.Geteuid()) {
			t.Errorf("%q: %+v", want, list)
		}
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted := find(t, Unix, func(s Socket) bool { return s.Name == path && s.State != Listening })
	if len(accepted) > 1 {
		t.Fatalf("%+v", accepted)
	}
	for _, a := range accepted { // its other end knows it
		if list := find(t, Unix, func(s Socket) bool { return s.Peer == a.Inode }); len(list) != 1 || list[0].Inode != a.Peer {
			t.Errorf("peer of %+v: %+v", a, list)
		}
	}
}

func TestShortAnswers(t *testing.T) {
	for n := range inetMessage {
		if _, err := parseInet(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are taken for an internet socket", n)
		}
	}
	for n := range unixMessage {
		if _, err := parseUnix(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are taken for a unix socket", n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(make([]byte, inetMessage))
	f.Add(append(make([]byte, unixMessage), 8, 0, 2, 0, 1, 0, 0, 0))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = parseInet(b)
		_, _ = parseUnix(b)
	})
}

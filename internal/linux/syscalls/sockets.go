package syscalls

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func sockType(t *Text, i int, _ argument) string {
	const mask = 0xf
	v := uint64(uint32(t.call.Args[i]))
	text := enum("socktype", v&mask)
	if v&^mask != 0 {
		text += "|" + flags(flagSets["sockflags"], v&^mask)
	}
	return text
}

func sockProtocol(t *Text, i int, _ argument) string {
	v := uint64(uint32(t.call.Args[i]))
	switch int(t.call.Args[0]) {
	case unix.AF_INET, unix.AF_INET6:
		return enum("ipproto", v)
	case unix.AF_NETLINK:
		return enum("netlinkproto", v)
	}
	return strconv.FormatUint(v, 10)
}

func sockOption(t *Text, i int, _ argument) string {
	v := uint64(uint32(t.call.Args[i]))
	sets := map[uint64]string{unix.SOL_SOCKET: "so", unix.SOL_TCP: "tcp", unix.SOL_IP: "ipopt", unix.SOL_IPV6: "ip6opt"}
	return enum(sets[uint64(uint32(t.call.Args[i-1]))], v)
}

// optionValue is a number, which most options are, or bytes.
func optionValue(t *Text, i int, a argument) string {
	if a.out && Failed(t.ret) {
		return pointer(t.call.Args[i])
	}
	n := t.length(a)
	const number = 4
	if n != number {
		if n <= 0 || t.call.Args[i] == 0 {
			return pointer(t.call.Args[i])
		}
		return t.bytesAt(t.call.Args[i], n)
	}
	p, ok := t.exactly(t.call.Args[i], number)
	if !ok {
		return pointer(t.call.Args[i])
	}
	return fmt.Sprintf("[%d]", int32(native.Uint32(p)))
}

func sockaddr(t *Text, i int, a argument) string {
	if a.out && Failed(t.ret) {
		return pointer(t.call.Args[i])
	}
	return t.sockaddrAt(t.call.Args[i], t.length(a))
}

// maxSockaddr is the size of struct sockaddr_storage.
const maxSockaddr = 128

func (t *Text) sockaddrAt(addr uint64, n int) string {
	p := t.read(addr, min(n, maxSockaddr))
	if len(p) < 2 {
		return pointer(addr)
	}
	return Sockaddr(p)
}

// Sockaddr prints a socket address as it is in memory, family first.
func Sockaddr(p []byte) string {
	const (
		inetSize  = 8
		inet6Size = 28
		family    = 2
	)
	if len(p) < family {
		return "{}"
	}
	kind := native.Uint16(p)
	text := "{sa_family=" + enum("family", uint64(kind))
	switch {
	case kind == unix.AF_INET && len(p) >= inetSize:
		return text + fmt.Sprintf(", sin_port=htons(%d), sin_addr=inet_addr(%q)}", binary.BigEndian.Uint16(p[2:]), netip.AddrFrom4([4]byte(p[4:8])))
	case kind == unix.AF_INET6 && len(p) >= inet6Size:
		text += fmt.Sprintf(", sin6_port=htons(%d), sin6_flowinfo=htonl(%d), inet_pton(AF_INET6, %q, &sin6_addr)",
			binary.BigEndian.Uint16(p[2:]), binary.BigEndian.Uint32(p[4:]), netip.AddrFrom16([16]byte(p[8:24])))
		return text + fmt.Sprintf(", sin6_scope_id=%d}", native.Uint32(p[24:]))
	case kind == unix.AF_UNIX:
		path := string(p[family:])
		if path == "" {
			return text + "}"
		}
		if name, ok := strings.CutPrefix(path, "\x00"); ok { // abstract: all of it is the name
			return text + ", sun_path=@" + quote([]byte(name), false) + "}"
		}
		path, _, _ = strings.Cut(path, "\x00")
		return text + ", sun_path=" + quote([]byte(path), false) + "}"
	case kind == unix.AF_NETLINK && len(p) >= 12:
		return text + fmt.Sprintf(", nl_pid=%d, nl_groups=%08x}", native.Uint32(p[4:]), native.Uint32(p[8:]))
	case len(p) == family:
		return text + "}"
	}
	return text + ", sa_data=" + quote(p[family:], false) + "}"
}

package applet

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/portholehq/porthole/internal/linux/procfile"
)

// socketStates are the names of TCP's states by number (include/net/tcp_states.h).
var socketStates = []string{"", "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "UNCONN", "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING"}

// socketLine is a line of /proc/net/tcp and its like, see proc_pid_net(5).
type socketLine struct {
	kind, state   string
	local, remote netip.AddrPort
	recv, send    uint64
	inode         string
}

// ssCommand lists internet sockets: those that are connected, with -l those that
// listen, with -a both; -t and -u choose, -p tells whose they are. It is netstat,
// too.
func ssCommand(std IO, args []string) error {
	o, err := parse(args, "tulapn46rW", "", map[string]byte{"tcp": 't', "udp": 'u', "listening": 'l', "all": 'a', "processes": 'p', "numeric": 'n'})
	if err != nil {
		return err
	}
	dir := "/proc/net"
	if foreignProc() {
		dir = "/proc/1/net" // this process is in the network of the target's
	}
	owners := map[string]string{}
	if o.has('p') {
		owners = socketOwners()
	}
	rows := [][]string{{"Netid", "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", ""}}
	for _, kind := range []string{"tcp", "tcp6", "udp", "udp6"} {
		chosen := o.has('t') || o.has('u')
		if chosen && !o.has(kind[0]) || o.has('4') && strings.HasSuffix(kind, "6") || o.has('6') && !strings.HasSuffix(kind, "6") {
			continue
		}
		list, err := readSockets(filepath.Join(dir, kind), kind)
		if err != nil {
			return err
		}
		for _, s := range list {
			waits := s.state == "LISTEN" || s.state == "UNCONN"
			if !o.has('a') && waits != o.has('l') {
				continue
			}
			rows = append(rows, []string{kind[:3], s.state, strconv.FormatUint(s.recv, 10), strconv.FormatUint(s.send, 10), endText(s.local), endText(s.remote), owners[s.inode]})
		}
	}
	printTable(std, rows)
	return nil
}

func readSockets(file, kind string) ([]socketLine, error) {
	f, err := os.Open(file)
	if os.IsNotExist(err) {
		return nil, nil // a kernel without IPv6
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []socketLine
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		if s, ok := parseSocket(scan.Text(), kind); ok {
			list = append(list, s)
		}
	}
	return list, scan.Err()
}

// parseSocket reads one line; the first of the file is a heading.
func parseSocket(line, kind string) (s socketLine, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return s, false
	}
	local, err1 := hexEnd(f[1])
	remote, err2 := hexEnd(f[2])
	state, err3 := strconv.ParseUint(f[3], 16, 8)
	send, recv, _ := strings.Cut(f[4], ":")
	tx, err4 := strconv.ParseUint(send, 16, 32)
	rx, err5 := strconv.ParseUint(recv, 16, 32)
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			return s, false
		}
	}
	s = socketLine{kind: kind, state: "UNKNOWN", local: local, remote: remote, recv: rx, send: tx, inode: f[9]}
	if int(state) < len(socketStates) {
		s.state = socketStates[state]
	}
	return s, true
}

// hexEnd reads ADDRESS:PORT, whose address stands in words of the machine's,
// little-endian here, byte order.
func hexEnd(text string) (netip.AddrPort, error) {
	address, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i+4 <= len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address %q", text)
	}
	return netip.AddrPortFrom(addr, uint16(n)), nil
}

func endText(a netip.AddrPort) string {
	port := "*"
	if a.Port() != 0 {
		port = strconv.Itoa(int(a.Port()))
	}
	if a.Addr().Is6() {
		return "[" + a.Addr().String() + "]:" + port
	}
	return a.Addr().String() + ":" + port
}

// socketOwners tells by inode which processes have a socket open, as far as they
// may be looked into.
func socketOwners() map[string]string {
	owners := map[string]string{}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return owners
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		inode, isSocket := strings.CutPrefix(target, "socket:[")
		if err != nil || !isSocket {
			continue
		}
		pid := strings.Split(link, "/")[2]
		name, err := procfile.Read("/proc/"+pid+"/comm", 64)
		if err != nil {
			continue
		}
		inode = strings.TrimSuffix(inode, "]")
		owners[inode] = strings.TrimSpace(owners[inode] + fmt.Sprintf(" %s(%s)", strings.TrimSpace(string(name)), pid))
	}
	return owners
}

// stringsCommand prints what is text in files: runs of four printable characters
// or, with -n, of so many.
func stringsCommand(std IO, args []string) error {
	o, err := parse(args, "a", "n", map[string]byte{"all": 'a', "bytes": 'n'})
	if err != nil {
		return err
	}
	least, err := strconv.Atoi(o.value('n', "4"))
	if err != nil || least < 1 {
		return usageError("invalid length: " + o.value('n', ""))
	}
	return eachFile(std, "strings", o.args, func(_ string, r io.Reader) error {
		in, out := bufio.NewReader(r), bufio.NewWriter(std.Out)
		defer out.Flush()
		var run []byte
		for {
			b, err := in.ReadByte()
			if err == nil && (b >= ' ' && b < 0x7f || b == '\t') {
				run = append(run, b)
				continue
			}
			if len(run) >= least {
				fmt.Fprintf(out, "%s\n", run)
			}
			run = run[:0]
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
}

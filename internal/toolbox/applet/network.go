package applet

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// addresses prints the addresses of this machine other than the loopback's.
func addresses(std IO) error {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	var list []string
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			list = append(list, n.IP.String())
		}
	}
	fmt.Fprintln(std.Out, strings.Join(list, " "))
	return nil
}

// ipCommand shows addresses, links and routes; it changes nothing.
func ipCommand(std IO, args []string) error {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		args = args[1:]
	}
	what := "addr"
	if len(args) > 0 {
		what = args[0]
	}
	switch {
	case strings.HasPrefix("address", what), strings.HasPrefix("link", what):
		return ipLinks(std, strings.HasPrefix("address", what))
	case strings.HasPrefix("route", what):
		return ipRoutes(std)
	}
	return usageError("ip addr|link|route")
}

func ipLinks(std IO, withAddresses bool) error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		fmt.Fprintf(std.Out, "%d: %s: <%s> mtu %d\n", l.Index, l.Name, strings.ToUpper(strings.ReplaceAll(l.Flags.String(), "|", ",")), l.MTU)
		if len(l.HardwareAddr) > 0 {
			fmt.Fprintf(std.Out, "    link/ether %s\n", l.HardwareAddr)
		}
		addrs, err := l.Addrs()
		if err != nil || !withAddresses {
			continue
		}
		for _, a := range addrs {
			family := "inet"
			if strings.Contains(a.String(), ":") {
				family = "inet6"
			}
			fmt.Fprintf(std.Out, "    %s %s\n", family, a)
		}
	}
	return nil
}

// ipRoutes reads /proc/net/route: hexadecimal in the machine's byte order.
func ipRoutes(std IO) error {
	f, err := os.Open("/proc/net/route")
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Scan()
	for in.Scan() {
		c := strings.Fields(in.Text())
		if len(c) < 8 {
			continue
		}
		to, via, mask := hexAddress(c[1]), hexAddress(c[2]), hexAddress(c[7])
		text := "default"
		if ones, _ := net.IPMask(mask.AsSlice()).Size(); ones > 0 {
			text = netip.PrefixFrom(to, ones).String()
		}
		if !via.IsUnspecified() {
			text += " via " + via.String()
		}
		fmt.Fprintf(std.Out, "%s dev %s\n", text, c[0])
	}
	return in.Err()
}

func hexAddress(text string) netip.Addr {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 4 {
		return netip.IPv4Unspecified()
	}
	var a [4]byte
	binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(b))
	return netip.AddrFrom4(a)
}

func nslookupCommand(std IO, args []string) error {
	if len(args) == 0 {
		return usageError("a name is missing")
	}
	r := &net.Resolver{PreferGo: true}
	if len(args) > 1 {
		r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, net.JoinHostPort(args[1], "53"))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	addrs, err := r.LookupHost(ctx, args[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "Name:\t%s\n", args[0])
	for _, a := range addrs {
		fmt.Fprintf(std.Out, "Address: %s\n", a)
	}
	return nil
}

// ncCommand connects or, with -l, waits for one connection, and copies both
// ways.
func ncCommand(std IO, args []string) error {
	o, err := parse(args, "luvzn", "pw", nil)
	if err != nil {
		return err
	}
	network := "tcp"
	if o.has('u') {
		network = "udp"
	}
	limit, err := seconds(o.value('w', "0"))
	if err != nil {
		return usageError("invalid time: " + o.value('w', ""))
	}
	var conn net.Conn
	if o.has('l') {
		port := o.value('p', "")
		if port == "" && len(o.args) > 0 {
			port = o.args[len(o.args)-1]
		}
		if conn, err = accept(network, port); err != nil {
			return err
		}
	} else {
		if len(o.args) != 2 {
			return usageError("nc [-u] HOST PORT, or nc -l -p PORT")
		}
		d := net.Dialer{Timeout: limit}
		if conn, err = d.Dial(network, net.JoinHostPort(o.args[0], o.args[1])); err != nil {
			return err
		}
	}
	defer conn.Close()
	if o.has('v') {
		fmt.Fprintf(std.Err, "connected to %s\n", conn.RemoteAddr())
	}
	if o.has('z') {
		return nil
	}
	go func() {
		_, _ = io.Copy(conn, std.In)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	_, err = io.Copy(std.Out, conn)
	return err
}

func accept(network, port string) (net.Conn, error) {
	if network == "udp" {
		return nil, errors.New("listening is for tcp only")
	}
	var config net.ListenConfig
	l, err := config.Listen(context.Background(), network, ":"+port)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.Accept()
}

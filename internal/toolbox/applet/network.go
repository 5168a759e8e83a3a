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
	"net/url"
	"os"
	"path"
	"strconv"
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

// wgetCommand fetches by plain http: -O FILE or -, -q, -S, -T SECONDS, -s or
// --spider, --header. There is no TLS in here.
func wgetCommand(std IO, args []string) error {
	w := wget{std: std, timeout: 30 * time.Second}
	var urls []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		next := func() string {
			if i++; i < len(args) {
				return args[i]
			}
			return ""
		}
		switch {
		case a == "-q":
			w.quiet = true
		case a == "-S" || a == "--server-response":
			w.showHeaders = true
		case a == "-s" || a == "--spider":
			w.spider = true
		case a == "-O":
			w.file = next()
		case a == "-qO":
			w.quiet, w.file = true, next()
		case strings.HasPrefix(a, "-qO"):
			w.quiet, w.file = true, a[3:]
		case strings.HasPrefix(a, "-O"):
			w.file = a[2:]
		case a == "-T":
			d, err := seconds(next())
			if err != nil {
				return usageError("invalid time")
			}
			w.timeout = d
		case a == "--header":
			w.headers = append(w.headers, next())
		case strings.HasPrefix(a, "--header="):
			w.headers = append(w.headers, strings.TrimPrefix(a, "--header="))
		case strings.HasPrefix(a, "-") && a != "-":
			return usageError("unrecognized option: " + a)
		default:
			urls = append(urls, a)
		}
	}
	if len(urls) == 0 {
		return usageError("a URL is missing")
	}
	for _, u := range urls {
		if err := w.get(u); err != nil {
			return err
		}
	}
	return nil
}

type wget struct {
	std                        IO
	quiet, showHeaders, spider bool
	file                       string
	headers                    []string
	timeout                    time.Duration
}

func (w *wget) get(text string) error {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	for range 10 {
		next, err := w.once(u)
		if err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		if u, err = u.Parse(next); err != nil {
			return err
		}
	}
	return errors.New("too many redirections")
}

// once makes one request; it returns where the server sends us, if it does.
func (w *wget) once(u *url.URL) (redirect string, err error) {
	if u.Scheme != "http" {
		return "", fmt.Errorf("%s is not supported, only http", u.Scheme)
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "80")
	}
	if !w.quiet {
		fmt.Fprintf(w.std.Err, "Connecting to %s\n", host)
	}
	conn, err := (&net.Dialer{Timeout: w.timeout}).DialContext(context.Background(), "tcp", host)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(w.timeout)); err != nil {
		return "", err
	}
	head := append([]string{
		"GET " + u.RequestURI() + " HTTP/1.1", "Host: " + u.Host, "User-Agent: Wget", "Connection: close",
	}, w.headers...)
	if _, err := io.WriteString(conn, strings.Join(head, "\r\n")+"\r\n\r\n"); err != nil {
		return "", err
	}
	in := bufio.NewReader(conn)
	status, header, err := w.head(in)
	if err != nil {
		return "", err
	}
	code, _, _ := strings.Cut(strings.TrimPrefix(status[strings.IndexByte(status, ' ')+1:], " "), " ")
	switch {
	case strings.HasPrefix(code, "3") && header["location"] != "":
		return header["location"], nil
	case !strings.HasPrefix(code, "2"):
		return "", fmt.Errorf("server returned error: %s", status)
	case w.spider:
		return "", nil
	}
	return "", w.save(u, deadlineReader{conn, in, w.timeout}, header)
}

// deadlineReader gives every read its time.
type deadlineReader struct {
	conn    net.Conn
	r       *bufio.Reader
	timeout time.Duration
}

func (d deadlineReader) Read(p []byte) (int, error) {
	if err := d.conn.SetDeadline(time.Now().Add(d.timeout)); err != nil {
		return 0, err
	}
	return d.r.Read(p)
}

func (w *wget) head(in *bufio.Reader) (status string, header map[string]string, err error) {
	header = map[string]string{}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", nil, fmt.Errorf("read response: %w", err)
		}
		line = strings.TrimRight(line, "\r\n")
		if w.showHeaders && line != "" {
			fmt.Fprintln(w.std.Err, "  "+line)
		}
		switch {
		case status == "":
			if !strings.HasPrefix(line, "HTTP/1.") {
				return "", nil, errors.New("no HTTP server")
			}
			status = line
		case line == "":
			return status, header, nil
		default:
			k, v, _ := strings.Cut(line, ":")
			header[strings.ToLower(k)] = strings.TrimSpace(v)
		}
	}
}

func (w *wget) save(u *url.URL, body io.Reader, header map[string]string) error {
	switch {
	case strings.EqualFold(header["transfer-encoding"], "chunked"):
		body = &chunked{r: bufio.NewReader(body)}
	case header["content-length"] != "":
		n, err := strconv.ParseInt(header["content-length"], 10, 64)
		if err != nil {
			return fmt.Errorf("content length %q", header["content-length"])
		}
		body = &exactly{body, n}
	}
	name := w.file
	if name == "" {
		if name = path.Base(u.Path); name == "." || name == "/" {
			name = "index.html"
		}
	}
	out := w.std.Out
	if name != "-" {
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		defer f.Close()
		out = f
	}
	n, err := io.Copy(out, body)
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	if !w.quiet {
		fmt.Fprintf(w.std.Err, "%s: %d bytes\n", name, n)
	}
	return nil
}

// exactly reads n bytes; fewer are an error.
type exactly struct {
	r io.Reader
	n int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.n <= 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.n)])
	if e.n -= int64(n); e.n > 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// chunked reads the chunked transfer coding of RFC 9112, section 7.1.
type chunked struct {
	r    *bufio.Reader
	left int64
	done bool
}

func (c *chunked) Read(p []byte) (int, error) {
	if c.done {
		return 0, io.EOF
	}
	if c.left == 0 {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return 0, io.ErrUnexpectedEOF
		}
		size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		if c.left, err = strconv.ParseInt(size, 16, 64); err != nil || c.left < 0 {
			return 0, fmt.Errorf("chunk size %q", size)
		}
		if c.left == 0 {
			c.done = true
			return 0, io.EOF
		}
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if c.left -= int64(n); c.left == 0 && err == nil {
		_, err = c.r.Discard(2)
	}
	return n, err
}

package curl

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are what a call asks for.
type options struct {
	urls    []string
	outputs []outputOption
	method  string
	headers []string
	// data is the body of -d and its like; nil: none.
	data                                          []byte
	form                                          []formPart
	json                                          bool
	upload                                        string // file of -T
	get, head, include, verbose, silent           bool
	showError, fail, failWithBody, follow         bool
	insecure, createDirs, help, version, noBuffer bool
	compressed                                    bool
	ipv4, ipv6, http1                             bool
	maxRedirects                                  int
	unixSocket                                    string
	resolve                                       map[string]string // HOST:PORT to address
	connectTo                                     []string
	user, agent, referer, cookie, ranges          string
	proxy, noProxy                                string
	proxySet                                      bool
	cacert, cert, key                             string
	maxTime, connectTime                          time.Duration
	writeOutFormat, dumpHeader                    string
}

// outputOption is -o or -O, the n-th of which is for the n-th URL.
type outputOption struct {
	name   string
	remote bool
}

// An option of the command line. takes is what stands for its value in the
// help; empty: it has none.
type option struct {
	short byte
	long  string
	takes string
	help  string
	apply func(c *command, value string) error
}

func flagOption(short byte, long, help string, to func(*options) *bool) option {
	return option{short, long, "", help, func(c *command, _ string) error {
		*to(&c.options) = true
		return nil
	}}
}

func textOption(short byte, long, takes, help string, to func(*options) *string) option {
	return option{short, long, takes, help, func(c *command, v string) error {
		*to(&c.options) = v
		return nil
	}}
}

func timeOption(short byte, long, help string, to func(*options) *time.Duration) option {
	return option{short, long, "<seconds>", help, func(c *command, v string) error {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil || f < 0 || f > 1e9 {
			return fmt.Errorf("option --%s: expected a proper numerical parameter", long)
		}
		*to(&c.options) = time.Duration(f * float64(time.Second))
		return nil
	}}
}

// table lists all options there are.
func table() []option {
	return []option{
		flagOption('4', "ipv4", "Resolve names to IPv4 addresses", func(o *options) *bool { return &o.ipv4 }),
		flagOption('6', "ipv6", "Resolve names to IPv6 addresses", func(o *options) *bool { return &o.ipv6 }),
		textOption('A', "user-agent", "<name>", "Send User-Agent <name> to server", func(o *options) *string { return &o.agent }),
		textOption('b', "cookie", "<data>", "Send cookies from string", func(o *options) *string { return &o.cookie }),
		textOption(0, "cacert", "<file>", "CA certificate to verify peer against", func(o *options) *string { return &o.cacert }),
		textOption('E', "cert", "<file>", "Client certificate, PEM", func(o *options) *string { return &o.cert }),
		flagOption(0, "compressed", "Request compressed response", func(o *options) *bool { return &o.compressed }),
		timeOption(0, "connect-timeout", "Maximum time allowed to connect", func(o *options) *time.Duration { return &o.connectTime }),
		{0, "connect-to", "<HOST1:PORT1:HOST2:PORT2>", "Connect to host2 instead of host1", (*command).addConnectTo},
		flagOption(0, "create-dirs", "Create necessary local directory hierarchy", func(o *options) *bool { return &o.createDirs }),
		{'d', "data", "<data>", "HTTP POST data, @<file> reads it", func(c *command, v string) error { return c.addData(v, true, true) }},
		{0, "data-ascii", "<data>", "The same as --data", func(c *command, v string) error { return c.addData(v, true, true) }},
		{0, "data-binary", "<data>", "HTTP POST binary data", func(c *command, v string) error { return c.addData(v, true, false) }},
		{0, "data-raw", "<data>", "HTTP POST data, '@' allowed", func(c *command, v string) error { return c.addData(v, false, false) }},
		{0, "data-urlencode", "<data>", "HTTP POST data URL encoded", (*command).addEncoded},
		textOption('D', "dump-header", "<file>", "Write the received headers to <file>", func(o *options) *string { return &o.dumpHeader }),
		flagOption('f', "fail", "Fail without output on HTTP errors", func(o *options) *bool { return &o.fail }),
		flagOption(0, "fail-with-body", "Fail on HTTP errors but save the body", func(o *options) *bool { return &o.failWithBody }),
		{'F', "form", "<name=content>", "Specify multipart MIME data, @<file> sends it", (*command).addForm},
		flagOption('G', "get", "Put the post data in the URL and use GET", func(o *options) *bool { return &o.get }),
		flagOption('I', "head", "Show document info only", func(o *options) *bool { return &o.head }),
		{'H', "header", "<header>", "Pass custom header to server", func(c *command, v string) error {
			c.headers = append(c.headers, v)
			return nil
		}},
		flagOption('h', "help", "This text", func(o *options) *bool { return &o.help }),
		flagOption(0, "http1.1", "Use HTTP/1.1", func(o *options) *bool { return &o.http1 }),
		{0, "http2", "", "Use HTTP/2 where the server has it by TLS, the default", func(c *command, _ string) error {
			c.http1 = false
			return nil
		}},
		flagOption('i', "include", "Include response headers in output", func(o *options) *bool { return &o.include }),
		flagOption(0, "show-headers", "The same as --include", func(o *options) *bool { return &o.include }),
		flagOption('k', "insecure", "Allow insecure server connections", func(o *options) *bool { return &o.insecure }),
		{0, "json", "<data>", "HTTP POST JSON", func(c *command, v string) error {
			c.json = true
			return c.addJSON(v)
		}},
		textOption(0, "key", "<file>", "Private key of --cert, PEM", func(o *options) *string { return &o.key }),
		flagOption('L', "location", "Follow redirects", func(o *options) *bool { return &o.follow }),
		{0, "max-redirs", "<num>", "Maximum number of redirects allowed, -1 for any", (*command).setMaxRedirects},
		timeOption('m', "max-time", "Maximum time allowed for transfer", func(o *options) *time.Duration { return &o.maxTime }),
		flagOption('N', "no-buffer", "Disable buffering of the output, which has none here", func(o *options) *bool { return &o.noBuffer }),
		textOption(0, "noproxy", "<list>", "List of hosts which do not use proxy", func(o *options) *string { return &o.noProxy }),
		{'o', "output", "<file>", "Write to file instead of stdout", func(c *command, v string) error {
			c.outputs = append(c.outputs, outputOption{name: v})
			return nil
		}},
		{'O', "remote-name", "", "Write output to file named as remote file", func(c *command, _ string) error {
			c.outputs = append(c.outputs, outputOption{remote: true})
			return nil
		}},
		{'x', "proxy", "<URL>", "Use this proxy; empty: none", func(c *command, v string) error {
			c.proxy, c.proxySet = v, true
			return nil
		}},
		textOption('r', "range", "<range>", "Retrieve only the bytes within RANGE", func(o *options) *string { return &o.ranges }),
		textOption('e', "referer", "<URL>", "Referrer URL", func(o *options) *string { return &o.referer }),
		textOption('X', "request", "<method>", "Specify request method to use", func(o *options) *string { return &o.method }),
		{0, "resolve", "<host:port:addr>", "Resolve the host+port to this address", (*command).addResolve},
		flagOption('s', "silent", "Silent mode", func(o *options) *bool { return &o.silent }),
		flagOption('S', "show-error", "Show error even when -s is used", func(o *options) *bool { return &o.showError }),
		textOption('T', "upload-file", "<file>", "Transfer local FILE to destination", func(o *options) *string { return &o.upload }),
		textOption(0, "unix-socket", "<path>", "Connect through this Unix domain socket", func(o *options) *string { return &o.unixSocket }),
		{0, "url", "<url>", "URL to work with", func(c *command, v string) error {
			c.urls = append(c.urls, v)
			return nil
		}},
		textOption('u', "user", "<user:password>", "Server user and password", func(o *options) *string { return &o.user }),
		flagOption('v', "verbose", "Make the operation more talkative", func(o *options) *bool { return &o.verbose }),
		flagOption('V', "version", "Show version number", func(o *options) *bool { return &o.version }),
		{'w', "write-out", "<format>", "Output this after the transfer, @<file> reads it", (*command).setWriteOut},
	}
}

// parse reads the command line: options and URLs in any order.
func (c *command) parse(args []string) error {
	c.maxRedirects = 50
	c.resolve = map[string]string{}
	opts := table()
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var err error
		switch {
		case len(arg) < 2 || arg[0] != '-':
			c.urls = append(c.urls, arg)
		case arg == "--":
			c.urls = append(c.urls, args...)
			return nil
		case strings.HasPrefix(arg, "--"):
			args, err = c.long(opts, arg, args)
		default:
			args, err = c.short(opts, arg, args)
		}
		if err != nil {
			return err
		}
	}
	return c.check()
}

func (c *command) long(opts []option, arg string, rest []string) ([]string, error) {
	i := slices.IndexFunc(opts, func(o option) bool { return o.long == arg[2:] })
	if i < 0 {
		return nil, fmt.Errorf("option %s: is unknown", arg)
	}
	value := ""
	if opts[i].takes != "" {
		if len(rest) == 0 {
			return nil, fmt.Errorf("option %s: requires parameter", arg)
		}
		value, rest = rest[0], rest[1:]
	}
	return rest, opts[i].apply(c, value)
}

// short reads a word of options of one letter, the last of which may have a
// value.
func (c *command) short(opts []option, arg string, rest []string) ([]string, error) {
	for at := 1; at < len(arg); at++ {
		i := slices.IndexFunc(opts, func(o option) bool { return o.short == arg[at] })
		if i < 0 {
			return nil, fmt.Errorf("option -%c: is unknown", arg[at])
		}
		value := ""
		if opts[i].takes != "" {
			if value = arg[at+1:]; value == "" {
				if len(rest) == 0 {
					return nil, fmt.Errorf("option -%c: requires parameter", arg[at])
				}
				value, rest = rest[0], rest[1:]
			}
			at = len(arg)
		}
		if err := opts[i].apply(c, value); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

func (c *command) check() error {
	bodies := 0
	for _, has := range []bool{c.data != nil && !c.get, len(c.form) > 0, c.upload != "", c.head} {
		if has {
			bodies++
		}
	}
	switch {
	case bodies > 1:
		return errors.New("you can only select one HTTP request method: -d, -F, -T or -I")
	case c.ipv4 && c.ipv6:
		return errors.New("-4 and -6 exclude each other")
	}
	return nil
}

// content reads what a value of -d and its like stands for.
func (c *command) content(value string) ([]byte, error) {
	name, isFile := strings.CutPrefix(value, "@")
	if !isFile {
		return []byte(value), nil
	}
	if name == "-" {
		return io.ReadAll(c.in)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("failed to open %s: %w", name, err)
	}
	return data, nil
}

// addData adds to the body. Of a file's content, --data leaves line ends and
// zero bytes out.
func (c *command) addData(value string, files, strip bool) error {
	data := []byte(value)
	if files {
		var err error
		if data, err = c.content(value); err != nil {
			return err
		}
		if strip && strings.HasPrefix(value, "@") {
			data = slices.DeleteFunc(data, func(b byte) bool { return b == '\r' || b == '\n' || b == 0 })
		}
	}
	if c.data != nil {
		c.data = append(c.data, '&')
	}
	c.data = append(c.data, data...)
	if c.data == nil {
		c.data = []byte{}
	}
	return nil
}

func (c *command) addJSON(value string) error {
	data, err := c.content(value)
	if err != nil {
		return err
	}
	c.data = append(c.data, data...)
	if c.data == nil {
		c.data = []byte{}
	}
	return nil
}

// addEncoded adds "content", "=content", "name=content", "@file" or "name@file".
func (c *command) addEncoded(value string) error {
	name, content := "", value
	if i := strings.IndexAny(value, "=@"); i >= 0 {
		name, content = value[:i], value[i+1:]
		if value[i] == '@' {
			data, err := c.content("@" + content)
			if err != nil {
				return err
			}
			content = string(data)
		}
	}
	content = strings.ReplaceAll(url.QueryEscape(content), "+", "%20")
	if name != "" {
		content = name + "=" + content
	}
	return c.addData(content, false, false)
}

func (c *command) addResolve(value string) error {
	host, rest, ok := strings.Cut(strings.TrimPrefix(value, "+"), ":")
	port, address, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 || host == "" || address == "" {
		return fmt.Errorf("option --resolve: couldn't parse %q, it is HOST:PORT:ADDRESS", value)
	}
	first, _, _ := strings.Cut(address, ",")
	c.resolve[strings.ToLower(host)+":"+port] = strings.Trim(first, "[]")
	return nil
}

func (c *command) addConnectTo(value string) error {
	if len(splitColons(value)) != 4 {
		return fmt.Errorf("option --connect-to: %q is not HOST1:PORT1:HOST2:PORT2", value)
	}
	c.connectTo = append(c.connectTo, value)
	return nil
}

// splitColons splits at colons outside of the brackets of an IPv6 address.
func splitColons(text string) []string {
	var parts []string
	from, depth := 0, 0
	for i, r := range text {
		switch r {
		case '[':
			depth++
		case ']':
			depth--
		case ':':
			if depth == 0 {
				parts = append(parts, text[from:i])
				from = i + 1
			}
		}
	}
	return append(parts, text[from:])
}

func (c *command) setMaxRedirects(value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < -1 {
		return errors.New("option --max-redirs: expected a proper numerical parameter")
	}
	c.maxRedirects = n
	return nil
}

func (c *command) setWriteOut(value string) error {
	data, err := c.content(value)
	c.writeOutFormat = string(data)
	return err
}

func (c *command) printHelp() {
	fmt.Fprintln(c.out, "Usage: curl [options...] <url>")
	for _, o := range table() {
		name := "    "
		if o.short != 0 {
			name = "-" + string(rune(o.short)) + ", "
		}
		fmt.Fprintf(c.out, " %s--%-38s %s\n", name, strings.TrimSpace(o.long+" "+o.takes), o.help)
	}
}

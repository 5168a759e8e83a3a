package command

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/client"
)

// Global holds the flags that stand before the verb.
type Global struct {
	// ConfigDir is where the configuration is; empty for the default.
	ConfigDir string

	hosts                 opts.ListOpts
	context, level        string
	debug, tls, tlsVerify bool
	caFile, certFile      string
	keyFile               string
	tlsGiven, certsGiven  bool
	connected             bool
}

// AddFlags declares the flags on set.
func (g *Global) AddFlags(set *pflag.FlagSet) {
	dir := DefaultConfigDir()
	set.StringVar(&g.ConfigDir, "config", dir, "Location of client config files")
	set.StringVarP(&g.context, "context", "c", "",
		"Name of the context to use to connect to the daemon (contexts are not supported: use --host)")
	set.BoolVarP(&g.debug, "debug", "D", false, "Enable debug mode")
	g.hosts = opts.NewListOpts(nil)
	set.VarP(&g.hosts, "host", "H", "Daemon socket to connect to")
	set.StringVarP(&g.level, "log-level", "l", "info", `Set the logging level ("debug", "info", "warn", "error", "fatal")`)
	set.BoolVar(&g.tls, "tls", os.Getenv("DOCKER_TLS") != "", "Use TLS; implied by --tlsverify")
	set.BoolVar(&g.tlsVerify, "tlsverify", os.Getenv("DOCKER_TLS_VERIFY") != "", "Use TLS and verify the remote")
	certs := os.Getenv("DOCKER_CERT_PATH")
	if certs == "" {
		certs = dir
	}
	set.StringVar(&g.caFile, "tlscacert", filepath.Join(certs, "ca.pem"), "Trust certs signed only by this CA")
	set.StringVar(&g.certFile, "tlscert", filepath.Join(certs, "cert.pem"), "Path to TLS certificate file")
	set.StringVar(&g.keyFile, "tlskey", filepath.Join(certs, "key.pem"), "Path to TLS key file")
}

// Check looks at the flags once they are parsed.
func (g *Global) Check(set *pflag.FlagSet) error {
	if _, err := g.logLevel(); err != nil {
		return err
	}
	if g.context != "" && g.context != "default" {
		return errors.New("contexts are not supported: name the daemon with --host or PORTHOLE_HOST")
	}
	if len(g.hosts.GetSlice()) > 1 {
		return errors.New("specify only one -H")
	}
	g.tlsGiven = set.Changed("tls") || set.Changed("tlsverify") || g.tls || g.tlsVerify
	for flag, file := range map[string]*string{"tlscacert": &g.caFile, "tlscert": &g.certFile, "tlskey": &g.keyFile} {
		if set.Changed(flag) {
			g.certsGiven = true
			continue
		}
		// Without a certificate of its own a client may still talk to a
		// server that asks for none.
		if _, err := os.Stat(*file); errors.Is(err, os.ErrNotExist) {
			*file = ""
		}
	}
	return nil
}

func (g *Global) logLevel() (slog.Level, error) {
	if g.debug {
		return slog.LevelDebug, nil
	}
	switch g.level {
	case "trace", "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error", "fatal", "panic":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("Unable to parse logging level: %s", g.level)
}

// Logger returns the log that the flags ask for.
func (g *Global) Logger(w io.Writer) *slog.Logger {
	level, err := g.logLevel()
	if err != nil {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// Debug tells whether --debug was given.
func (g *Global) Debug() bool { return g.debug }

func (g *Global) connect() (*client.Client, error) {
	o := client.Options{}
	if hosts := g.hosts.GetSlice(); len(hosts) > 0 {
		host, err := normalHost(hosts[0], g.tls || g.tlsVerify)
		if err != nil {
			return nil, fmt.Errorf("Failed to initialize: unable to resolve endpoint: %w", err)
		}
		o.Host = host
	}
	if g.tlsGiven || g.certsGiven {
		o.TLS = &client.TLS{
			CAFile: g.caFile, CertFile: g.certFile, KeyFile: g.keyFile,
			SkipVerify: !g.tlsVerify,
		}
	}
	g.connected = true
	return client.New(o)
}

// normalHost completes the short forms of --host: a path, `host:port`, `:port`
// and addresses without a port.
func normalHost(host string, tls bool) (string, error) {
	host = strings.TrimSpace(host)
	if host == "" {
		return client.DefaultHost, nil
	}
	proto, addr, ok := strings.Cut(host, "://")
	if !ok {
		proto, addr = "tcp", host
		if strings.HasPrefix(host, "/") {
			proto = "unix"
		}
	}
	switch proto {
	case "unix":
		if addr == "" {
			return client.DefaultHost, nil
		}
		return "unix://" + addr, nil
	case "tcp", "http", "https":
		return proto + "://" + withPort(addr, tls || proto == "https"), nil
	case "ssh", "npipe":
		return host, nil
	}
	return "", fmt.Errorf("invalid bind address format: %s", host)
}

// withPort adds the port that is customary for the API: 2375, or 2376 for TLS.
func withPort(addr string, tls bool) string {
	port := "2375"
	if tls {
		port = "2376"
	}
	addr, path, hasPath := strings.Cut(addr, "/")
	if h, p, err := net.SplitHostPort(addr); err == nil {
		if h == "" {
			h = "localhost"
		}
		if p == "" {
			p = port
		}
		addr = net.JoinHostPort(h, p)
	} else {
		if addr == "" {
			addr = "localhost"
		}
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), port)
	}
	if hasPath {
		addr += "/" + path
	}
	return addr
}

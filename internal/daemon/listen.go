package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/docker/go-connections/tlsconfig"
)

// The ports that clients expect.
const (
	plainPort = "2375"
	tlsPort   = "2376"
)

// ParseHost checks an address to listen on and completes it.
func ParseHost(host string, useTLS bool) (string, error) {
	proto, addr, ok := strings.Cut(strings.TrimSpace(host), "://")
	if !ok {
		// Docker takes a bare path or address too.
		if filepath.IsAbs(host) {
			proto, addr = "unix", host
		} else {
			proto, addr = "tcp", host
		}
	}
	switch proto {
	case "unix":
		if !filepath.IsAbs(addr) {
			return "", fmt.Errorf("invalid bind address (%s): a unix socket needs an absolute path", host)
		}
		return "unix://" + filepath.Clean(addr), nil
	case "fd":
		return "fd://" + addr, nil
	case "tcp":
		return parseTCP(host, addr, useTLS)
	}
	return "", fmt.Errorf("invalid bind address format: %s", host)
}

func parseTCP(host, addr string, useTLS bool) (string, error) {
	port := plainPort
	if useTLS {
		port = tlsPort
	}
	name, given, err := net.SplitHostPort(addr)
	switch {
	case err == nil && given != "":
		port = given
	case err == nil:
	default:
		name = strings.Trim(addr, "[]")
	}
	if name == "" {
		name = "127.0.0.1"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || (n == 0 && port != "0") {
		return "", fmt.Errorf("invalid bind address (%s): invalid port: %s", host, port)
	}
	if strings.ContainsAny(name, "/ ") {
		return "", fmt.Errorf("invalid bind address (%s): should not contain a path element", host)
	}
	return "tcp://" + net.JoinHostPort(name, port), nil
}

// Listen opens all of c's hosts. On error none stays open. The caller closes
// the listeners; that removes the socket files.
func Listen(ctx context.Context, c *Config, log *slog.Logger) ([]net.Listener, error) {
	var out []net.Listener
	for _, host := range c.Hosts {
		l, err := listenOn(ctx, host, c, log)
		if err != nil {
			for _, l := range out {
				_ = l.Close()
			}
			return nil, fmt.Errorf("listen on %s: %w", host, err)
		}
		out = append(out, l...)
	}
	return out, nil
}

func listenOn(ctx context.Context, host string, c *Config, log *slog.Logger) ([]net.Listener, error) {
	proto, addr, _ := strings.Cut(host, "://")
	switch proto {
	case "fd":
		return activated(addr)
	case "unix":
		l, err := listenUnix(ctx, addr, c.Group, log)
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	}
	l, err := listenTCP(ctx, addr, c, log)
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// listenUnix makes a socket that the group may use. A socket file that nobody
// listens on is replaced; anything else at that place is an error.
func listenUnix(ctx context.Context, path, group string, log *slog.Logger) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	// Until the mode is set only root can connect: others need the right to
	// write, which the umask has taken away from them at least.
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := grant(path, group, log); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func removeStale(ctx context.Context, path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("%s is in use by another process", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is there already: %w", path, err)
	}
	return os.Remove(path)
}

// grant gives the socket to the group. Without that group it is root's alone.
func grant(path, group string, log *slog.Logger) error {
	gid, err := lookupGroup(group)
	if err != nil {
		if group != DefaultGroup {
			return err
		}
		log.Warn("socket is for root only: the group does not exist", "group", group, "socket", path)
		gid = 0
	}
	if err := os.Chown(path, 0, gid); err != nil {
		return err
	}
	return os.Chmod(path, 0o660)
}

func lookupGroup(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		if gid, err := strconv.ParseUint(name, 10, 31); err == nil {
			return int(gid), nil
		}
		return 0, fmt.Errorf("group %s not found", name)
	}
	return strconv.Atoi(g.Gid)
}

func listenTCP(ctx context.Context, addr string, c *Config, log *slog.Logger) (net.Listener, error) {
	if !c.TLSVerify {
		log.Warn("Binding to IP address without --tlsverify is insecure and gives root access on this machine to everyone who has access to your network.", "host", "tcp://"+addr)
		log.Warn("Binding to an IP address, even on localhost, can also give access to scripts run in a browser. Be safe out there!", "host", "tcp://"+addr)
	}
	var config *tls.Config
	if c.TLS {
		var err error
		if config, err = c.serverTLS(); err != nil {
			return nil, err
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil || config == nil {
		return l, err
	}
	return tls.NewListener(l, config), nil
}

// serverTLS returns the TLS settings for listeners.
func (c *Config) serverTLS() (*tls.Config, error) {
	o := tlsconfig.Options{
		CertFile: c.TLSCert, KeyFile: c.TLSKey,
		ExclusiveRootPools: true, MinVersion: tls.VersionTLS12,
	}
	if c.TLSVerify {
		o.CAFile, o.ClientAuth = c.TLSCACert, tls.RequireAndVerifyClientCert
	}
	config, err := tlsconfig.Server(o)
	if err != nil {
		return nil, fmt.Errorf("invalid TLS configuration: %w", err)
	}
	// Streams take the connection over, which HTTP/2 does not allow.
	config.NextProtos = []string{"http/1.1"}
	return config, nil
}

// activated returns sockets that systemd has opened: all, one by name, or one
// by number.
func activated(which string) ([]net.Listener, error) {
	if which == "" || which == "*" {
		list, err := activation.Listeners()
		if err != nil {
			return nil, err
		}
		if list = withoutNil(list); len(list) == 0 {
			return nil, errors.New("no sockets found via socket activation: make sure the service was started by systemd")
		}
		return list, nil
	}
	byName, err := activation.ListenersWithNames()
	if err != nil {
		return nil, err
	}
	if list := withoutNil(byName[which]); len(list) > 0 {
		return list, nil
	}
	return nil, fmt.Errorf("systemd has passed no socket named %q", which)
}

func withoutNil(list []net.Listener) []net.Listener {
	var out []net.Listener
	for _, l := range list {
		if l != nil {
			out = append(out, l)
		}
	}
	return out
}

package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// sshDialer returns a dialer that runs `porthole system dial-stdio` on the host
// of an ssh:// address, one ssh process per connection.
func sshDialer(host string) (func(ctx context.Context, network, addr string) (net.Conn, error), error) {
	args, err := sshArgs(host)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return startCommand("ssh", args...)
	}, nil
}

// sshArgs turns ssh://[user@]host[:port][/socket] into arguments for ssh.
func sshArgs(host string) ([]string, error) {
	u, err := url.Parse(host)
	if err != nil {
		return nil, fmt.Errorf("ssh host connection is not valid: %w", err)
	}
	switch {
	case u.Hostname() == "":
		return nil, fmt.Errorf("ssh host connection is not valid: no host specified")
	case u.RawQuery != "":
		return nil, fmt.Errorf("ssh host connection is not valid: query parameters are not allowed: %q", u.RawQuery)
	case u.Fragment != "":
		return nil, fmt.Errorf("ssh host connection is not valid: fragments are not allowed: %q", u.Fragment)
	}
	args := []string{"-o", "ConnectTimeout=30", "-T"}
	if u.User != nil {
		if _, set := u.User.Password(); set {
			return nil, errors.New("ssh host connection is not valid: plain-text password is not supported")
		}
		args = append(args, "-l", u.User.Username())
	}
	if port := u.Port(); port != "" {
		args = append(args, "-p", port)
	}
	// "--" keeps a host name from being read as an option.
	args = append(args, "--", u.Hostname(), "porthole")
	if strings.Trim(u.Path, "/") != "" {
		args = append(args, shellQuote("--host=unix://"+u.Path))
	}
	return append(args, "system", "dial-stdio"), nil
}

// shellQuote protects s from the shell that ssh runs on the other side.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// commandConn is a connection over the stdin and stdout of a process.
type commandConn struct {
	cmd    *exec.Cmd
	in     *os.File
	out    *os.File
	stderr *tailBuffer

	closeOnce sync.Once
	exited    chan struct{}
	// waitErr is valid once exited is closed.
	waitErr error
}

// startCommand starts a process and returns its stdio as a connection. The
// process ends when the connection is closed; it is not bound to any context,
// since an HTTP transport keeps connections longer than the request that made
// them.
func startCommand(name string, args ...string) (net.Conn, error) {
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, theirIn.Close(), in.Close())
	}
	c := &commandConn{in: in, out: out, stderr: &tailBuffer{max: 4096}, exited: make(chan struct{})}
	c.cmd = exec.Command(name, args...) //nolint:noctx // See above: Close ends it.
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = theirIn, theirOut, c.stderr
	detach(c.cmd)
	err = c.cmd.Start()
	_, _ = theirIn.Close(), theirOut.Close()
	if err != nil {
		_, _ = in.Close(), out.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		c.waitErr = c.cmd.Wait()
		close(c.exited)
	}()
	return c, nil
}

// Read reports the end of the process, with what it said last, where a plain
// end of file would hide why the connection broke.
func (c *commandConn) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	if err != nil && errors.Is(err, io.EOF) {
		err = c.ended()
	}
	return n, err
}

func (c *commandConn) Write(p []byte) (int, error) {
	n, err := c.in.Write(p)
	if err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
		if ended := c.ended(); !errors.Is(ended, io.EOF) {
			err = ended
		}
	}
	return n, err
}

// ended waits a little for the process and returns io.EOF if it ended well.
func (c *commandConn) ended() error {
	select {
	case <-c.exited:
	case <-time.After(2 * time.Second):
		return io.EOF
	}
	if c.waitErr == nil {
		return io.EOF
	}
	// Docker's library takes these words for a local socket that is not there
	// and drops the rest, which tells what the other side lacks.
	text := strings.ReplaceAll(strings.TrimSpace(c.stderr.String()), "dial unix", "connect to")
	return fmt.Errorf("command %v has exited with %w, make sure the URL is valid, and porthole is installed on the remote host: stderr=%s",
		c.cmd.Args, c.waitErr, text)
}

// CloseWrite ends the other side's input and keeps its output open.
func (c *commandConn) CloseWrite() error { return c.in.Close() }

// Close ends the process and returns when it is gone.
func (c *commandConn) Close() error {
	c.closeOnce.Do(func() {
		_, _ = c.in.Close(), c.out.Close()
		select {
		case <-c.exited:
			return
		case <-time.After(200 * time.Millisecond):
		}
		_ = c.cmd.Process.Kill()
		<-c.exited
	})
	return nil
}

func (c *commandConn) LocalAddr() net.Addr  { return commandAddr(c.cmd.Path) }
func (c *commandConn) RemoteAddr() net.Addr { return commandAddr(c.cmd.Path) }

func (c *commandConn) SetDeadline(t time.Time) error {
	return errors.Join(c.out.SetReadDeadline(t), c.in.SetWriteDeadline(t))
}
func (c *commandConn) SetReadDeadline(t time.Time) error  { return c.out.SetReadDeadline(t) }
func (c *commandConn) SetWriteDeadline(t time.Time) error { return c.in.SetWriteDeadline(t) }

type commandAddr string

func (commandAddr) Network() string  { return "command" }
func (a commandAddr) String() string { return string(a) }

// tailBuffer keeps the last max bytes written to it.
type tailBuffer struct {
	mu  sync.Mutex
	max int
	buf bytes.Buffer
}

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Write(p)
	if over := b.buf.Len() - b.max; over > 0 {
		b.buf.Next(over)
	}
	return len(p), nil
}

func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

package script

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
)

// standIn names the variable by which this program is one of two others in a
// container: a virtual machine for Java, or the tool that attaches to it.
const standIn = "PORTHOLE_TEST_STAND_IN"

// They meet as HotSpot and its tools do, in /tmp of the machine's own view.
const (
	attachFile   = "/tmp/.attach_pid1"
	attachSocket = "/tmp/.java_pid1"
)

// virtualMachine answers a thread dump to whoever has its own user and group, as
// HotSpot does. It opens its socket when it gets SIGQUIT and the file is there and
// is of its own user.
func virtualMachine() error {
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT)
	fmt.Println("ready")
	for range quit {
		if info, err := os.Stat(attachFile); err == nil && info.Sys().(*syscall.Stat_t).Uid == uint32(os.Geteuid()) {
			break
		}
		fmt.Println("no file of this user")
	}
	l, err := net.Listen("unix", attachSocket)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		if err := answer(c.(*net.UnixConn)); err != nil {
			fmt.Println("refused:", err)
		}
	}
}

func answer(c *net.UnixConn) error {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || credErr != nil {
		return errors.Join(err, credErr)
	}
	if cred.Uid != uint32(os.Geteuid()) || cred.Gid != uint32(os.Getegid()) {
		return fmt.Errorf("user %d, group %d", cred.Uid, cred.Gid)
	}
	request := make([]byte, 64)
	n, err := c.Read(request)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(request[:n], []byte("1\x00threaddump\x00")) {
		return fmt.Errorf("request %q", request[:n])
	}
	_, err = io.WriteString(c, "0\nFull thread dump\n")
	return err
}

// attach is the tool: pid 1 is the machine.
func attach() error {
	if err := os.WriteFile(attachFile, nil, 0o600); err != nil {
		return err
	}
	defer os.Remove(attachFile)
	deadline := time.Now().Add(10 * time.Second)
	for {
		if err := syscall.Kill(1, syscall.SIGQUIT); err != nil {
			return fmt.Errorf("signal the machine: %w", err)
		}
		c, err := net.DialTimeout("unix", attachSocket, time.Second)
		if err == nil {
			defer c.Close()
			if _, err := io.WriteString(c, "1\x00threaddump\x00\x00\x00\x00"); err != nil {
				return err
			}
			text, err := io.ReadAll(c)
			fmt.Printf("%s", text)
			return err
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond) // the machine opens its socket in its own time, and tells nobody
	}
}

// (Row 45 of what hurts: docs/design/records.md.) A tool that attaches to a Java machine in a container works
// with the rights of its processes, and with others it is refused.
func TestAttachAsTarget(t *testing.T) {
	testenv.NeedsRoot(t)
	begin(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cli := daemon.Program("porthole")
	run := func(args ...string) (string, error) { return daemon.Run(t.Context(), cli, args...) }
	if _, err := run("run", "-d", "--name", "java", "-u", "1234:2345", "-v", program+":/java:ro", "-e", standIn+"=java", "busybox", "/java"); err != nil {
		t.Fatal(err)
	}
	tool := []string{"java", "--", "sh", "-c", standIn + "=attach /java"}
	out, err := run(append([]string{"debug", "--as-target"}, tool...)...)
	if err != nil || out != "0\nFull thread dump" {
		t.Errorf("with the rights of the container: %q, %v", out, err)
	}
	out, _ = run(append([]string{"debug", "-u", "1235"}, tool...)...)
	if out != "" {
		t.Errorf("as another user it has got %q", out)
	}
	out, err = run("debug", "--as-target", "java", "--", "sh", "-c", "grep -E '^CapEff|^Seccomp:' /proc/self/status | tr -d '\\n'; ls -A /tmp")
	if err != nil || out != "CapEff:\t0000000000000000Seccomp:\t2.java_pid1" {
		t.Errorf("rights, and what is left in /tmp: %q, %v", out, err)
	}
}

// endAs ends a stand-in.
func endAs(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

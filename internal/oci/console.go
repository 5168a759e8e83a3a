package oci

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func checkConsole(p *specs.Process, socket string) error {
	terminal := p != nil && p.Terminal
	switch {
	case terminal && socket == "":
		return errors.New("cannot allocate tty if runtime will detach without setting console socket")
	case !terminal && socket != "":
		return errors.New("cannot use console socket if runtime will not detach or allocate tty")
	}
	return nil
}

// sendConsole sends the master of a terminal to who listens at a unix socket: one
// message with the descriptor, and a name that nobody needs.
func sendConsole(socket string, master *os.File) error {
	if socket == "" {
		return errors.New("there is a terminal, and no console socket")
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("console socket: %w", err)
	}
	defer conn.Close()
	_, _, err = conn.WriteMsgUnix([]byte("/dev/ptmx"), unix.UnixRights(int(master.Fd())), nil)
	if err != nil {
		return fmt.Errorf("console socket: %w", err)
	}
	return nil
}

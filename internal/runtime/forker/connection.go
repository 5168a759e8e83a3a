package forker

import (
	"fmt"
	"net"
	"os"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// connection makes a pollable connection of a socket and takes it over.
func connection(fd int) (*wire.Conn, error) {
	f := os.NewFile(uintptr(fd), "forker")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use forker's socket: %w", err)
	}
	return wire.NewConn(c.(*net.UnixConn)), nil
}

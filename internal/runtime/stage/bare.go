package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/runtime/hook"
	"github.com/portholehq/porthole/internal/shim/wire"
)

// hold lets whoever creates the container run its hooks, and runs those that are for
// the container's namespaces. Their programs are the host's: its root is this process's
// still.
func (s *stage) hold() error {
	if err := s.conn.SendWord(wire.StageHold, nil); err != nil {
		return err
	}
	return s.goOrders()
}

// runOrders runs the hooks that came with go. They have the rights that the process
// has at that point.
func runOrders(payload []byte) error {
	if len(payload) == 0 {
		return nil
	}
	var o hook.Orders
	if err := json.Unmarshal(payload, &o); err != nil {
		return fmt.Errorf("orders: %w", err)
	}
	return o.Run()
}

// rendezvous says ready to the creator, who goes away then, and waits until somebody
// connects and says go. Nothing is to be done without a rendezvous.
func (s *stage) rendezvous() error {
	if s.meeting == nil {
		return nil
	}
	if err := s.conn.SendWord(wire.StageReady, nil); err != nil {
		return err
	}
	s.conn.Close()
	fd := int(s.meeting.Fd())
	if err := unix.SetNonblock(fd, false); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	for {
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil:
			return os.NewSyscallError("accept", err)
		}
		s.conn = wire.NewStageConn(conn)
		if err := s.goOrders(); !errors.Is(err, io.EOF) {
			return err
		}
		s.conn.Close() // it was killed, or had only a look
	}
}

// placeKept makes the kept files descriptors 3 and following of the program. What
// stands there of the stage's own makes room.
func (s *stage) placeKept() error {
	if len(s.kept) == 0 {
		return nil
	}
	above := 3 + len(s.kept)
	if err := s.conn.Above(above); err != nil {
		return err
	}
	from := make([]int, len(s.kept))
	for i, f := range s.kept {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, above)
		if err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		from[i] = fd
	}
	for i, fd := range from {
		if err := unix.Dup3(fd, 3+i, 0); err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	return nil
}

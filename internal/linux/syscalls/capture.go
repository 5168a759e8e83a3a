package syscalls

import "errors"

// What a Capture takes.
const (
	CaptureString = iota + 1 // up to a NUL
	CaptureBytes             // as many as another argument says, or a fixed number
)

// Capture is memory that has to be taken with a call for its arguments to be
// printed later.
type Capture struct {
	Arg    int // the argument that has the address
	What   int
	Length int // the argument that has the length, or -1
	Size   int // how many bytes, if Length is -1; the most, otherwise
	Exit   bool
}

// Captures lists what to take of a call for its paths, socket addresses, signal
// masks, times and the like: not the contents of buffers, which are many and
// other people's. Addresses in structures are not followed.
func Captures(name string) []Capture {
	var out []Capture
	for i, a := range signature(name) {
		c := Capture{Arg: i, Length: lengthNone, Exit: a.out, What: CaptureBytes}
		switch a.kind {
		case "path", "str", "mountdata":
			c.What, c.Size = CaptureString, captureString
		case "sockaddr":
			c.Size = maxCapturedSockaddr
			if !a.deref {
				c.Length = a.length
			}
		case "fds", "sigset", "offset":
			c.Size = 8
		case "int":
			c.Size = 4
		case "len":
			c.Size = 4
		case "timespec", "timeval", "rlimit":
			c.Size = 16
		case "itimerspec", "timespec2":
			c.Size = 32
		case "openhow":
			c.Size = 24
		case "sigaction":
			c.Size = 32
		case "clone3":
			c.Size = 64
		case "capdata":
			c.Size = 24
		case "epollevent":
			c.Size = 16
		case "waitstatus":
			c.Size = 4
		case "stat":
			c.Size = statSize
		case "statx":
			c.Size = 48
		case "msghdr":
			c.Size = 56
		case "iov":
			c.Size = capturedIovs * 2 * wordSize
		case "pollfds":
			c.Size = capturedPolls * 8
		case "prctlarg":
			c.What, c.Size = CaptureString, 16
		default:
			continue
		}
		out = append(out, c)
	}
	return out
}

const (
	captureString       = 256
	maxCapturedSockaddr = 110 // struct sockaddr_un, the longest that is common
	capturedIovs        = 4
	capturedPolls       = 8
)

// Snippets is memory that was captured, by address. It is a [Memory].
type Snippets []Snippet

// Snippet is what stood at an address.
type Snippet struct {
	Addr uint64
	Data []byte
}

// ReadMemory copies what was captured at an address.
func (s Snippets) ReadMemory(addr uint64, p []byte) (int, error) {
	for _, x := range s {
		if addr >= x.Addr && addr-x.Addr < uint64(len(x.Data)) {
			return copy(p, x.Data[addr-x.Addr:]), nil
		}
	}
	return 0, errNotCaptured
}

var errNotCaptured = errors.New("not captured")

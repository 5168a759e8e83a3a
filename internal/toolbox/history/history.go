// Package history keeps what people have typed at the shells of debug sessions,
// for their next sessions. It is kept by the daemon, for each user, and not where
// the shell runs: a target is left as it was, and does not learn what was done in
// others.
//
// The daemon listens at a socket named [Name] beside the tools, which no process
// but a session's sees, and answers the first process of a session alone; see
// [Store.Serve]. The shell speaks with it by [Dial].
//
//	daemon → shell   the entries, the oldest first, each with "\n"; then "\x00"
//	shell → daemon   an entry with "\n", as it is typed; "\x00\n" forgets all
package history

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/portholehq/porthole/internal/atomicfile"
)

// Name is the socket's, in the directory of the tools.
const Name = "history"

// Path is where a session finds it.
const Path = "/proc/fs/nfsd/" + Name

// Most is how many entries are kept, and EntryMost how many bytes of one; longer
// ones are not kept.
const (
	Most      = 1000
	EntryMost = 4096
)

// fileMost is the size at which a file is written anew with what is kept.
const fileMost = 1 << 20

// end is behind the entries, and forget in place of one.
const (
	end    = "\x00"
	forget = "\x00"
)

// Keep tells whether an entry is kept behind another: not if it is blank, the
// same again, too long, begins with a blank, by which people say so, or is no
// text.
func Keep(entry, last string) bool {
	if entry == "" || entry == last || len(entry) > EntryMost || unicode.IsSpace(rune(entry[0])) || !utf8.ValidString(entry) {
		return false
	}
	return !strings.ContainsFunc(entry, func(r rune) bool { return unicode.IsControl(r) && r != '\t' })
}

// Store is the files of all users. It is safe for concurrent use.
type Store struct {
	dir string

	mu sync.Mutex // for the files, which are small
}

// NewStore returns the store in a directory, which is made when something is kept.
func NewStore(dir string) *Store { return &Store{dir: dir} }

func (s *Store) file(user string) string { return filepath.Join(s.dir, user) }

// Entries are those of a user, the oldest first.
func (s *Store) Entries(user string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries(user)
}

func (s *Store) entries(user string) ([]string, error) {
	data, err := os.ReadFile(s.file(user))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(string(data)) {
		// What a crash has cut off or damaged is left out.
		if entry, whole := strings.CutSuffix(line, "\n"); whole && Keep(entry, "") {
			list = append(list, entry)
		}
	}
	return list[max(0, len(list)-Most):], nil
}

// Add keeps an entry of a user, if it is one that is kept.
func (s *Store) Add(user, entry string) error {
	if !Keep(entry, "") {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(s.file(user), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(entry + "\n")
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr, f.Close()); err != nil {
		return fmt.Errorf("keep history: %w", err)
	}
	if info.Size() < fileMost {
		return nil
	}
	list, err := s.entries(user)
	if err != nil {
		return err
	}
	// Half of it, so that this is not done again at once.
	size := 0
	for i := len(list) - 1; i >= 0; i-- {
		if size += len(list[i]) + 1; size > fileMost/2 {
			list = list[i+1:]
			break
		}
	}
	return atomicfile.Write(s.file(user), []byte(strings.Join(list, "\n")+"\n"), 0o600)
}

// Forget removes all of a user's.
func (s *Store) Forget(user string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Remove(s.file(user)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sendTime is how long a shell may take to take its entries.
const sendTime = 10 * time.Second

// Serve speaks with the shell of a user's session until that ends, or conn is
// closed.
func (s *Store) Serve(conn net.Conn, user string) error {
	list, err := s.Entries(user)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(sendTime)); err != nil {
		return err
	}
	w := bufio.NewWriter(conn)
	for _, e := range list {
		_, _ = w.WriteString(e + "\n") // the error stays, and Flush returns it
	}
	_, _ = w.WriteString(end)
	if err := w.Flush(); err != nil {
		return err
	}
	last := ""
	if len(list) > 0 {
		last = list[len(list)-1]
	}
	for r := bufio.NewReaderSize(conn, EntryMost+2); ; {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err // also for a line that is too long
		}
		entry := string(line[:len(line)-1])
		switch {
		case entry == forget:
			err, last = s.Forget(user), ""
		case Keep(entry, last):
			err, last = s.Add(user, entry), entry
		}
		if err != nil {
			return err
		}
	}
}

// Client is the shell's side. A nil one keeps nothing.
type Client struct{ conn net.Conn }

// dialTime bounds all that a shell waits for the daemon.
const dialTime = time.Second

// Dial asks the daemon for the entries, the oldest first. The client is nil if
// nobody answers, as where the shell runs in no session.
func Dial(path string) (*Client, []string) {
	conn, err := net.DialTimeout("unix", path, dialTime) //nolint:noctx // it has a time
	if err != nil {
		return nil, nil
	}
	if err := conn.SetDeadline(time.Now().Add(dialTime)); err != nil {
		conn.Close()
		return nil, nil
	}
	list, err := receive(conn)
	if err != nil {
		conn.Close()
		return nil, nil
	}
	return &Client{conn}, list
}

// receive reads the entries.
func receive(conn io.Reader) (list []string, err error) {
	for r := bufio.NewReader(conn); ; {
		next, err := r.Peek(1)
		if err != nil {
			return nil, err
		}
		if string(next) == end {
			return list, nil
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		list = append(list, strings.TrimSuffix(line, "\n"))
	}
}

// Add has an entry kept. If the daemon does not take it, it is lost: nobody waits
// for that at a prompt.
func (c *Client) Add(entry string) { c.send(entry) }

// Forget has all forgotten.
func (c *Client) Forget() { c.send(forget) }

func (c *Client) send(line string) {
	if c == nil {
		return
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(dialTime)); err == nil {
		_, _ = io.WriteString(c.conn, line+"\n")
	}
}

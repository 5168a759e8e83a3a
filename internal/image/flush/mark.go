package flush

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
)

const (
	slotSize = 4096
	slots    = 2
	// lockPatience is how long a daemon that ends may hold a database.
	lockPatience = time.Second
)

// record is what a slot of the mark says.
type record struct {
	Number int       `json:"number"` // the larger is the newer
	At     time.Time `json:"at"`
	// Boot is that of the kernel which ran then. It is empty when the databases are
	// to be put back whichever runs.
	Boot string `json:"boot"`
	// Roots are of the databases that may be torn if that kernel does not run any
	// more; none: all are whole.
	Roots []savedRoot `json:"roots,omitempty"`
}

type savedRoot struct {
	Path string `json:"path"` // from the mark's directory
	Root []byte `json:"root"`
}

// mark is the file of the last flush. It is for one goroutine at a time.
type mark struct {
	file *os.File
	dir  string
	boot string
	last record // that is on disk
	// doubtful may be on disk in its stead. It is in the other slot, and what is put
	// next takes its place.
	doubtful record
	sync     func() error // of file; tests have others
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// openMark opens the mark and reads the newest record. One without a whole slot is
// as a new one: its first record was not written when the machine went down, so
// nothing was put off.
func openMark(path, boot string) (*mark, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	m := &mark{file: f, dir: filepath.Dir(path), boot: boot}
	m.sync = func() error { return taken(func() error { return unix.Fdatasync(int(f.Fd())) }) }
	for i := range slots {
		if r, ok := m.read(i); ok && r.Number > m.last.Number {
			m.last = r
		}
	}
	if m.last.Number > 0 {
		return m, nil
	}
	// Its blocks are there from the start: on a full disk it can be written, too.
	_, err = f.WriteAt(make([]byte, slots*slotSize), 0)
	if err = errors.Join(err, f.Sync(), syncDir(m.dir)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// read reads a slot; false: it holds no record.
func (m *mark) read(slot int) (r record, ok bool) {
	text := make([]byte, slotSize)
	n, err := m.file.ReadAt(text, int64(slot*slotSize))
	if err != nil && !errors.Is(err, io.EOF) {
		return r, false
	}
	line, _, ok := bytes.Cut(text[:n], []byte("\n"))
	sum, body, found := bytes.Cut(line, []byte(" "))
	if !ok || !found || checksum(body) != string(sum) {
		return r, false
	}
	return r, json.Unmarshal(body, &r) == nil
}

func checksum(b []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// write puts the roots of databases on disk; none: all databases are whole.
func (m *mark) write(members []*member) error {
	r := record{At: time.Now().UTC(), Boot: m.boot}
	for _, d := range members {
		if d.held == nil {
			continue
		}
		path, err := filepath.Rel(m.dir, d.path)
		if err != nil {
			return err
		}
		r.Roots = append(r.Roots, savedRoot{Path: path, Root: d.root})
	}
	return m.put(r)
}

// put makes r the last record.
func (m *mark) put(r record) error {
	r.Number = m.last.Number + 1
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	text := fmt.Appendf(nil, "%s %s\n", checksum(body), body)
	if len(text) > slotSize {
		return fmt.Errorf("mark of %d bytes is too long", len(text))
	}
	text = append(text, make([]byte, slotSize-len(text))...)
	if err := failpoint.Hit("flush.mark"); err != nil {
		return err
	}
	if _, err := m.file.WriteAt(text, int64(r.Number%slots*slotSize)); err != nil {
		return err
	}
	if err := m.sync(); err != nil {
		m.doubtful = r
		return fmt.Errorf("flush mark: %w", err)
	}
	m.last = r
	return nil
}

// recover brings the databases that the last record names to where they are whole
// without it. restored tells that they had to be put back.
func (m *mark) recover() (restored bool, err error) {
	if len(m.last.Roots) == 0 {
		return false, nil
	}
	restored = m.last.Boot != m.boot
	for _, r := range m.last.Roots {
		if err := m.recoverOne(r, restored); err != nil {
			return false, fmt.Errorf("%s: %w", r.Path, err)
		}
	}
	at := m.last.At
	err = m.write(nil)
	m.last.At = at // for the log
	return restored, err
}

func (m *mark) recoverOne(r savedRoot, restore bool) error {
	f, err := os.OpenFile(filepath.Join(m.dir, r.Path), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed by hand
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lock(f); err != nil {
		return fmt.Errorf("lock (is another daemon using it?): %w", err)
	}
	if restore {
		return restoreRoot(f, r.Root)
	}
	return f.Sync() // the kernel has it all
}

// lock takes the lock that bolt takes.
func lock(f *os.File) error {
	deadline := time.Now().Add(lockPatience)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return err
		}
		<-time.After(10 * time.Millisecond)
	}
}

package volume

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/retry"
)

// AnonymousLabel marks volumes that got their name from us.
const AnonymousLabel = "com.docker.volume.anonymous"

// metaFile is what is known about a volume, metaVersion its version. Newer files
// are refused.
const (
	metaFile    = "volume.json"
	metaVersion = 1
)

// The names that Docker allows.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// What is in the root under other names than a volume's begins so.
const (
	unfinished = ".new-"  // being made
	removing   = ".gone-" // being removed
)

// Info is what is known about a volume.
type Info struct {
	Name string
	// Path is the directory that containers see.
	Path      string
	Labels    map[string]string // never nil
	Options   map[string]string // of the driver; never nil
	Anonymous bool
	CreatedAt time.Time
	// Created is set by Create alone: the volume is new.
	Created bool
}

// meta is the content of volume.json.
type meta struct {
	Version   int               `json:"version"`
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels,omitempty"`
	Options   map[string]string `json:"options,omitempty"`
	Anonymous bool              `json:"anonymous,omitempty"`
	CreatedAt time.Time         `json:"created_at"`
	// Filling is set while CopyUp works.
	Filling bool `json:"filling,omitempty"`
}

// A Store is the volumes below one directory. Its methods may be called by
// several goroutines at once. Only one Store may have a directory open; the
// daemon's lock on its data root sees to that.
type Store struct {
	root string
	log  *slog.Logger

	// mu guards volumes and the files of their metadata. It is not held while
	// data is copied or removed.
	mu      sync.Mutex
	volumes map[string]meta

	mounts users

	background sync.WaitGroup
	stopped    chan struct{} // closed by Close
}

// Open reads the volumes below root, which is made if needed, and clears up
// after a crash. log may be nil. The caller closes the store.
func Open(root string, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// Nobody but the daemon gets to volumes by their path: root of a container is root on the disk, and what it marks
	// set-user-ID there must not be for users of this machine to execute (CVE-2021-41091). Directories made by older
	// daemons could be passed through.
	if err := errors.Join(os.MkdirAll(root, 0o700), os.Chmod(root, 0o700)); err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	s := &Store{root: root, log: log, volumes: make(map[string]meta), stopped: make(chan struct{})}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	for _, e := range entries {
		if err := s.load(e); err != nil {
			return nil, fmt.Errorf("open volumes: %w", err)
		}
	}
	return s, nil
}

// Close ends what goes on in the background. Volumes that are removed are removed on by the next Open.
func (s *Store) Close() error {
	close(s.stopped)
	s.background.Wait()
	return nil
}

// load takes up one entry of the root.
func (s *Store) load(e fs.DirEntry) error {
	path := filepath.Join(s.root, e.Name())
	if strings.HasPrefix(e.Name(), unfinished) || strings.HasPrefix(e.Name(), removing) {
		s.log.Info("removing what a crash left of a volume", "path", path)
		s.removeFiles(path)
		return nil
	}
	if !e.IsDir() || !validName.MatchString(e.Name()) {
		s.log.Warn("not a volume", "path", path)
		return nil
	}
	m, err := readMeta(path)
	if err != nil {
		// One damaged file must not keep all containers from starting, and what
		// is in the volume is not ours to throw away.
		s.log.Error("volume cannot be used", "volume", e.Name(), "err", err)
		return nil
	}
	if m.Filling {
		s.log.Info("emptying a volume that was being filled at a crash", "volume", m.Name)
		if err := s.empty(m); err != nil {
			return err
		}
		m.Filling = false
	}
	s.volumes[m.Name] = m
	return nil
}

// empty removes what is in a volume and then the note that it is being filled.
func (s *Store) empty(m meta) error {
	data := s.data(m.Name)
	entries, err := os.ReadDir(data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(data, e.Name())); err != nil {
			return err
		}
	}
	return s.unmark(m)
}

func readMeta(dir string) (meta, error) {
	path := filepath.Join(dir, metaFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return meta{}, err
	}
	var m meta
	if err := json.Unmarshal(data, &m); err != nil {
		return meta{}, fmt.Errorf("read %q: %w", path, err)
	}
	if m.Version != metaVersion {
		return meta{}, fmt.Errorf("read %q: version %d is not known", path, m.Version)
	}
	if m.Name != filepath.Base(dir) {
		return meta{}, fmt.Errorf("read %q: it names volume %q", path, m.Name)
	}
	if fi, err := os.Lstat(filepath.Join(dir, "_data")); err != nil {
		return meta{}, err
	} else if !fi.IsDir() {
		return meta{}, fmt.Errorf("%q is not a directory", filepath.Join(dir, "_data"))
	}
	return m, nil
}

// writeMeta replaces volume.json so that it survives a power cut.
func writeMeta(dir string, m meta) error {
	tmp := filepath.Join(dir, metaFile+".new")
	if err := writeSynced(tmp, m); err != nil {
		return err
	}
	if err := failpoint.Hit("volume.rename"); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, metaFile)); err != nil {
		return err
	}
	return syncDir(dir)
}

// writeSynced writes m to a file, and to the disk.
func writeSynced(path string, m meta) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	return errors.Join(err, failpoint.Hit("volume.write"), f.Sync(), f.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Path returns the directory that containers see of the volume called name,
// whether or not there is one.
func (s *Store) Path(name string) string { return s.data(name) }

func (s *Store) data(name string) string { return filepath.Join(s.root, name, "_data") }

// CreateOptions are the options of [Store.Create].
type CreateOptions struct {
	Labels map[string]string
	// Options are those of the local driver: type, device and o.
	Options   map[string]string
	Anonymous bool
}

// Create makes a volume, or returns the one that has the name already, whatever
// its labels are; other options than its own are a Conflict error. An empty name
// makes up one of 64 digits; such a volume is always anonymous.
func (s *Store) Create(name string, o CreateOptions) (Info, error) {
	labels, anonymous := o.Labels, o.Anonymous
	if name == "" {
		name, anonymous = newName(), true
	}
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	if err := checkOptions(o.Options); err != nil {
		return Info{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.volumes[name]; ok {
		if len(o.Options) > 0 && !maps.Equal(o.Options, m.Options) {
			return Info{}, errdefs.ErrConflict.WithMessage(fmt.Sprintf("create %s: a volume of that name exists with other options", name))
		}
		return s.info(m), nil
	}
	m := meta{
		Version: metaVersion, Name: name, Labels: maps.Clone(labels), Options: maps.Clone(o.Options), Anonymous: anonymous,
		CreatedAt: time.Now().UTC(),
	}
	if anonymous {
		if m.Labels == nil {
			m.Labels = make(map[string]string)
		}
		m.Labels[AnonymousLabel] = ""
	}
	if err := s.make(m); err != nil {
		return Info{}, fmt.Errorf("create volume %s: %w", name, err)
	}
	s.volumes[name] = m
	info := s.info(m)
	info.Created = true
	return info, nil
}

// make writes a volume beside the others and renames it into place.
func (s *Store) make(m meta) (err error) {
	tmp, err := os.MkdirTemp(s.root, unfinished)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.removeFiles(tmp)
		}
	}()
	if err := os.Mkdir(filepath.Join(tmp, "_data"), 0o755); err != nil {
		return err
	}
	// No umask may narrow what containers see. The directory around it is nobody's but ours: it is no part of what is mounted.
	if err := os.Chmod(filepath.Join(tmp, "_data"), 0o755); err != nil {
		return err
	}
	if err := writeMeta(tmp, m); err != nil {
		return err
	}
	if err := failpoint.Hit("volume.place"); err != nil {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, filepath.Join(s.root, m.Name), unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "rename", Old: tmp, New: filepath.Join(s.root, m.Name), Err: err}
	}
	err = failpoint.Hit("volume.sync")
	if err == nil {
		err = syncDir(s.root)
	}
	if err != nil {
		// Nobody is told of the volume, so its name must be free. What is at tmp is removed.
		err = errors.Join(err, os.Rename(filepath.Join(s.root, m.Name), tmp))
	}
	return err
}

// checkName refuses with Docker's words what cannot be a volume's name.
func checkName(name string) error {
	if len(name) == 1 {
		return errdefs.ErrInvalidArgument.WithMessage("volume name is too short, names should be at least two alphanumeric characters")
	}
	if !validName.MatchString(name) {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"%q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name))
	}
	return nil
}

// Get returns the volume called name, or a NotFound error.
func (s *Store) Get(name string) (Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.volumes[name]
	if !ok {
		return Info{}, noSuchVolume(name)
	}
	return s.info(m), nil
}

func noSuchVolume(name string) error {
	return errdefs.ErrNotFound.WithMessage("get " + name + ": no such volume")
}

// List returns all volumes, by name.
func (s *Store) List() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Info, 0, len(s.volumes))
	for _, name := range slices.Sorted(maps.Keys(s.volumes)) {
		all = append(all, s.info(s.volumes[name]))
	}
	return all
}

func (s *Store) info(m meta) Info {
	labels := maps.Clone(m.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	options := maps.Clone(m.Options)
	if options == nil {
		options = map[string]string{}
	}
	return Info{Name: m.Name, Path: s.data(m.Name), Labels: labels, Options: options, Anonymous: m.Anonymous, CreatedAt: m.CreatedAt}
}

// Remove deletes a volume with all that is in it, or returns a NotFound error.
// The caller sees to it that nobody uses it.
func (s *Store) Remove(name string) error {
	// What is mounted there is not ours to delete.
	unmount := func(map[string]bool) error {
		_, err := s.unmount(name)
		return err
	}
	if err := s.mounts.with(name, unmount); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	s.mounts.forget(name)
	s.mu.Lock()
	if _, ok := s.volumes[name]; !ok {
		s.mu.Unlock()
		return noSuchVolume(name)
	}
	gone := filepath.Join(s.root, removing+newName()[:16])
	err := failpoint.Hit("volume.remove")
	if err == nil {
		err = os.Rename(filepath.Join(s.root, name), gone)
	}
	if err == nil {
		delete(s.volumes, name)
	}
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	// From here on the volume is gone for everybody; Open would do the rest.
	failpoint.Pass("volume.removed")
	if err := syncDir(s.root); err != nil {
		s.removeFiles(gone)
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	s.removeFiles(gone)
	return nil
}

// removeFiles removes a directory of what is gone, or was never there for anybody, now or, where the disk does not let go of
// it, once it does.
func (s *Store) removeFiles(dir string) {
	err := os.RemoveAll(dir)
	if err == nil {
		return
	}
	s.log.Warn("files of a volume that is no more stay for now", "path", dir, "err", err)
	s.background.Go(func() { retry.Until(s.stopped, func() error { return os.RemoveAll(dir) }) })
}

// newName returns 64 random hexadecimal digits.
func newName() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/retry"
)

// stateVersion is written to every file. A file of a newer version is refused.
const stateVersion = 1

// networkState is the content of network.json.
type networkState struct {
	Version  int          `json:"version"`
	Bridge   string       `json:"bridge"`
	Subnet   netip.Prefix `json:"subnet,omitzero"`
	Gateway  netip.Addr   `json:"gateway,omitzero"`
	Subnet6  netip.Prefix `json:"subnet6,omitzero"` // of the last time with IPv6
	Created  time.Time    `json:"created"`
	BridgeID string       `json:"bridge_id"`
	HostID   string       `json:"host_id"`
	NoneID   string       `json:"none_id"`
}

// A lease is an address that a container has, with the interface that it is on.
// It is saved as it is. A lease that is not in Manager.live is leaving: its
// container was detached, and the address is free once the interface is gone.
type lease struct {
	Version   int       `json:"version"`
	BootID    string    `json:"boot_id"`
	Container string    `json:"container"`
	Name      string    `json:"name,omitempty"`
	Created   time.Time `json:"created"`
	Endpoint  Endpoint  `json:"endpoint"`
}

// An Endpoint is a container's connection to a network.
type Endpoint struct {
	EndpointID string `json:"endpoint_id"`
	NetworkID  string `json:"network_id"`
	Network    string `json:"network,omitempty"` // its name
	Driver     string `json:"driver,omitempty"`
	// Interface is the interface's name in the container, eth0.
	Interface string `json:"interface"`
	// HostInterface is the name of the other end, a port of the bridge. Empty
	// for macvlan and ipvlan, which have none.
	HostInterface string `json:"host_interface"`
	// IPv4 and IPv6 are the addresses with the lengths of their subnets. One of
	// them may be invalid, and the gateways are in a network without a way out.
	IPv4     netip.Prefix     `json:"ipv4"`
	IPv6     netip.Prefix     `json:"ipv6,omitzero"`
	Gateway  netip.Addr       `json:"gateway"`
	Gateway6 netip.Addr       `json:"gateway6,omitzero"`
	MAC      net.HardwareAddr `json:"mac"`
	MTU      int              `json:"mtu"`
	// Host is the host's own address on the network, by which containers reach
	// it. Invalid where it has none.
	Host netip.Addr `json:"host,omitzero"`
	// Priority decides which endpoint has the default route: the highest.
	Priority int `json:"priority,omitempty"`
}

// store reads and writes the files below Options.StatePath.
type store struct {
	dir    string
	bootID string

	done   chan struct{} // closed by close
	trying sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	staying map[string]bool // files that could not be removed, see forget; not empty: somebody tries again
}

func openStore(dir string) (*store, error) {
	if dir == "" {
		return nil, errors.New("open network state: no directory given")
	}
	for _, sub := range []string{"leases", "networks", "sandboxes"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open network state: %w", err)
		}
	}
	if err := removeTemporary(dir); err != nil {
		return nil, fmt.Errorf("open network state: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	return &store{dir: dir, bootID: strings.TrimSpace(string(boot)), done: make(chan struct{}), staying: map[string]bool{}}, nil
}

// close ends what is tried again. The next store takes the files for what they are.
func (s *store) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	s.mu.Unlock()
	s.trying.Wait()
}

// temporary begins the names of files that are being written.
const temporary = ".new-"

// removeTemporary removes the files of a daemon that was killed as it wrote them.
func removeTemporary(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), temporary) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadNetwork returns the saved network, or a new one with fresh ids that is
// not saved yet.
func (s *store) loadNetwork() (networkState, error) {
	fresh := networkState{
		Version: stateVersion, Created: time.Now().UTC(),
		BridgeID: newID(), HostID: newID(), NoneID: newID(),
	}
	path := filepath.Join(s.dir, "network.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return networkState{}, fmt.Errorf("read network state: %w", err)
	}
	var n networkState
	if err := json.Unmarshal(data, &n); err != nil {
		return networkState{}, fmt.Errorf("read network state %q: %w", path, err)
	}
	if n.Version > stateVersion {
		return networkState{}, fmt.Errorf("network state %q has version %d, this program knows %d", path, n.Version, stateVersion)
	}
	return n, nil
}

// saveNetwork writes n so that it survives a power cut.
func (s *store) saveNetwork(n networkState) error {
	return s.write("network.json", n, true)
}

// loadLeases returns the leases of this boot, by endpoint id. Files that cannot
// be read, as a crash of the machine may leave them, and those of an earlier
// boot are removed.
func (s *store) loadLeases(log *slog.Logger) (map[string]*lease, error) {
	dir := filepath.Join(s.dir, "leases")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	leases := make(map[string]*lease)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		l, err := s.loadLease(path)
		if err != nil {
			log.Warn("dropped a network lease", "path", path, "err", err)
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("remove void lease: %w", err)
			}
			continue
		}
		leases[l.Endpoint.EndpointID] = l
	}
	return leases, nil
}

func (s *store) loadLease(path string) (*lease, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var l lease
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, err
	}
	switch {
	case l.Version != stateVersion:
		return nil, fmt.Errorf("version %d is not known", l.Version)
	case l.BootID != s.bootID:
		return nil, errors.New("it is of an earlier boot")
	case filepath.Base(path) != l.Endpoint.EndpointID+".json":
		return nil, fmt.Errorf("it names endpoint %q", l.Endpoint.EndpointID)
	case !l.Endpoint.IPv4.IsValid() && !l.Endpoint.IPv6.IsValid():
		return nil, errors.New("it has no address")
	}
	return &l, nil
}

// loadRecords returns the networks that users have made. One that cannot be read
// is an error: its bridge and its name would be lost.
func (s *store) loadRecords() ([]Record, error) {
	dir := filepath.Join(s.dir, "networks")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read networks: %w", err)
	}
	var list []Record
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read network: %w", err)
		}
		var rec Record
		if err := json.Unmarshal(data, &rec); err != nil {
			return nil, fmt.Errorf("read network %q: %w", path, err)
		}
		if rec.Version > stateVersion {
			return nil, fmt.Errorf("network %q has version %d, this program knows %d", path, rec.Version, stateVersion)
		}
		list = append(list, rec)
	}
	return list, nil
}

func (s *store) saveRecord(rec Record) error {
	return s.write(filepath.Join("networks", rec.ID+".json"), rec, true)
}

func (s *store) recordPath(id string) string { return filepath.Join(s.dir, "networks", id+".json") }

func (s *store) hasRecord(id string) bool {
	_, err := os.Lstat(s.recordPath(id))
	return err == nil
}

// removeRecord returns once the removal is on disk. The record may be gone after an
// error as well: then a power cut can bring it back.
func (s *store) removeRecord(id string) error {
	err := failpoint.Hit("network.remove")
	if err == nil {
		err = os.Remove(s.recordPath(id))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = failpoint.Hit("network.removed")
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Join(s.dir, "networks"))
}

// putBack has the record again that removeRecord could not remove for good. Nobody
// waits for the disk: it has just failed, and has the record still.
func (s *store) putBack(rec Record) error {
	if s.hasRecord(rec.ID) {
		return nil
	}
	return s.write(filepath.Join("networks", rec.ID+".json"), rec, false)
}

func (s *store) saveLease(l lease) error {
	l.Version, l.BootID = stateVersion, s.bootID
	return s.write(filepath.Join("leases", l.Endpoint.EndpointID+".json"), l, false)
}

func (s *store) removeLease(l lease) error {
	return s.forget(filepath.Join("leases", l.Endpoint.EndpointID+".json"))
}

// loadSandboxes returns those of this boot. As with leases, others are removed.
func (s *store) loadSandboxes(log *slog.Logger) (map[string]*sandbox, error) {
	dir := filepath.Join(s.dir, "sandboxes")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read sandboxes: %w", err)
	}
	all := make(map[string]*sandbox)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		b := new(sandbox)
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, b)
		}
		if err == nil && (b.Version != stateVersion || b.BootID != s.bootID) {
			err = errors.New("it is of an earlier boot or another version")
		}
		if err == nil {
			all[b.Spec.ContainerID] = b
			continue
		}
		log.Warn("dropped the ports and names of a container", "path", path, "err", err)
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove void sandbox: %w", err)
		}
	}
	return all, nil
}

func (s *store) saveSandbox(b *sandbox) error {
	b.Version, b.BootID = stateVersion, s.bootID
	return s.write(filepath.Join("sandboxes", b.Spec.ContainerID+".json"), b, false)
}

func (s *store) removeSandbox(container string) error {
	return s.forget(filepath.Join("sandboxes", container+".json"))
}

// forget removes a file. What the disk does not let go of is tried again later.
func (s *store) forget(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.unlink(name)
	if err == nil {
		return nil
	}
	s.staying[name] = true
	if len(s.staying) == 1 && !s.closed {
		s.trying.Go(func() { retry.Until(s.done, s.forgetStaying) })
	}
	return err
}

// forgetStaying removes the files that stayed; with an error there are some yet.
func (s *store) forgetStaying() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.staying {
		if unlinkErr := s.unlink(name); unlinkErr != nil {
			err = unlinkErr
			continue
		}
		delete(s.staying, name)
	}
	return err
}

func (s *store) unlink(name string) error {
	err := failpoint.Hit("network.forget")
	if err == nil {
		err = os.Remove(filepath.Join(s.dir, name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// write replaces a file by rename. Only if durable is set does it wait for the
// disk.
func (s *store) write(name string, v any, durable bool) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	path := filepath.Join(s.dir, name)
	// The temporary file stands outside of leases/, where loadLeases looks.
	tmp, err := os.CreateTemp(s.dir, temporary+"*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already after the rename
	if err := failpoint.Hit("network.write"); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if _, err := tmp.Write(append(data, '\n')); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if durable {
		if err := tmp.Sync(); err != nil {
			return errors.Join(err, tmp.Close())
		}
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := failpoint.Hit("network.rename"); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.staying, name) // it is there again
	err = os.Rename(tmp.Name(), path)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if !durable {
		return nil
	}
	if err := failpoint.Hit("network.sync"); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

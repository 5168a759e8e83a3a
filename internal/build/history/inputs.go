package history

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/atomicfile"
)

// Inputs are what the steps of a build were made of, as far as it can be compared
// with those of another build. Values are told by hashes that only this store can
// make: some are secret.
type Inputs struct {
	Steps map[int]StepInputs `json:"steps"` // by their numbers
	// Files are what the client has sent, by the name of the context.
	Files map[string]*Files `json:"files,omitempty"`
}

// StepInputs are what one step was made of.
type StepInputs struct {
	NoCache bool   `json:"noCache,omitempty"` // it was not to be looked for
	Source  string `json:"source,omitempty"`  // what it fetches, with a digest if that is known
	// Env, Mounts and Settings are hashes by name: of variables, by the
	// destination of mounts, and by what else there is.
	Env      map[string]string `json:"env,omitempty"`
	Mounts   map[string]string `json:"mounts,omitempty"`
	Settings map[string]string `json:"settings,omitempty"`
	Parents  []int             `json:"parents,omitempty"` // steps that it starts or copies from
	// Root is the step that a RUN starts from, and MountsFrom those that it mounts
	// files of, by destination.
	Root       int            `json:"root,omitempty"`
	MountsFrom map[string]int `json:"mountsFrom,omitempty"`
	Takes      []Take         `json:"takes,omitempty"`
}

// Take is what a step takes of a context.
type Take struct {
	Context  string   `json:"context"`
	Path     string   `json:"path"` // from the context, which is "/"
	Wildcard bool     `json:"wildcard,omitempty"`
	Include  []string `json:"include,omitempty"`
	Exclude  []string `json:"exclude,omitempty"`
}

// Files are those of a context.
type Files struct {
	// Root is the digest of all of it, also of what is not listed.
	Root string          `json:"root"`
	List map[string]File `json:"list"` // by path, without a slash in front
	// Cut tells that there are more than are listed.
	Cut bool `json:"cut,omitempty"`
}

// File is one file or directory.
type File struct {
	Mode   uint32 `json:"m"` // as [fs.FileMode]
	Size   int64  `json:"s,omitempty"`
	Digest string `json:"d,omitempty"` // of content, mode and link; the beginning of one
	Link   string `json:"l,omitempty"`
	// Whole tells of a directory whose files are not listed: Digest is that of all
	// of them.
	Whole bool `json:"w,omitempty"`
}

const (
	inputsSuffix = ".inputs"
	// MostInputs is of how many builds the inputs are kept.
	MostInputs = 100
	// mostInputBytes is how much room those inputs have together, in bytes.
	mostInputBytes = 64 << 20
	// searched is among how many builds an earlier one is looked for.
	searched = 50
)

// PutInputs writes the inputs of a build beside its record.
func (s *Store) PutInputs(id string, in *Inputs) error {
	if !ValidID(id) {
		return fmt.Errorf("inputs of build %q: not an ID", id)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	err := errors.Join(json.NewEncoder(z).Encode(in), z.Close())
	if err == nil {
		err = replace(filepath.Join(s.dir, id+inputsSuffix), packed.Bytes())
	}
	if err != nil {
		return fmt.Errorf("inputs of build %s: %w", id, err)
	}
	return nil
}

// Inputs reads the inputs of a build; errdefs.ErrNotFound: they are not kept.
func (s *Store) Inputs(id string) (*Inputs, error) {
	if !ValidID(id) {
		return nil, notFound(id)
	}
	f, err := os.Open(filepath.Join(s.dir, id+inputsSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(id)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := &Inputs{}
	if err := readInputs(f, in); err != nil {
		return nil, fmt.Errorf("inputs of build %s: %w", id, err)
	}
	return in, nil
}

// readInputs reads a file of inputs. Earlier versions did not pack them.
func readInputs(f io.Reader, in *Inputs) error {
	r := bufio.NewReader(f)
	if head, err := r.Peek(2); err == nil && head[0] == 0x1f && head[1] == 0x8b { // RFC 1952, 2.3.1
		z, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		return json.NewDecoder(z).Decode(in)
	}
	return json.NewDecoder(r).Decode(in)
}

// inputsSize is how large the inputs of a build are, in bytes; 0: there are none.
func (s *Store) inputsSize(id string) int64 {
	info, err := os.Stat(filepath.Join(s.dir, id+inputsSuffix))
	if err != nil {
		return 0
	}
	return info.Size()
}

// removeInputs removes the inputs of a build, if there are any.
func (s *Store) removeInputs(id string) error {
	if err := os.Remove(filepath.Join(s.dir, id+inputsSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Newest is the newest of the last builds that match says yes to; nil: there is
// none. It reads no more than it has to.
func (s *Store) Newest(match func(*api.Build) bool) (*api.Build, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var files []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), suffix) {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, f := range files[:min(len(files), searched)] {
		b, err := s.Get(strings.TrimSuffix(f.Name(), suffix))
		if err != nil {
			continue // removed meanwhile, or damaged
		}
		if match(b) {
			return b, nil
		}
	}
	return nil, nil
}

// Hasher returns what makes the hashes of values. They can be compared between
// builds of this store, and tell nothing to whoever has not its key.
func (s *Store) Hasher() (func(...string) string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key == nil {
		name := filepath.Join(s.dir, "key")
		key, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(key) < sha256.Size {
			key = make([]byte, sha256.Size)
			_, _ = rand.Read(key) // never fails, says crypto/rand
			err = atomicfile.Write(name, key, 0o600)
		}
		if err != nil {
			return nil, fmt.Errorf("key for inputs of builds: %w", err)
		}
		s.key = key
	}
	key := s.key
	return func(values ...string) string {
		mac := hmac.New(sha256.New, key)
		for _, v := range values {
			fmt.Fprintf(mac, "%d:%s", len(v), v)
		}
		return hex.EncodeToString(mac.Sum(nil)[:12])
	}, nil
}

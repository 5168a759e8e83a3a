package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Owner is a kind of thing that occupies space.
type Owner string

// Whose bytes can be.
const (
	Image      Owner = "image"
	Container  Owner = "container"
	Volume     Owner = "volume"
	BuildCache Owner = "build-cache"
	Journal    Owner = "journal"       // of events
	Deaths     Owner = "death-records" // also those of removed containers
	Cores      Owner = "cores"         // of processes that have crashed
	Database   Owner = "database"
	Network    Owner = "network"
	Daemon     Owner = "daemon"     // its own files, and the directories that hold what others own
	Unfinished Owner = "unfinished" // loads, creations and the like that are under way or were broken off
	Removing   Owner = "removing"   // on its way out
	Orphan     Owner = "orphan"     // nobody's
)

// Claim says whose a path is, and all below it that no other claim names.
type Claim struct {
	// Path is below the root, with slashes and in the form of path.Clean.
	Path  string
	Owner Owner
	// ID and Name tell which image, container or volume; Part what of it, as "layer" or "log".
	ID, Name, Part string
	// Users are the names of those that share it; nil: it is ID's alone.
	Users []string
	// Bare is set for a directory that is claimed without what is in it.
	Bare bool
	// Disk is the bytes that all at Path is known to occupy, for what never changes; 0: it is measured.
	Disk int64
}

// Account is what all claims of one owner, ID and part add up to.
type Account struct {
	Claim // Path is the first one's
	Paths int
	Size  Size
	// At is when the oldest of the sizes was measured.
	At time.Time
}

// Ledger is all that is below a root.
type Ledger struct {
	Root     string
	At       time.Time
	Accounts []Account // by owner, then the largest first
	Total    Size
}

// patience is how long a taking waits for measuring anew what is known.
const patience = 300 * time.Millisecond

// Take books all below root on what claims returns. Claims are asked for twice, before and after the directories are
// read, so that what comes into being meanwhile is not taken for an orphan.
func Take(ctx context.Context, root string, meter *Meter, claims func(context.Context) ([]Claim, error)) (*Ledger, error) {
	first, err := claims(ctx)
	if err != nil {
		return nil, err
	}
	t := taking{root: root, claims: newTrie(first)}
	if err := t.read(ctx); err != nil {
		return nil, fmt.Errorf("read %q: %w", root, err)
	}
	second, err := claims(ctx)
	if err != nil {
		return nil, err
	}
	t.settle(newTrie(second))
	if err := t.measure(ctx, meter); err != nil {
		return nil, err
	}
	return t.ledger(), nil
}

// trie is claims by the elements of their paths.
type trie struct {
	claim *Claim
	below map[string]*trie
}

func newTrie(claims []Claim) *trie {
	t := &trie{}
	for i := range claims {
		n := t
		for name := range strings.SplitSeq(claims[i].Path, "/") {
			if n.below == nil {
				n.below = map[string]*trie{}
			}
			if n.below[name] == nil {
				n.below[name] = &trie{}
			}
			n = n.below[name]
		}
		n.claim = &claims[i]
	}
	return t
}

// nearest returns the claim on a path or on the nearest directory above it; nil: there is none.
func (t *trie) nearest(p string) *Claim {
	var found *Claim
	for name := range strings.SplitSeq(p, "/") {
		if t = t.below[name]; t == nil {
			return found
		}
		if t.claim != nil && !t.claim.Bare {
			found = t.claim
		}
	}
	if t.claim != nil {
		return t.claim
	}
	return found
}

// Nearest returns the claim on a path or on the nearest directory above it; one without an owner if there is none.
func Nearest(claims []Claim, path string) Claim {
	if c := newTrie(claims).nearest(path); c != nil {
		return *c
	}
	return Claim{}
}

// item is something that is measured as a whole.
type item struct {
	path  string // below the root
	claim *Claim // nil: an orphan
	size  *Size  // known already
	at    time.Time
	gone  bool
	err   error
}

type taking struct {
	root   string
	dev    uint64
	claims *trie
	items  []*item
}

// structure is the claim on directories that only hold what others own.
var structure = Structure(".")

// Structure is the claim on a directory of the daemon's own in which everything has owners of its own.
func Structure(path string) Claim {
	return Claim{Path: path, Owner: Daemon, Part: "directories", Bare: true}
}

func (t *taking) read(ctx context.Context) error {
	st, err := status(unix.AT_FDCWD, t.root)
	if err != nil {
		return err
	}
	t.dev = device(st)
	t.known("", &structure, ownSize(st))
	return t.dir(ctx, "", t.claims, nil)
}

func ownSize(st *unix.Statx_t) Size {
	s := Size{Disk: int64(st.Blocks) * blockUnit}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		s.Apparent = int64(st.Size)
	}
	return s
}

func (t *taking) known(p string, c *Claim, s Size) {
	t.items = append(t.items, &item{path: p, claim: c, size: &s, at: time.Now()})
}

// dir books what is in a directory that claims lie below of; owner is the claim on it, nil if there is none.
func (t *taking) dir(ctx context.Context, p string, node *trie, owner *Claim) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	entries, err := os.ReadDir(filepath.Join(t.root, p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := t.entry(ctx, path.Join(p, e.Name()), node.below[e.Name()], owner); err != nil {
			return err
		}
	}
	return nil
}

func (t *taking) entry(ctx context.Context, p string, node *trie, owner *Claim) error {
	st, err := status(unix.AT_FDCWD, filepath.Join(t.root, p))
	if err != nil {
		return nil //nolint:nilerr // it went meanwhile
	}
	if device(st) != t.dev {
		return nil // as du -x
	}
	if node == nil {
		node = &trie{}
	}
	bare := node.claim != nil && node.claim.Bare
	if node.claim != nil && !bare {
		owner = node.claim
	}
	switch {
	case node.claim != nil && node.claim.Disk > 0:
		t.known(p, node.claim, Size{Disk: node.claim.Disk})
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		t.known(p, owner, ownSize(st))
	case bare:
		t.known(p, node.claim, ownSize(st))
		return t.dir(ctx, p, node, nil)
	case node.below != nil:
		holder := owner
		if holder == nil {
			holder = &structure
		}
		t.known(p, holder, ownSize(st))
		return t.dir(ctx, p, node, owner)
	default:
		t.items = append(t.items, &item{path: p, claim: owner})
	}
	return nil
}

// settle gives orphans to those who claim them now.
func (t *taking) settle(later *trie) {
	for _, i := range t.items {
		if i.claim == nil {
			i.claim = later.nearest(i.path)
		}
	}
}

func (t *taking) measure(ctx context.Context, meter *Meter) error {
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var wait sync.WaitGroup
	for _, i := range t.items {
		if i.size != nil {
			continue
		}
		wait.Go(func() {
			size, at, err := meter.Tree(ctx, patient, filepath.Join(t.root, i.path))
			i.size, i.at, i.err = &size, at, err
			i.gone = errors.Is(err, fs.ErrNotExist)
		})
	}
	wait.Wait()
	for _, i := range t.items {
		if i.err != nil && !i.gone {
			return i.err
		}
	}
	return nil
}

func (t *taking) ledger() *Ledger {
	l := &Ledger{Root: t.root, At: time.Now()}
	type key struct {
		owner              Owner
		id, part, users, p string
	}
	accounts := map[key]*Account{}
	for _, i := range t.items {
		if i.gone {
			continue
		}
		c := i.claim
		k := key{owner: Orphan, p: i.path}
		if c == nil {
			c = &Claim{Path: i.path, Owner: Orphan}
		} else {
			k = key{c.Owner, c.ID, c.Part, strings.Join(c.Users, "\x00"), ""}
		}
		a := accounts[k]
		if a == nil {
			a = &Account{Claim: *c, At: i.at}
			accounts[k] = a
		}
		a.Paths++
		a.Size.add(*i.size)
		if i.at.Before(a.At) {
			a.At = i.at
		}
		l.Total.add(*i.size)
	}
	for _, a := range accounts {
		l.Accounts = append(l.Accounts, *a)
	}
	slices.SortFunc(l.Accounts, compare)
	return l
}

// order is that of the owners in a ledger.
var order = []Owner{Image, Container, Volume, BuildCache, Journal, Deaths, Cores, Database, Network, Daemon, Unfinished, Removing, Orphan}

func compare(a, b Account) int {
	if a.Owner != b.Owner {
		return slices.Index(order, a.Owner) - slices.Index(order, b.Owner)
	}
	if a.Size.Disk != b.Size.Disk {
		if a.Size.Disk > b.Size.Disk {
			return -1
		}
		return 1
	}
	return strings.Compare(a.ID+a.Part+a.Path, b.ID+b.Part+b.Path)
}

package image

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
)

// Writable layers are not snapshots of containerd's. A prepare there costs two
// databases a transaction of two disk flushes each, and so does a removal;
// both are on the path of every `run`. A writable layer here is a directory
//
//	layers/rootfs/ID/base   symbolic link whose target names the snapshot
//	                        below, or noBase
//	layers/rootfs/ID/fs     what the container wrote, in overlayfs's format
//	layers/rootfs/ID/work   overlayfs's own
//	layers/rootfs/ID/images/SUM
//	                        the same as base, for each other image that the
//	                        container has mounted, by the sum in its ID
//
// that is made under another name and renamed, and is renamed to the trash
// when it goes. The directories are the only record of them; Open reads them
// again. What they need of the database is that a snapshot does not go while a
// writable layer is on it: when the last image above such a snapshot goes, the
// snapshot is added to a lease in the same transaction, and it is taken out
// when the last writable layer has gone.

const (
	// noBase is the base of writable layers on images without layers.
	noBase = "none"
	// chainBase begins bases that are layers of an image, keyBase all others.
	chainBase = "chain:"
	keyBase   = "key:"
	// holdingLease keeps the snapshots that writable layers need and no image
	// keeps any more.
	holdingLease = "rootfs"
	// unfinished begins the names of writable layers that are being made.
	unfinished = ".new-"

	resourceSnapshot = "snapshots/" + snapshotterName

	// labelUpper, on a snapshot, is its directory.
	labelUpper = "containerd.io/snapshot/overlay.upperdir"
)

// Layers are the directories of a root filesystem, as overlayfs takes them.
type Layers struct {
	// Base is a directory on the same mount above all others.
	Base string
	// Lower are the layers of the image, topmost first; never empty.
	Lower []string
	// Upper and Work belong to the container.
	Upper, Work string
}

var rootfsID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// CreateRootFS makes the writable layer of a container on an image. Files in
// it keep the ids that they have in the container: mounts translate. The error
// is errdefs.ErrAlreadyExists when the container has one, errdefs.ErrNotFound
// when the image went since it was resolved.
//
// The layers of mounted, which are other images that the container mounts, stay
// as long as the writable layer does, see [Store.MountedImage].
//
// The layer survives a crash of the process. It is not flushed to the disk: a
// power cut within seconds may take it, which [Store.RootFS] then says.
func (s *Store) CreateRootFS(ctx context.Context, containerID string, img Image, mounted ...Image) (_ Layers, err error) {
	ctx = s.in(ctx)
	if !rootfsID.MatchString(containerID) {
		return Layers{}, failf(errdefs.ErrInvalidArgument, "container ID %q", containerID)
	}
	var acquired []string
	defer func() {
		if err != nil {
			for _, key := range acquired {
				s.release(ctx, key)
			}
		}
	}()
	lower, err := s.acquire(ctx, img)
	if err != nil {
		return Layers{}, err
	}
	acquired = append(acquired, img.snapshot)
	links := map[string]string{"base": baseName(img.snapshot)}
	for _, m := range mounted {
		link := mountedLink(m.ID)
		if links[link] != "" {
			continue
		}
		if _, err := s.acquire(ctx, m); err != nil {
			return Layers{}, err
		}
		acquired = append(acquired, m.snapshot)
		links[link] = baseName(m.snapshot)
	}
	// The layers below may be a build's of this moment.
	if err := s.flushes.Flush(); err != nil {
		return Layers{}, err
	}
	if err := s.makeRootFS(containerID, links, lower); err != nil {
		return Layers{}, err
	}
	return s.layers(containerID, lower), nil
}

// mountedDir is where a writable layer names the snapshots of mounted images.
const mountedDir = "images"

func mountedLink(imageID string) string {
	_, sum, _ := strings.Cut(imageID, ":")
	return filepath.Join(mountedDir, sum)
}

// CreateRootFSOver makes a writable layer on that of a container, as it is now
// and as it will be: what the container goes on to write may show or not. It is
// removed as others are, and before the container's own. [Store.RootFS] does not
// know that there is a layer between it and the image.
func (s *Store) CreateRootFSOver(ctx context.Context, id, containerID string) (Layers, error) {
	ctx = s.in(ctx)
	if !rootfsID.MatchString(id) {
		return Layers{}, failf(errdefs.ErrInvalidArgument, "container ID %q", id)
	}
	below, err := s.RootFS(ctx, containerID)
	if err != nil {
		return Layers{}, err
	}
	links, err := s.links(containerID)
	if err != nil {
		return Layers{}, err
	}
	var keys []string
	for _, target := range links {
		key, err := baseKey(target)
		if err != nil {
			return Layers{}, err
		}
		keys = append(keys, key)
	}
	if !s.acquireUsed(keys) {
		return Layers{}, failf(errdefs.ErrNotFound, "container %s has no root filesystem", containerID)
	}
	lower := append([]string{below.Upper}, below.Lower...)
	if err := s.makeRootFS(id, links, lower); err != nil {
		for _, key := range keys {
			s.release(ctx, key)
		}
		return Layers{}, err
	}
	return s.layers(id, lower), nil
}

// links are the links of a writable layer to snapshots, with their targets.
func (s *Store) links(containerID string) (map[string]string, error) {
	dir := filepath.Join(s.rootfsDir(), containerID)
	names := []string{"base"}
	mounted, err := os.ReadDir(filepath.Join(dir, mountedDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read mounted images of writable layer: %w", err)
	}
	for _, e := range mounted {
		names = append(names, filepath.Join(mountedDir, e.Name()))
	}
	links := map[string]string{}
	for _, name := range names {
		if links[name], err = os.Readlink(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("read base of writable layer: %w", err)
		}
	}
	return links, nil
}

// acquireUsed counts one more writable layer on each of the snapshots, if there
// is one on each already: then they stay.
func (s *Store) acquireUsed(keys []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if key != "" && s.rootfs[key] == 0 {
			return false
		}
	}
	for _, key := range keys {
		if key != "" {
			s.rootfs[key]++
		}
	}
	return true
}

// acquire counts one more writable layer on the image's snapshot and returns
// the directories below it.
func (s *Store) acquire(ctx context.Context, img Image) ([]string, error) {
	if img.snapshot == "" && len(img.Config.RootFS.DiffIDs) > 0 {
		return nil, failf(errdefs.ErrFailedPrecondition, "image %s is not unpacked", shortID(img.ID))
	}
	if img.snapshot == "" {
		return []string{s.emptyDir()}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The snapshot stays as long as an image or a writable layer is on it;
	// without either it may be half gone although it can still be found.
	if s.rootfs[img.snapshot] == 0 && s.resolved[img.Target.Digest] == nil {
		return nil, notFound(img.ID)
	}
	lower, err := s.lowerDirs(ctx, img.snapshot)
	if err != nil {
		return nil, err
	}
	s.rootfs[img.snapshot]++
	return lower, nil
}

// lowerDirs returns the directories of a snapshot and its parents, topmost
// first. The caller holds mu.
func (s *Store) lowerDirs(ctx context.Context, key string) ([]string, error) {
	if dirs, ok := s.lowers[key]; ok {
		return dirs, nil
	}
	var dirs []string
	for k := key; k != ""; {
		info, err := s.snapshot.Stat(ctx, k)
		if err != nil {
			return nil, fmt.Errorf("look up layer %q: %w", k, err)
		}
		dirs = append(dirs, info.Labels[labelUpper])
		k = info.Parent
	}
	s.lowers[key] = dirs
	return dirs, nil
}

// release takes back what acquire counted. When that was the last writable
// layer on a snapshot without image, the snapshot goes in the background.
func (s *Store) release(ctx context.Context, key string) {
	if key == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rootfs[key]--; s.rootfs[key] > 0 {
		return
	}
	delete(s.rootfs, key)
	if !s.held[key] {
		return
	}
	delete(s.held, key)
	delete(s.lowers, key)
	s.background.Go(func() {
		// Not under mu, and harmless when it is late or does not happen:
		// Open compares the lease with the writable layers.
		ctx := s.in(context.WithoutCancel(ctx))
		if err := s.unhold(ctx, key); err != nil {
			s.logger.WarnContext(ctx, "layer stays", "snapshot", key, "err", err)
			return
		}
		s.collect(ctx)
	})
}

// unhold takes a snapshot out of the holding lease, unless a writable layer
// has come to need it again.
func (s *Store) unhold(ctx context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rootfs[key] > 0 {
		s.held[key] = true
		return nil
	}
	err := s.leases.DeleteResource(ctx, leases.Lease{ID: holdingLease}, leases.Resource{ID: key, Type: resourceSnapshot})
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// holdUsed puts a snapshot that is about to lose its image into the holding
// lease when writable layers need it. It is part of the transaction of ctx;
// the caller holds mu and calls noteHeld once that has been committed.
func (s *Store) holdUsed(ctx context.Context, key string) error {
	if key == "" || s.rootfs[key] == 0 || s.held[key] {
		return nil
	}
	if _, err := s.leases.Create(ctx, leases.WithID(holdingLease)); err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("hold layer %q: %w", key, err)
	}
	if err := s.leases.AddResource(ctx, leases.Lease{ID: holdingLease}, leases.Resource{ID: key, Type: resourceSnapshot}); err != nil {
		return fmt.Errorf("hold layer %q: %w", key, err)
	}
	return nil
}

func (s *Store) noteHeld(key string) {
	if key != "" && s.rootfs[key] > 0 {
		s.held[key] = true
	}
}

// makeRootFS makes a writable layer. links are symbolic links in it, by name.
func (s *Store) makeRootFS(id string, links map[string]string, lower []string) (err error) {
	dir, err := os.MkdirTemp(s.rootfsDir(), unfinished)
	if err != nil {
		return fmt.Errorf("make writable layer: %w", err)
	}
	defer func() {
		if err != nil {
			if removeErr := os.RemoveAll(dir); removeErr != nil {
				err = errors.Join(err, removeErr)
				s.removeAgain(dir)
			}
		}
	}()
	upper := filepath.Join(dir, "fs")
	if err := os.Mkdir(upper, 0o755); err != nil {
		return fmt.Errorf("make writable layer: %w", err)
	}
	if err := copyRootAttributes(lower[0], upper); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "work"), 0o700); err != nil {
		return fmt.Errorf("make writable layer: %w", err)
	}
	if len(links) > 1 {
		if err := os.Mkdir(filepath.Join(dir, mountedDir), 0o700); err != nil {
			return fmt.Errorf("make writable layer: %w", err)
		}
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("make writable layer: %w", err)
		}
	}
	if err := failpoint.Hit("image.rootfs"); err != nil {
		return fmt.Errorf("make writable layer: %w", err)
	}
	err = unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, filepath.Join(s.rootfsDir(), id), unix.RENAME_NOREPLACE)
	if errors.Is(err, syscall.EEXIST) {
		return failf(errdefs.ErrAlreadyExists, "container %s has a root filesystem", id)
	}
	if err != nil {
		return fmt.Errorf("make writable layer of %s: %w", id, err)
	}
	return nil
}

func (s *Store) layers(id string, lower []string) Layers {
	dir := filepath.Join(s.rootfsDir(), id)
	return Layers{
		Base:  s.layersDir(),
		Lower: append([]string(nil), lower...),
		Upper: filepath.Join(dir, "fs"),
		Work:  filepath.Join(dir, "work"),
	}
}

// base reads which snapshot a writable layer is on.
func (s *Store) base(containerID string) (string, error) {
	if !rootfsID.MatchString(containerID) {
		return "", failf(errdefs.ErrInvalidArgument, "container ID %q", containerID)
	}
	key, err := s.readLink(containerID, "base")
	if errors.Is(err, fs.ErrNotExist) {
		return "", failf(errdefs.ErrNotFound, "container %s has no root filesystem", containerID)
	}
	return key, err
}

// readLink reads the key of a snapshot from a link of a writable layer.
func (s *Store) readLink(containerID, link string) (string, error) {
	name, err := os.Readlink(filepath.Join(s.rootfsDir(), containerID, link))
	if err != nil {
		return "", fmt.Errorf("read base of writable layer: %w", err)
	}
	return baseKey(name)
}

// mounted reads which snapshots of other images a container mounts. What cannot
// be read is left out, and told.
func (s *Store) mounted(containerID string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.rootfsDir(), containerID, mountedDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var keys []string
	for _, e := range entries {
		key, e := s.readLink(containerID, filepath.Join(mountedDir, e.Name()))
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		keys = append(keys, key)
	}
	return keys, err
}

// MountedImage returns the layers of an image that was mounted when the
// container was created, whether or not the image is still there. They have no
// Upper. The error is errdefs.ErrNotFound when the container has none of the kind.
func (s *Store) MountedImage(ctx context.Context, containerID, imageID string) (Layers, error) {
	if !rootfsID.MatchString(containerID) {
		return Layers{}, failf(errdefs.ErrInvalidArgument, "container ID %q", containerID)
	}
	key, err := s.readLink(containerID, mountedLink(imageID))
	if errors.Is(err, fs.ErrNotExist) {
		return Layers{}, failf(errdefs.ErrNotFound, "container %s does not keep the layers of image %s", containerID, shortID(imageID))
	}
	if err != nil {
		return Layers{}, err
	}
	l := Layers{Base: s.layersDir(), Lower: []string{s.emptyDir()}}
	if key == "" {
		return l, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	lower, err := s.lowerDirs(s.in(ctx), key)
	if err != nil {
		return Layers{}, fmt.Errorf("layers of image %s: %w", shortID(imageID), err)
	}
	l.Lower = slices.Clone(lower)
	return l, nil
}

// baseName is what the link base of a writable layer points to: the key of a
// snapshot, shortened where it is long. A target below 60 bytes is stored in
// the inode of the link.
func baseName(key string) string {
	if key == "" {
		return noBase
	}
	if chain, ok := strings.CutPrefix(key, snapshotKeyPrefix); ok {
		if sum, err := hex.DecodeString(chain); err == nil {
			return chainBase + base64.RawURLEncoding.EncodeToString(sum)
		}
	}
	return keyBase + key
}

// baseKey is the key that baseName has made a name of.
func baseKey(name string) (string, error) {
	if name == noBase {
		return "", nil
	}
	if key, ok := strings.CutPrefix(name, keyBase); ok {
		return key, nil
	}
	if chain, ok := strings.CutPrefix(name, chainBase); ok {
		if sum, err := base64.RawURLEncoding.DecodeString(chain); err == nil {
			return snapshotKeyPrefix + hex.EncodeToString(sum), nil
		}
	}
	return "", failf(errdefs.ErrDataLoss, "base %q of writable layer", name)
}

// RootFS returns the layers of a container's root filesystem. The error is
// errdefs.ErrNotFound when it has none.
func (s *Store) RootFS(ctx context.Context, containerID string) (Layers, error) {
	ctx = s.in(ctx)
	key, err := s.base(containerID)
	if err != nil {
		return Layers{}, err
	}
	if key == "" {
		return s.layers(containerID, []string{s.emptyDir()}), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	lower, err := s.lowerDirs(ctx, key)
	if err != nil {
		return Layers{}, fmt.Errorf("root filesystem of container %s: %w", containerID, err)
	}
	return s.layers(containerID, lower), nil
}

// RemoveRootFS gives up the writable layer of a container, which nothing may
// have mounted any more. Its files go in the background. It is no error when
// there is none, nor when nobody can tell what it was on: then no snapshot is
// let go with it, as Open counted none. What cannot be removed is tried again,
// a little later and with the next one.
func (s *Store) RemoveRootFS(ctx context.Context, containerID string) error {
	ctx = s.in(ctx)
	if err := s.removeStaying(ctx); err != nil {
		s.logger.WarnContext(ctx, "writable layers still stay", "err", err)
	}
	return s.removeRootFS(ctx, containerID)
}

// removeStaying removes the writable layers that could not be removed before.
func (s *Store) removeStaying(ctx context.Context) error {
	s.mu.Lock()
	staying := s.staying
	s.staying = nil
	s.mu.Unlock()
	for i, id := range staying {
		if err := s.removeRootFS(ctx, id); err != nil {
			s.mu.Lock()
			s.staying = append(s.staying, staying[i+1:]...) // what this one met, they would meet as well
			s.mu.Unlock()
			return err
		}
	}
	return nil
}

func (s *Store) removeRootFS(ctx context.Context, containerID string) error {
	key, err := s.base(containerID)
	if errdefs.IsInvalidArgument(err) {
		return err
	}
	if err != nil && !errdefs.IsNotFound(err) {
		s.logger.WarnContext(ctx, "writable layer on an unknown base is removed", "container", containerID, "err", err)
	}
	mounted, err := s.mounted(containerID)
	if err != nil && !isLack(err) { // else they will be known in a while
		s.logger.WarnContext(ctx, "writable layer with unknown mounts is removed", "container", containerID, "err", err)
		err = nil
	}
	if err == nil {
		err = failpoint.Hit("image.trash")
	}
	if err == nil {
		err = os.Rename(filepath.Join(s.rootfsDir(), containerID), filepath.Join(s.trashDir(), rand.Text()))
	}
	if errors.Is(err, fs.ErrNotExist) && !isLack(err) { // another call was faster, and has released it
		return nil
	}
	if err != nil {
		s.mu.Lock()
		if !slices.Contains(s.staying, containerID) {
			s.staying = append(s.staying, containerID)
		}
		s.mu.Unlock()
		s.sweepLater()
		return fmt.Errorf("remove root filesystem of container %s: %w", containerID, err)
	}
	failpoint.Pass("image.trashed")
	for _, key := range append(mounted, key) {
		s.release(ctx, key)
	}
	s.emptyTrash()
	return nil
}

// RootFSList returns the containers that have a writable layer, sorted, for
// the engine to compare with the containers it knows.
func (s *Store) RootFSList(context.Context) ([]string, error) {
	entries, err := os.ReadDir(s.rootfsDir())
	if err != nil {
		return nil, fmt.Errorf("list writable layers: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), unfinished) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// RootFSDir is the directory with what a container has written, whether or not
// there is one.
func (s *Store) RootFSDir(containerID string) string {
	return filepath.Join(s.rootfsDir(), containerID, "fs")
}

// RootFSBaseSize is the size of what a container's writable layer is on. The
// error is errdefs.ErrNotFound when the container has none.
func (s *Store) RootFSBaseSize(ctx context.Context, containerID string) (int64, error) {
	key, err := s.base(containerID)
	if err != nil {
		return 0, err
	}
	return s.chainSize(s.in(ctx), key)
}

// scanRootFS reads which writable layers there are when the store is opened,
// clears away half-made ones, and compares the holding lease with them.
func (s *Store) scanRootFS(ctx context.Context) error {
	entries, err := os.ReadDir(s.rootfsDir())
	if err != nil {
		return fmt.Errorf("list writable layers: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), unfinished) {
			if err := os.RemoveAll(filepath.Join(s.rootfsDir(), e.Name())); err != nil {
				return fmt.Errorf("remove half-made writable layer: %w", err)
			}
			continue
		}
		key, err := s.base(e.Name())
		if err != nil {
			s.logger.WarnContext(ctx, "unreadable writable layer", "container", e.Name(), "err", err)
			continue
		}
		mounted, err := s.mounted(e.Name())
		if err != nil {
			s.logger.WarnContext(ctx, "unreadable mounts of a writable layer", "container", e.Name(), "err", err)
		}
		for _, key := range append(mounted, key) {
			if key != "" {
				s.rootfs[key]++
			}
		}
	}
	return s.scanHeld(ctx)
}

func (s *Store) scanHeld(ctx context.Context) error {
	resources, err := s.leases.ListResources(ctx, leases.Lease{ID: holdingLease})
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list held layers: %w", err)
	}
	for _, r := range resources {
		if r.Type != resourceSnapshot {
			continue
		}
		if s.rootfs[r.ID] > 0 {
			s.held[r.ID] = true
			continue
		}
		if err := s.unhold(ctx, r.ID); err != nil {
			return fmt.Errorf("let go of layer %q: %w", r.ID, err)
		}
	}
	return nil
}

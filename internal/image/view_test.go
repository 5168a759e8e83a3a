package image

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/tartree"
)

// The layers look the same, whichever way the kernel wants to have them.
func TestMergedLayers(t *testing.T) {
	s := open(t)
	var layers [][]byte
	for i := range 40 {
		layers = append(layers, tarOf(t, file{name: fmt.Sprintf("f%02d", i), data: "x"}, file{name: "top", data: fmt.Sprint(i)}))
	}
	load(t, s, ociArchive(t, "img", testImage{layers: layers}))
	l := createRootFS(t, s, "c1", "img")
	merged := func(name string, root *os.File, err error) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer root.Close()
		names, err := tartree.Names(root)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/top", root.Fd()))
		if err != nil || string(text) != "39" || len(names) != 41 {
			t.Errorf("%s: %d names, top is %q, %v", name, len(names), text, err)
		}
		err = os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/%s", root.Fd(), "f00"), []byte(name), 0o644)
		if readOnly := name == "image" || name == "image, attached"; (err != nil) != readOnly {
			t.Errorf("%s: write: %v", name, err)
		}
	}
	mounts := func() string {
		text, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := mounts()
	root, err := l.OpenImage()
	merged("image", root, err)
	root, err = l.OpenMerged()
	merged("all", root, err)

	var o mount.OverlayOptions
	for _, dir := range l.Lower {
		rel, err := filepath.Rel(l.Base, dir)
		if err != nil {
			t.Fatal(err)
		}
		o.Lower = append(o.Lower, rel)
	}
	base, err := openDirectory(l.Base)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	o.Base = base
	readOnly := o
	readOnly.Attributes = unix.MOUNT_ATTR_RDONLY
	root, err = l.attached(readOnly, base, nil)
	merged("image, attached", root, err)
	o.Upper, o.Work = "rootfs/c1/fs", "rootfs/c1/work"
	root, err = l.attached(o, base, nil)
	merged("all, attached", root, err)
	if diff := cmp.Diff(before, mounts()); diff != "" {
		t.Errorf("mounts stay:\n%s", diff)
	}
}

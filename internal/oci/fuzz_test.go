package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzBundle reads a bundle as another engine may have written it: what is taken
// has paths that mean the same everywhere.
func FuzzBundle(f *testing.F) {
	for _, s := range []string{
		`{"ociVersion":"1.2.0","root":{"path":"rootfs"},"process":{"cwd":"/","args":["sh"]}}`,
		`{"ociVersion":"1.0.2","root":{"path":"/"},"mounts":[{"destination":"data","source":"../x","options":["rbind","ro"]},{"destination":"/p","type":"proc"}]}`,
		`{"ociVersion":"1.0.2","root":{"path":"rootfs"},"linux":{"cgroupsPath":"../../x","resources":{"devices":[{"allow":true,"access":"rwm"}]}}}`,
		`{"ociVersion":"1.0.2","root":{"path":"rootfs"},"hooks":{"prestart":[{"path":"relative"}],"poststop":[{"path":"/x","timeout":-1}]}}`,
		`{"ociVersion":"2.0.0"}`, `{"ociVersion":"1.0.2","windows":{}}`, `{"ociVersion":"1.0.2","root":{"path":"nothing"}}`, `null`, `[`,
		`{"ociVersion":"1.0.2","root":{"path":"rootfs"},"mounts":[null],"hooks":null,"linux":{}}`,
	} {
		f.Add([]byte(s), "id1")
	}
	f.Fuzz(func(t *testing.T, data []byte, id string) {
		bundle := t.TempDir()
		if err := os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bundle, configFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := loadBundle(bundle, id)
		if err != nil {
			return
		}
		if !filepath.IsAbs(s.Root.Path) || !strings.HasPrefix(s.Version, "1.") {
			t.Errorf("version %q, root %q", s.Version, s.Root.Path)
		}
		for _, m := range s.Mounts {
			if !filepath.IsAbs(m.Destination) {
				t.Errorf("mount to %q", m.Destination)
			}
		}
		if s.Linux != nil && strings.Contains("/"+s.Linux.CgroupsPath+"/", "/../") {
			t.Errorf("cgroup %q", s.Linux.CgroupsPath)
		}
	})
}

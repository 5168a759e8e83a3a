package hostile

import (
	"archive/tar"
	"net/http"
	"strings"
	"testing"
)

// TestDevicesInArchives: archives bring device nodes into a container that it could not make itself: by cp, and as an
// image. They are there, as with Docker, and open for nobody. The control is /dev/zero's twin, which is allowed.
func TestDevicesInArchives(t *testing.T) {
	begin(t)
	nodes := []tar.Header{
		{Name: "nodes/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "nodes/mem", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1, Mode: 0o666},
		{Name: "nodes/kmsg", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 11, Mode: 0o666},
		{Name: "nodes/loop", Typeflag: tar.TypeBlock, Devmajor: 7, Devminor: 0, Mode: 0o666},
		{Name: "nodes/fuse", Typeflag: tar.TypeChar, Devmajor: 10, Devminor: 229, Mode: 0o666},
		{Name: "nodes/zero", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 5, Mode: 0o666},
	}
	check := func(t *testing.T, name string) {
		t.Helper()
		for _, h := range nodes[1:] {
			at := "/tmp/" + h.Name
			out, err := try(t, "exec", name, "sh", "-c", "[ -b "+at+" -o -c "+at+" ] && head -c1 "+at+" | wc -c")
			if strings.HasSuffix(at, "zero") {
				if err != nil || strings.TrimSpace(out) != "1" {
					t.Errorf("control: %s: %q, %v", at, out, err)
				}
				continue
			}
			if !strings.Contains(out, "Operation not permitted") {
				t.Errorf("%s: %q, want it not permitted", at, out)
			}
		}
	}
	for what, more := range map[string][]string{"user namespace": nil, "host's user namespace": {"--userns", "host"}} {
		name := "nodes" + strings.Join(more, "")
		attack(t, "by cp/"+what, func(t *testing.T) {
			start(t, name, append(more, "busybox", "sleep", "1000")...)
			if code, answer := ask(t, http.MethodPut, "/containers/"+name+"/archive?path=/tmp", packed(t, nodes...), nil); code != http.StatusOK {
				t.Fatalf("unpack: %d %s", code, answer)
			}
			check(t, name)
		})
		attack(t, "in an image/"+what, func(t *testing.T) {
			porthole(t, "commit", name, "nodes:1")
			defer porthole(t, "rmi", "-f", "nodes:1")
			start(t, name+"-2", append(more, "nodes:1", "sleep", "1000")...)
			check(t, name+"-2")
			porthole(t, "rm", "-f", name+"-2")
		})
	}
}

// TestRights: a program of an image that is marked set-user-ID gives no more than the container's own root, and nothing
// where no new privileges are allowed.
func TestRights(t *testing.T) {
	begin(t)
	start(t, "marked", "busybox", "sh", "-c", "cp /attack/attack /tmp/user && chmod 4755 /tmp/user && : >/ready && sleep 1000")
	awaitReady(t, "marked")
	porthole(t, "commit", "marked", "marked:1")
	defer porthole(t, "rmi", "-f", "marked:1")
	if out := porthole(t, "run", "--rm", "--network", "none", "-u", "1000", "marked:1", "/tmp/user", "user"); out != "0" {
		t.Errorf("control: it gives %q inside", out)
	}
	attack(t, "no new privileges", func(t *testing.T) {
		if out := porthole(t, "run", "--rm", "--network", "none", "-u", "1000", "--security-opt", "no-new-privileges", "marked:1", "/tmp/user", "user"); out != "1000" {
			t.Errorf("it gives %q, want 1000", out)
		}
	})
}

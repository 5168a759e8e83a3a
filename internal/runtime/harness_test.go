package runtime

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/testenv"
)

// shimPath is the shim binary that the tests run: that of PORTHOLE_TEST_BIN, for
// machines without Go, or built by TestMain.
var shimPath string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(probeVariable) != "" {
		return probe()
	}
	if bin := os.Getenv("PORTHOLE_TEST_BIN"); bin != "" {
		shimPath = filepath.Join(bin, "porthole-shim")
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "porthole-runtime-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shimPath = filepath.Join(dir, "porthole-shim")
	cmd := exec.Command("go", "build", "-o", shimPath, "github.com/portholehq/porthole/cmd/porthole-shim")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build shim: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// testIDs is the id range of test containers, away from what a daemon uses first.
var testIDs = IDRange{Host: 1_500_000_000, Size: 65536}

// world is a runtime with directories and cgroups of its own.
type world struct {
	t      testing.TB
	r      *Runtime
	dir    string
	parent string
	image  string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	testenv.NeedsRoot(t)
	busybox := testenv.NeedsProgram(t, "busybox")
	w := &world{t: t, dir: t.TempDir(), parent: "/porthole-test-" + randomName()}
	// Directories of t.TempDir are for their owner only; a shim needs none of
	// them by path, and neither must a container.
	r, err := New(Options{
		ExecRoot: filepath.Join(w.dir, "run"), CgroupParent: w.parent, ShimPath: shimPath,
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.r = r
	t.Cleanup(func() {
		r.Close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		if err := cgroup.New(w.parent).Destroy(ctx); err != nil {
			t.Errorf("cgroups are left: %v", err)
		}
	})
	w.image = filepath.Join(w.dir, "layers", "image")
	w.fillImage(busybox)
	return w
}

// orSlow is how often something is done: the first number, or the second in the
// machine of test/uml, where a container takes seconds.
func orSlow(n, there int) int {
	if os.Getenv("PORTHOLE_TEST_UML") != "" {
		return there
	}
	return n
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

func randomName() string {
	b := make([]byte, 5)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// fillImage makes a small root filesystem out of a static busybox.
func (w *world) fillImage(busybox string) {
	w.t.Helper()
	for _, d := range []string{"bin", "etc", "tmp", "root", "home/app", "proc", "sys", "dev", "var", "run"} {
		w.must(os.MkdirAll(filepath.Join(w.image, d), 0o755))
	}
	w.must(os.Chmod(filepath.Join(w.image, "tmp"), 0o1777))
	data, err := os.ReadFile(busybox)
	w.must(err)
	w.must(os.WriteFile(filepath.Join(w.image, "bin/busybox"), data, 0o755))
	for applet := range strings.FieldsSeq("sh true false cat echo ls id ps sleep stat mount umount touch hostname readlink mkdir rm ln ip env tty stty kill grep head test wc sed tr od dd mknod chmod chown unshare chroot printf sort find") {
		w.must(os.Symlink("busybox", filepath.Join(w.image, "bin", applet)))
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
		"etc/group":  "root:x:0:root\naudio:x:29:app\napp:x:1000:\nwheel:x:10:root,app\n",
		"etc/plain":  "no program\n",
	} {
		w.must(os.WriteFile(filepath.Join(w.image, name), []byte(text), 0o644))
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// bundle is a container with Docker's defaults that runs args.
func (w *world) bundle(args ...string) Bundle {
	w.t.Helper()
	id := "c" + randomName()
	layers := filepath.Join(w.dir, "layers")
	for _, d := range []string{"upper", "work"} {
		w.must(os.MkdirAll(filepath.Join(layers, id, d), 0o755))
	}
	return Bundle{
		ID:   id,
		Spec: testSpec(args...),
		RootFS: Layers{
			Base: layers, Lower: []string{w.image},
			Upper: filepath.Join(layers, id, "upper"), Work: filepath.Join(layers, id, "work"),
		},
		IDs:      testIDs,
		StateDir: filepath.Join(w.dir, "containers", id, "shim"),
		LogDir:   filepath.Join(w.dir, "containers", id, "logs"),
	}
}

func testSpec(args ...string) *specs.Spec {
	capabilities := strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE")
	return &specs.Spec{
		Version:  specs.Version,
		Hostname: "box",
		Root:     &specs.Root{Path: "rootfs"},
		Process: &specs.Process{
			Args: args, Cwd: "/",
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Capabilities: &specs.LinuxCapabilities{Bounding: capabilities, Effective: capabilities, Permitted: capabilities},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace},
				{Type: specs.PIDNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.CgroupNamespace},
				{Type: specs.UserNamespace},
			},
			MaskedPaths: []string{
				"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
				"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

// onHost puts a bundle into the host's user namespace.
func onHost(b *Bundle) {
	b.IDs = IDRange{}
	b.Spec.Linux.Namespaces = slices.DeleteFunc(b.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
}

// create creates a container that is deleted with the test.
func (w *world) create(b Bundle) *Container {
	w.t.Helper()
	c, err := w.r.Create(w.context(), b)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.delete(c) })
	return c
}

func (w *world) delete(c *Container) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Delete(ctx); err != nil {
		w.t.Error(err)
	}
}

func (w *world) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	w.t.Cleanup(cancel)
	return ctx
}

// start creates and starts a container that goes on running.
func (w *world) start(b Bundle) *Container {
	w.t.Helper()
	c := w.create(b)
	if err := c.Start(w.context()); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// run runs a container to its end and returns what it has written.
func (w *world) run(b Bundle) (string, Exit) {
	w.t.Helper()
	c := w.create(b)
	conn, err := c.Attach(w.context(), AttachOptions{Stdout: true, Stderr: true})
	w.must(err)
	defer conn.Close()
	if err := c.Start(w.context()); err != nil {
		w.t.Fatal(err)
	}
	out := w.read(conn, b.Terminal)
	w.wait(c.Done())
	return out, c.Exit()
}

func (w *world) wait(done <-chan struct{}) {
	w.t.Helper()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		w.t.Fatal("nothing ended within 20 seconds")
	}
}

// read reads an attached stream to its end, without the frames.
func (w *world) read(r io.Reader, raw bool) string {
	w.t.Helper()
	data, err := io.ReadAll(r)
	if err != nil && !errors.Is(err, io.EOF) {
		w.t.Fatal(err)
	}
	if raw {
		return strings.ReplaceAll(string(data), "\r\n", "\n")
	}
	var out strings.Builder
	for len(data) >= 8 {
		n := int(binary.BigEndian.Uint32(data[4:]))
		out.Write(data[8:min(8+n, len(data))])
		data = data[min(8+n, len(data)):]
	}
	return out.String()
}

// shell is a bundle that runs a script. Its errors go where its output goes,
// so that there is an order between them.
func (w *world) shell(script string) Bundle { return w.bundle("sh", "-c", "exec 2>&1\n"+script) }

func allCapabilities(t testing.TB) []string {
	t.Helper()
	set, err := caps.Bounding()
	if err != nil {
		t.Fatal(err)
	}
	return set.Names()
}

func hasCapability(t testing.TB, c caps.Cap) bool {
	t.Helper()
	set, err := caps.Bounding()
	if err != nil {
		t.Fatal(err)
	}
	return set.Has(c)
}

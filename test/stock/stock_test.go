package stock

import (
	"bytes"
	_ "embed"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/machine"
)

//go:embed init.sh
var initScript string

// limit is how long the whole machine may run.
const limit = 90 * time.Minute

// suites are those that run, one after the other.
var suites = []machine.Suite{
	{Name: "apparmor", Pkg: "internal/linux/apparmor", Args: "-test.timeout=5m"},
	{Name: "cgroup", Pkg: "internal/linux/cgroup", Args: "-test.timeout=10m"},
	{Name: "script", Pkg: "test/script", Args: "-test.timeout=80m -test.run=^TestScript/(porthole|own)/(core_|apparmor|trace$|blackbox|denials|signals|why_core)|^TestScript/docker/apparmor"},
}

func TestStock(t *testing.T) {
	testenv.NeedsRoot(t)
	// Ended by a signal, the test ends the machine, and removes its folder.
	ctx, stop := signal.NotifyContext(t.Context(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	qemu := testenv.NeedsProgram(t, "qemu-system-x86_64")
	for _, name := range []string{"mkfs.ext4", "depmod", "modprobe", "busybox", "xz"} {
		testenv.NeedsProgram(t, name)
	}
	kernel := debian(t)
	accel, slow := accelerator()
	t.Logf("QEMU with %s", accel)
	chosen := machine.Chosen(t, "PORTHOLE_TEST_STOCK_RUN", suites)
	dir := machine.Folder(ctx, t, "stock", initScript, chosen, "@KERNEL@", kernel, "@SLOW@", slow)

	said := machine.Boot(ctx, t, limit, qemu, "-accel", accel, "-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "3G",
		"-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio",
		"-kernel", filepath.Join(kernel, "vmlinuz"), "-initrd", filepath.Join(kernel, "initrd"),
		"-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
		"-virtfs", "local,path="+dir+",mount_tag=folder,security_model=none,multidevs=remap",
		"-drive", "file="+filepath.Join(dir, "image")+",format=raw,if=virtio,cache=unsafe",
		"-append", "console=ttyS0 panic=-1 quiet apparmor=1 security=apparmor porthole.dir="+dir)
	machine.Judge(t, dir, said, chosen)
}

// debian is the folder with Debian's kernel, of which it tells the version.
func debian(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "kernel.sh")
	var said bytes.Buffer
	cmd.Stderr = &said
	dir, err := cmd.Output()
	t.Logf("%s", said.Bytes())
	if err != nil {
		t.Fatalf("kernel.sh: %v", err)
	}
	return strings.TrimSpace(string(dir))
}

// accelerator is how QEMU has the machine's processor, and how many times slower
// that is than the host's.
func accelerator() (name, slow string) {
	flags, _ := os.ReadFile("/proc/cpuinfo")
	// What is there without either is not for kernels that do not know of it.
	if _, err := os.Stat("/dev/kvm"); err == nil && (bytes.Contains(flags, []byte(" vmx ")) || bytes.Contains(flags, []byte(" svm "))) {
		return "kvm", "2"
	}
	return "tcg,thread=multi", "8"
}

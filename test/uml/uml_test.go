package uml

import (
	_ "embed"
	"os/signal"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/machine"
)

//go:embed init.sh
var initScript string

// limit is how long the whole machine may run.
const limit = 40 * time.Minute

// suites are those that run, one after the other.
var suites = []machine.Suite{
	{Name: "cgroup", Pkg: "internal/linux/cgroup", Args: "-test.timeout=3m"},
	{Name: "runtime", Pkg: "internal/runtime", Args: "-test.timeout=15m"},
	{Name: "exhaust", Pkg: "test/exhaust", Args: "-test.timeout=10m -test.run=^TestPids$/room_for_a_few|its_own_limit"},
	{Name: "clock", Pkg: "test/clock", Args: "-test.timeout=15m"},
	{Name: "script", Pkg: "test/script", Args: "-test.timeout=20m -test.run=^TestScript/(porthole|own)/core_|^TestTerminalRun/porthole|^TestMany$"},
}

func TestUML(t *testing.T) {
	testenv.NeedsRoot(t)
	// Ended by a signal, the test ends the machine, and removes its folder.
	ctx, stop := signal.NotifyContext(t.Context(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	linux := testenv.NeedsProgram(t, "linux.uml")
	testenv.NeedsProgram(t, "mkfs.ext4")
	testenv.NeedsProgram(t, "modprobe")
	chosen := machine.Chosen(t, "PORTHOLE_TEST_UML_RUN", suites)
	dir := machine.Folder(ctx, t, "uml", initScript, chosen)
	// modprobe -d looks below lib/modules.
	machine.Link(t, "/usr/lib/uml/modules", filepath.Join(dir, "lib", "modules"))

	linux, err := fitting(linux, dir)
	if err != nil {
		t.Fatal(err)
	}

	kernel := machine.Boot(ctx, t, limit, linux, "rootfstype=hostfs", "rootflags=/", "rw", "mem=2G",
		"init="+filepath.Join(dir, "init"), "con0=null,fd:1", "con=null", "ubd0="+filepath.Join(dir, "image"))
	machine.Judge(t, dir, kernel, chosen)
}

// Package cores tests the taking of cores, which are the whole machine's: so it runs
// alone, and in the mount and pid namespaces of the machine, since the kernel brings
// cores to a socket in no other mount namespace.
package cores

import (
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

const corePattern = "/proc/sys/kernel/core_pattern"

func readPattern(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(corePattern)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func writePattern(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(corePattern, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

// crashScript is for Perl: it reads what is not there.
const crashScript = `unpack("p", pack("J", 8))`

// crashHere has a process of the host crash in a directory, with a limit of cores, and returns what it left there.
func crashHere(t *testing.T, dir, limit string, uid uint32) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "ulimit -c "+limit+`; exec perl -e '`+crashScript+`'`)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != unix.SIGSEGV {
		t.Fatalf("it did not crash: %v, %s", err, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// machine is a daemon and a client of it.
type machine struct {
	*bed.Daemon
	net *os.File
	c   *client.Client
}

// startDaemon starts a daemon in a network of its own, which ends with the test, with further arguments.
func startDaemon(t *testing.T, args ...string) *machine {
	t.Helper()
	dir, err := os.MkdirTemp(bed.WorkRoot(), "porthole-cores-") //nolint:usetesting // on a disk, as users have it
	if err != nil {
		t.Fatal(err)
	}
	d := &machine{net: testenv.NetNS(t)}
	testenv.InNetNS(t, d.net, func() error {
		d.Daemon, err = bed.Start(bed.Options{Dir: dir, Args: args})
		return err
	})
	t.Cleanup(func() {
		if err := errors.Join(d.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	if d.c, err = client.New(client.Options{Host: d.Host()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.c.Close() })
	return d
}

func (d *machine) porthole(t *testing.T, args ...string) string {
	t.Helper()
	out, err := d.Porthole(t.Context(), args...)
	if err != nil {
		t.Fatalf("porthole %q: %v", args, err)
	}
	return out
}

// TestCoreDumps takes the cores of the machine, and gives back what was there. core_pattern is
// one for all.
func TestCoreDumps(t *testing.T) {
	testenv.NeedsRoot(t)
	testenv.NeedsProgram(t, "perl")
	before := readPattern(t)
	if before != "core" {
		testenv.Skip(t, "cores of this machine go to %q, which must stay", before)
	}
	t.Cleanup(func() {
		if readPattern(t) != before {
			t.Errorf("core_pattern is %q", readPattern(t))
			writePattern(t, before)
		}
	})
	d := startDaemon(t, "--core-dumps")
	d.coresTaken(t)
	archive := bed.Archive("debian:bookworm-slim")
	d.porthole(t, "load", "-q", "-i", archive)
	t.Run("kept", d.testCoreKept)
	t.Run("bounded", d.testCoreBounded)
	t.Run("others", testCoresOfOthers)
	t.Run("forged", d.testCoreForged)
	t.Run("put back", d.testCorePutBack)
}

// coresTaken fails unless cores come to the daemon, as they do on new kernels.
func (d *machine) coresTaken(t *testing.T) {
	t.Helper()
	facts, err := d.c.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ev := facts.Evidence
	if strings.Contains(ev.CoresWhy, "Linux 6.17") {
		t.Log(d.LogTail(4000))
		testenv.NeedsKernel(t, "6.17", unix.ENOTSUP)
	}
	if want := "@@" + d.ExecRoot() + "/porthole-cores.sock"; !ev.Cores || readPattern(t) != want {
		t.Fatalf("%+v, core_pattern is %q, want %q", ev, readPattern(t), want)
	}
}

// crash runs a container that crashes.
func (d *machine) crash(t *testing.T, name string, flags ...string) {
	t.Helper()
	args := append([]string{"run", "--network", "none", "--name", name, "-w", "/srv"}, flags...)
	out, err := d.Porthole(t.Context(), append(args, "debian:bookworm-slim", "perl", "-e", crashScript)...)
	if err == nil || !strings.Contains(err.Error(), "139") {
		t.Fatalf("it did not crash: %v, %s", err, out)
	}
}

func (d *machine) testCoreKept(t *testing.T) {
	d.crash(t, "gone", "--rm", "--ulimit", "core=-1", "--read-only")
	list, err := d.c.Cores(t.Context(), "gone")
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if c := list[0]; c.Process != "perl" || c.Signal != "SIGSEGV" || !c.First || c.Run != 1 || c.Truncated {
		t.Errorf("%+v", c)
	}
	if why := d.porthole(t, "why", "gone"); !strings.Contains(why, "its core was kept") || !strings.Contains(why, "porthole core get -o core "+list[0].ID) {
		t.Error(why)
	}
	if table := d.porthole(t, "core", "ls", "gone"); !strings.Contains(table, list[0].ID) || !strings.Contains(table, "SIGSEGV") {
		t.Error(table)
	}
	if out := d.porthole(t, "system", "df", "-v"); !regexp.MustCompile(`(?m)^cores +[1-9]`).MatchString(out) {
		t.Error(out)
	}
	path := filepath.Join(t.TempDir(), "core")
	d.porthole(t, "core", "get", "-o", path, "gone")
	info, err := os.Stat(path)
	if err != nil || info.Size() != list[0].Bytes || info.Mode() != 0o600 {
		t.Errorf("%v, %v, want %d bytes", info, err, list[0].Bytes)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Type != elf.ET_CORE || len(f.Progs) < 5 || f.Progs[0].Type != elf.PT_NOTE {
		t.Errorf("%v with %d segments", f.Type, len(f.Progs))
	}
	entries, err := os.ReadDir(filepath.Join(d.DataRoot(), "cores"))
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
	d.porthole(t, "core", "rm", list[0].ID)
	if _, err := d.Porthole(t.Context(), "core", "get", list[0].ID); err == nil || !strings.Contains(err.Error(), "No such core: "+list[0].ID) {
		t.Errorf("it is still there: %v", err)
	}
}

// testCoreBounded has processes crash that may leave no core, or a part of one.
func (d *machine) testCoreBounded(t *testing.T) {
	d.crash(t, "none", "--ulimit", "core=0")
	d.crash(t, "part", "--ulimit", "core=100000")
	list, err := d.c.Cores(t.Context(), "")
	if err != nil || len(list) != 1 || list[0].ContainerName != "part" || list[0].Bytes != 100000 || !list[0].Truncated {
		t.Errorf("%+v, %v", list, err)
	}
	if why := d.porthole(t, "why", "none"); !strings.Contains(why, "the kernel wrote no core dump") {
		t.Error(why)
	}
	if out := d.porthole(t, "diff", "part"); strings.Contains(out, "core") {
		t.Errorf("it is in the container's files as well: %s", out)
	}
}

// testCoresOfOthers: processes that are no container's get what they would have got.
func testCoresOfOthers(t *testing.T) {
	const nobody = 65534
	dir := func(uid int) string {
		dir, err := os.MkdirTemp(bed.WorkRoot(), "porthole-cores-") //nolint:usetesting // which other users may enter
		if err == nil {
			err = errors.Join(os.Chown(dir, uid, uid), os.Chmod(dir, 0o755))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return dir
	}
	theirs := dir(nobody)
	if got := crashHere(t, theirs, "unlimited", nobody); len(got) != 1 || !strings.HasPrefix(got[0], "core") {
		t.Fatalf("left %q", got)
	} else if f, err := elf.Open(filepath.Join(theirs, got[0])); err != nil || f.Type != elf.ET_CORE {
		t.Errorf("it is no core: %v", err)
	} else if info, err := os.Stat(filepath.Join(theirs, got[0])); err != nil || info.Sys().(*syscall.Stat_t).Uid != nobody || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	// What was readable for others is not what gets the next core.
	old := filepath.Join(theirs, "core")
	if err := os.WriteFile(old, []byte("of before"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chown(old, nobody, nobody), os.Chmod(old, 0o644)); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(old)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	crashHere(t, theirs, "unlimited", nobody)
	if info, err := os.Stat(old); err != nil || info.Mode() != 0o600 || info.Size() < 1<<12 {
		t.Errorf("%v, %v", info, err)
	}
	if text, err := io.ReadAll(reader); err != nil || string(text) != "of before" {
		t.Errorf("who had the old file open reads %d bytes, %v", len(text), err)
	}
	if got := crashHere(t, dir(nobody), "0", nobody); len(got) != 0 {
		t.Errorf("with a limit of 0 it left %q", got)
	}
	if got := crashHere(t, dir(0), "unlimited", nobody); len(got) != 0 {
		t.Errorf("where it may not write it left %q", got)
	}
	// A link must not lead the daemon's writing elsewhere.
	tricky := dir(nobody)
	target := filepath.Join(tricky, "target")
	if err := os.WriteFile(target, []byte("precious"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(tricky, "core")); err != nil {
		t.Fatal(err)
	}
	crashHere(t, tricky, "unlimited", nobody)
	if text, err := os.ReadFile(target); err != nil || string(text) != "precious" {
		t.Errorf("it wrote through a link: %q, %v", text, err)
	}
}

// testCoreForged: nobody but the kernel brings cores.
func (d *machine) testCoreForged(t *testing.T) {
	before, err := d.c.Cores(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	forge := `use IO::Socket::UNIX; $SIG{PIPE} = "IGNORE"; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die; ` +
		`syswrite $s, pack("LLQ", 16, 16, 15); my $n = sysread $s, my $ack, 16; print "answered ", $n // "by a reset"`
	out, err := exec.CommandContext(t.Context(), "perl", "-e", forge, d.ExecRoot()+"/porthole-cores.sock").CombinedOutput()
	if err != nil || strings.Contains(string(out), "answered 16") || !strings.Contains(string(out), "answered ") {
		t.Errorf("%s, %v", out, err)
	}
	if after, err := d.c.Cores(t.Context(), ""); err != nil || len(after) != len(before) {
		t.Errorf("%+v, %v", after, err)
	}
}

// testCorePutBack: what was there is there again after a stop, and after a daemon that was killed; what somebody else has
// chosen stays.
func (d *machine) testCorePutBack(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	start := func() { testenv.InNetNS(t, d.net, d.Start) }
	must(d.Stop())
	if got := readPattern(t); got != "core" {
		t.Errorf("after a stop core_pattern is %q", got)
	}
	start()
	must(d.Kill())
	if got := readPattern(t); !strings.HasPrefix(got, "@@") {
		t.Errorf("after a kill core_pattern is %q", got)
	}
	start()
	d.crash(t, "again", "--rm", "--ulimit", "core=-1")
	if list, err := d.c.Cores(t.Context(), "again"); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	const theirs = "/nowhere/of-somebody-else.%p"
	writePattern(t, theirs)
	if out := d.porthole(t, "info"); !strings.Contains(out, "Cores Kept: no:") || !strings.Contains(out, theirs) {
		t.Error(out)
	}
	must(d.Stop())
	start()
	if out := d.porthole(t, "info"); !strings.Contains(out, "Cores Kept: no:") || !strings.Contains(out, theirs) {
		t.Error(out)
	}
	must(d.Stop())
	if got := readPattern(t); got != theirs {
		t.Errorf("somebody else's choice is %q now", got)
	}
	writePattern(t, "core")
	start()
}

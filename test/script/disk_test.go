package script

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

// ownDaemon is a daemon that one test has for itself, and a client of it.
type ownDaemon struct {
	*bed.Daemon
	t   *testing.T
	net *os.File
	c   *client.Client
}

// startDaemon starts a daemon in a network of its own, which ends with the test, with further arguments.
func startDaemon(t *testing.T, args ...string) *ownDaemon {
	t.Helper()
	testenv.NeedsRoot(t)
	return startDaemonIn(t, workDir(t), args...)
}

// workDir makes a directory for a daemon, which ends with the test.
func workDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(bed.WorkRoot(), "porthole-own-") //nolint:usetesting // on a disk, as users have it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// startDaemonIn is startDaemon with the directory that the daemon has.
func startDaemonIn(t *testing.T, dir string, args ...string) *ownDaemon {
	t.Helper()
	var d *bed.Daemon
	netns := testenv.NetNS(t)
	testenv.InNetNS(t, netns, func() (err error) {
		d, err = bed.Start(bed.Options{Dir: dir, Bin: daemon.Bin, Args: args})
		return err
	})
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close daemon: %v", err)
		}
	})
	c, err := client.New(client.Options{Host: d.Host()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &ownDaemon{d, t, netns, c}
}

func (d *ownDaemon) porthole(args ...string) string {
	d.t.Helper()
	out, err := d.Porthole(d.t.Context(), args...)
	if err != nil {
		d.t.Fatalf("porthole %q: %v", args, err)
	}
	return out
}

func (d *ownDaemon) ledger() api.DiskLedger {
	d.t.Helper()
	l, err := d.c.DiskLedger(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return l
}

// du is what du says of the data root.
func (d *ownDaemon) du() int64 {
	d.t.Helper()
	out, err := exec.CommandContext(d.t.Context(), "du", "-sx", "--block-size=1", d.DataRoot()).Output()
	if err != nil {
		d.t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// bytesOf sums up the accounts of an owner; the name and part may be empty for all.
func bytesOf(l api.DiskLedger, owner, name, part string) int64 {
	var sum int64
	for _, a := range l.Accounts {
		if a.Owner == owner && (name == "" || a.Name == name) && (part == "" || a.Part == part) {
			sum += a.Bytes
		}
	}
	return sum
}

// agrees fails unless the ledger, which it returns, says what du says, within 2 %. They are compared at a moment when
// nothing changes: du says the same before and after.
func (d *ownDaemon) agrees() api.DiskLedger {
	d.t.Helper()
	var l api.DiskLedger
	var du int64
	d.until("the data root rests", func() bool {
		du = d.du()
		l = d.ledger()
		return d.du() == du
	})
	if diff := l.TotalBytes - du; diff*50 > du || -diff*50 > du {
		d.t.Errorf("the ledger's total is %d, du says %d", l.TotalBytes, du)
	}
	var sum int64
	for _, a := range l.Accounts {
		sum += a.Bytes
	}
	if sum != l.TotalBytes {
		d.t.Errorf("the accounts add up to %d, the total is %d", sum, l.TotalBytes)
	}
	return l
}

// until waits for what happens behind.
func (d *ownDaemon) until(what string, ok func() bool) {
	d.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(settling); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			d.t.Fatalf("never: %s; the ledger is %+v", what, d.ledger())
		}
	}
}

const mib = 1 << 20

// TestDiskLedger: every byte below the data root has an owner, or is listed as an orphan; and all can be got rid of.
func TestDiskLedger(t *testing.T) {
	d := startDaemon(t)
	d.porthole("rmi", "porthole/toolbox")
	d.until("the toolbox goes", func() bool { return bytesOf(d.ledger(), "image", "", "") == 0 })
	empty := d.du()
	d.agrees()

	archive := filepath.Join(bed.ImageDir(), "busybox_latest.tar")
	d.porthole("load", "-q", "-i", archive)
	d.porthole("run", "-d", "--network", "none", "--name", "live", "-v", "data:/data", "busybox", "sh", "-c",
		"dd if=/dev/zero of=/layer bs=1M count=3; dd if=/dev/zero of=/data/f bs=1M count=4; head -c 1500000 /dev/zero | tr '\\0' 'l' | fold -w 100; echo; echo ready; exec sleep 1000")
	d.until("the container has written", func() bool { return strings.Contains(d.porthole("logs", "--tail", "1", "live"), "ready") })
	stop := d.stuckLoad()
	d.until("the load has begun", func() bool { return bytesOf(d.ledger(), "unfinished", "", "") >= mib/2 })

	lost := strings.Repeat("ab", 32)
	for name, size := range map[string]int{"stray": 100_000, "containers/" + lost + "/x": 5000, "images/layers/rootfs/" + lost + "/fs/x": 200_000, "volumes/.odd/x": 10} {
		path := filepath.Join(d.DataRoot(), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Repeat([]byte("o"), size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	d.ledger()
	t.Logf("taken in %v", time.Since(began))
	l := d.agrees()
	for _, want := range []struct {
		owner, name, part string
		least             int64
	}{
		{"container", "live", "layer", 3 * mib},
		{"container", "live", "log", 1_500_000},
		{"container", "live", "state", 1},
		{"volume", "data", "", 4 * mib},
		{"image", "busybox:latest", "layers", mib},
		{"image", "busybox:latest", "packed layers", mib / 4},
		{"journal", "", "", 1},
		{"database", "", "", 1},
		{"unfinished", "", "", mib / 2},
		{"orphan", "", "", 300_000},
	} {
		if got := bytesOf(l, want.owner, want.name, want.part); got < want.least {
			t.Errorf("%s %s %s: %d bytes, want %d or more", want.owner, want.name, want.part, got, want.least)
		}
	}
	var orphans []string
	for _, a := range l.Accounts {
		if a.Owner == "orphan" {
			orphans = append(orphans, a.Path)
		}
	}
	slices.Sort(orphans)
	// What else there is has been forgotten in the claims of the part that makes it.
	if want := []string{"containers/" + lost, "images/layers/rootfs/" + lost, "stray", "volumes/.odd"}; !slices.Equal(orphans, want) {
		t.Fatalf("orphans are %q, want %q", orphans, want)
	}
	table := d.porthole("system", "df", "-v")
	for _, want := range []string{"Data root usage:", "stray", "containers/" + lost, "images/layers/rootfs/" + lost, "volumes/.odd", "prune --orphans"} {
		if !strings.Contains(table, want) {
			t.Errorf("df -v has no %q:\n%s", want, table)
		}
	}

	// A load whose client is gone leaves nothing; nor does one whose daemon was killed.
	stop()
	d.until("the broken load goes", func() bool { return bytesOf(d.ledger(), "unfinished", "", "") == 0 })
	stop = d.stuckLoad()
	d.until("the second load has begun", func() bool { return bytesOf(d.ledger(), "unfinished", "", "") >= mib/2 })
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	stop()
	testenv.InNetNS(t, d.net, d.Start)
	d.until("the killed load goes", func() bool { return bytesOf(d.ledger(), "unfinished", "", "") == 0 })
	// What is used stays.
	d.porthole("system", "prune", "-af", "--volumes")
	d.porthole("volume", "prune", "-af")
	if got := d.porthole("ps", "--format", "{{.Names}}") + d.porthole("images", "--format", "{{.Repository}}") + d.porthole("volume", "ls", "-q"); got != "livebusyboxdata" {
		t.Errorf("after a prune there are %q", got)
	}

	d.porthole("rm", "-f", "live")
	d.porthole("volume", "prune", "-af")
	out := d.porthole("system", "prune", "-af", "--volumes", "--orphans")
	if !strings.Contains(out, "stray") || !strings.Contains(out, "Total reclaimed space:") {
		t.Errorf("prune printed:\n%s", out)
	}
	d.until("the trash goes", func() bool { return bytesOf(d.ledger(), "removing", "", "") <= 8192 })
	if left := d.du(); left > empty+mib {
		t.Errorf("%d bytes are left, %d when there was nothing: %+v", left, empty, d.ledger())
	}
	l = d.agrees()
	if n := bytesOf(l, "orphan", "", "") + bytesOf(l, "image", "", "") + bytesOf(l, "container", "", "") + bytesOf(l, "volume", "", ""); n != 0 {
		t.Errorf("%d bytes still have owners: %+v", n, l)
	}
}

// stuckLoad begins to load an archive that does not go on, and returns what breaks it off.
func (d *ownDaemon) stuckLoad() (stop func()) {
	d.t.Helper()
	ctx, cancel := context.WithCancel(d.t.Context())
	cmd := exec.CommandContext(ctx, d.Program("porthole"), "-H", d.Host(), "load", "-q")
	in, err := cmd.StdinPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	written := make(chan struct{})
	go func() { // until the command ends
		defer close(written)
		w := tar.NewWriter(in)
		if w.WriteHeader(&tar.Header{Name: "layer.tar", Mode: 0o644, Size: 4 * mib}) == nil {
			_, _ = w.Write(bytes.Repeat([]byte("x"), mib))
		}
	}()
	return func() {
		cancel()
		_ = cmd.Wait()
		<-written
	}
}

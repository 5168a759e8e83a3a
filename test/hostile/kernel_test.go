package hostile

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestCalls makes the system calls that reach far into the kernel. The filter's answer is EPERM, and ENOSYS for clone3,
// whose arguments a filter cannot see. The control is a container without a filter: there the kernel answers, so it is
// the filter that stops them.
func TestCalls(t *testing.T) {
	begin(t)
	filtered := lines(t, porthole(t, run("--rm", "busybox", "/attack/attack", "calls")...))
	open := lines(t, porthole(t, run("--rm", "--security-opt", "seccomp=unconfined", "busybox", "/attack/attack", "calls")...))
	if len(filtered) < 25 {
		t.Fatalf("the attacker made %d calls only", len(filtered))
	}
	for call, got := range filtered {
		attack(t, call, func(t *testing.T) {
			want := "EPERM"
			if call == "clone3" {
				want = "ENOSYS"
			}
			if got != want {
				t.Errorf("the call says %s, want %s", got, want)
			}
		})
	}
	// Others the kernel refuses as well, without the rights that the container lacks.
	byFilter := 0
	for call, got := range open {
		if got != "EPERM" && got != filtered[call] {
			byFilter++
		}
	}
	for call, want := range map[string]string{
		"clone3": "EINVAL", "keyctl": "done", "unshare a user namespace": "EINVAL", "setns": "EBADF", "add_key": "EFAULT", "mount": "EFAULT",
	} {
		if got := open[call]; got != want {
			t.Errorf("control: without a filter %s says %s, want %s", call, got, want)
		}
	}
	if byFilter < 10 {
		t.Errorf("control: only %d calls say something else without the filter: %v", byFilter, open)
	}
}

// TestDevices makes device nodes and opens them: with Docker's rights in a user namespace, where the kernel makes none,
// and in the host's, where the group of devices has its word.
func TestDevices(t *testing.T) {
	begin(t)
	inside := lines(t, porthole(t, run("--rm", "busybox", "/attack/attack", "devices")...))
	for what, got := range inside {
		attack(t, "user namespace/"+what, func(t *testing.T) {
			if got != "EPERM" {
				t.Errorf("it says %s, want EPERM", got)
			}
		})
	}
	host := lines(t, porthole(t, run("--rm", "--userns", "host", "busybox", "/attack/attack", "devices")...))
	for what, got := range host {
		// Docker lets each device be made, and these be opened.
		_, made, _ := strings.Cut(what, "made-")
		if strings.HasPrefix(what, "make ") || slices.Contains([]string{"zero", "tun", "console"}, made) {
			if got != "done" {
				t.Errorf("control: %s says %s", what, got)
			}
			continue
		}
		attack(t, "host's user namespace/"+what, func(t *testing.T) {
			if got != "EPERM" {
				t.Errorf("it says %s, want EPERM", got)
			}
		})
	}
}

// TestKeys: what one container puts into the kernel's keyrings another neither finds nor reads, without a filter as well.
func TestKeys(t *testing.T) {
	begin(t)
	start(t, "keeper", "--security-opt", "seccomp=unconfined", "busybox", "sleep", "1000")
	start(t, "thief", "--security-opt", "seccomp=unconfined", "busybox", "sleep", "1000")
	numbers := strings.Fields(porthole(t, "exec", "keeper", "/attack/attack", "key", "add", "hostile", "secret"))
	if len(numbers) != 2 {
		t.Fatalf("the keeper's keys: %q", numbers)
	}
	get := func(name string) string {
		return porthole(t, append([]string{"exec", name, "/attack/attack", "key", "get", "hostile"}, numbers...)...)
	}
	if own := get("keeper"); strings.Count(own, "done") < 2 {
		t.Errorf("control: the keeper itself gets %q", own)
	}
	attack(t, "find and read", func(t *testing.T) {
		got := get("thief")
		for line := range strings.Lines(got) {
			if line = strings.TrimSpace(line); !strings.HasSuffix(line, ": ENOKEY") && !strings.HasSuffix(line, ": EACCES") {
				t.Errorf("another container: %s", line)
			}
		}
	})
}

// TestSessionKeys: in the host's user namespace the keyring of root is the host's own, by design. The one of the session
// is each container's.
func TestSessionKeys(t *testing.T) {
	begin(t)
	open := []string{"--userns", "host", "--security-opt", "seccomp=unconfined", "busybox"}
	start(t, "keeper", append(open, "sleep", "1000")...)
	numbers := strings.Fields(porthole(t, "exec", "keeper", "/attack/attack", "key", "add", "hostile", "secret"))
	if len(numbers) != 2 {
		t.Fatalf("the keeper's keys: %q", numbers)
	}
	defer func() { // root's keyring outlives the containers
		id, err := strconv.Atoi(numbers[1])
		if err == nil {
			_, err = unix.KeyctlInt(unix.KEYCTL_INVALIDATE, id, 0, 0, 0)
		}
		if err != nil {
			t.Errorf("take the key away: %v", err)
		}
	}()
	got := lines(t, porthole(t, append(run("--rm"), append(open, "/attack/attack", "key", "get", "hostile", numbers[0])...)...))
	session, user := got["search "+strconv.Itoa(unix.KEY_SPEC_SESSION_KEYRING)], got["search "+strconv.Itoa(unix.KEY_SPEC_USER_KEYRING)]
	if user != "done" {
		t.Errorf("control: root's own keyring: %s", user)
	}
	attack(t, "find and read", func(t *testing.T) {
		if session != "ENOKEY" || got["read"] != "EACCES" {
			t.Errorf("find: %s, want ENOKEY; read: %s, want EACCES", session, got["read"])
		}
	})
}

// TestNamesOfSockets: abstract names are of a network namespace. The control shares it.
func TestNamesOfSockets(t *testing.T) {
	begin(t)
	start(t, "listener", "busybox", "/attack/attack", "listen", "hostile")
	dial := func(args ...string) string {
		return porthole(t, append(append([]string{"run", "--rm", "-v", attackDir + ":/attack:ro"}, args...), "busybox", "/attack/attack", "dial", "hostile")...)
	}
	if got := dial("--network", "container:listener"); got != "dial: done" {
		t.Errorf("control: in the same network namespace %q", got)
	}
	for _, network := range []string{"none", "bridge", "host"} {
		attack(t, network, func(t *testing.T) {
			if got := dial("--network", network); got != "dial: ECONNREFUSED" {
				t.Errorf("%q, want it refused", got)
			}
		})
	}
	// CVE-2020-15257: containerd's shims listened on abstract names, that containers in the host's network could reach.
	attack(t, "of the engine", func(t *testing.T) {
		out := porthole(t, "run", "--rm", "--network", "host", "busybox", "cat", "/proc/net/unix")
		if !strings.Contains(out, "Path") {
			t.Fatalf("sockets of the host: %q", out)
		}
		for line := range strings.Lines(out) {
			const listens = "00010000" // __SO_ACCEPTCON of net.h
			if f := strings.Fields(line); len(f) == 8 && strings.HasPrefix(f[7], "@") && f[3] == listens {
				t.Errorf("a name that containers reach: %s", line)
			}
		}
	})
}

// TestWriteToTheKernel reaches for the files by which the kernel runs programs of the host, with CAP_SYS_ADMIN and
// without a filter, as CVE-2022-0492 has it. internal/runtime does it with the default rights and with all.
func TestWriteToTheKernel(t *testing.T) {
	begin(t)
	script := `
		mkdir /tmp/m
		for o in memory cpu pids devices freezer rdma misc; do
			mount -t cgroup -o $o cgroup /tmp/m 2>/dev/null || { echo "mount $o: refused"; continue; }
			(echo /x >/tmp/m/release_agent) 2>/dev/null && echo "release_agent of $o: written"
			umount /tmp/m
		done
		mount -t cgroup2 cgroup2 /tmp/m 2>/dev/null && {
			(echo 1 >/tmp/m/cgroup.procs) 2>/dev/null; (echo max >/tmp/m/pids.max) 2>/dev/null && echo "limit: written"
			umount /tmp/m
		}
		mount -t proc proc /tmp/m && echo "proc: mounted"
		for f in sys/kernel/core_pattern sys/kernel/modprobe sys/kernel/hotplug sys/fs/binfmt_misc/register sysrq-trigger sys/vm/overcommit_memory; do
			for p in /proc /tmp/m; do
				[ -e $p/$f ] || continue
				(echo "$(cat $p/$f 2>/dev/null)" >$p/$f) 2>/dev/null && echo "$p/$f: written"
			done
		done
		mount -o remount,rw /sys 2>/dev/null
		for f in /sys/kernel/uevent_helper /sys/kernel/mm/ksm/run /sys/module/kernel/parameters/panic; do
			[ -e $f ] || continue
			(echo "$(cat $f 2>/dev/null)" >$f) 2>/dev/null && echo "$f: written"
		done
		echo "script: ended"`
	attack(t, "with CAP_SYS_ADMIN", func(t *testing.T) {
		out := porthole(t, run("--rm", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "busybox", "sh", "-c", script)...)
		var did []string
		for line := range strings.Lines(out) {
			if !strings.HasPrefix(line, "mount ") {
				did = append(did, strings.TrimSpace(line))
			}
		}
		// A /proc of its own is the user namespace's to mount; nothing in it can be written to.
		if diff := cmp.Diff([]string{"proc: mounted", "script: ended"}, did); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	// The script does find these files and writes to them where it may: in a container that was given the host.
	if out := porthole(t, run("--rm", "--privileged", "busybox", "sh", "-c", script)...); !strings.Contains(out, "core_pattern: written") || !strings.Contains(out, "proc: mounted") {
		t.Errorf("control: with all rights of the host %q", out)
	}
}

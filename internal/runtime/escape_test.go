package runtime

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The tests in this file try to get out, each in one known way.

// allRights gives a bundle every capability of its user namespace.
func allRights(t testing.TB) func(*specs.Process) {
	t.Helper()
	all := allCapabilities(t)
	return func(p *specs.Process) {
		p.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	}
}

func digest(t *testing.T, name string) [32]byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// TestRuntimeBinaryCannotBeOverwritten is CVE-2019-5736: a container has the
// runtime execute itself inside and opens /proc/PID/exe for writing.
func TestRuntimeBinaryCannotBeOverwritten(t *testing.T) {
	before := digest(t, shimPath)
	userNamespaces(t, func(w *world, change func(*Bundle)) {
		b := w.bundle("sleep", "1000")
		change(&b)
		allRights(w.t)(b.Spec.Process)
		c := w.start(b)
		memfd := fmt.Sprintf("/proc/self/fd/%d", w.r.shim.Fd())
		sealed := digest(w.t.(*testing.T), memfd)

		// The stage is asked to execute itself, as "porthole-shim serve": it
		// stays alive, a process of the container with our binary.
		p := execProcess("/proc/self/exe", "init", "sleep", "1000")
		allRights(w.t)(p)
		x, err := c.Exec(w.context(), ExecOptions{ID: "self", Process: p})
		w.must(err)
		if err := x.Start(w.context()); err != nil {
			return // refused: as good
		}
		victim := w.innerPid(x.Pid())
		attack := execProcess("sh", "-c", fmt.Sprintf("exec 2>&1; (echo overwritten >/proc/%[1]s/exe) && echo WROTE; (echo x >>/proc/%[1]s/exe) && echo WROTE; dd if=/dev/zero of=/proc/%[1]s/exe conv=notrunc bs=1 count=1 && echo WROTE; true", victim))
		allRights(w.t)(attack)
		out, _ := w.execWith(c, ExecOptions{Process: attack})
		if strings.Contains(out, "WROTE") || out == "" {
			w.t.Errorf("attempts to write the binary: %s", out)
		}
		if digest(w.t.(*testing.T), memfd) != sealed {
			w.t.Error("the sealed binary has changed")
		}
	})
	if digest(t, shimPath) != before {
		t.Error("the binary on disk has changed")
	}
}

// innerPid is a process's pid in its own pid namespace.
func (w *world) innerPid(pid int) string {
	w.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	w.must(err)
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(rest)
			return f[len(f)-1]
		}
	}
	w.t.Fatal("no NSpid")
	return ""
}

// TestStageCannotBeLookedInto is CVE-2016-9962 and its kin: while a process is
// on its way into a hostile container, that container tries to trace it, to read
// its memory and to reach what it has open.
func TestStageCannotBeLookedInto(t *testing.T) {
	userNamespaces(t, func(w *world, change func(*Bundle)) {
		b := w.bundle("sleep", "1000")
		change(&b)
		c := w.start(b)
		waiting, err := c.Exec(w.context(), ExecOptions{ID: "waiting", Process: execProcess("true")})
		w.must(err)
		w.lookInto(c, func(*Process) int { return waiting.Pid() })
		w.must(waiting.Start(w.context()))
		w.wait(waiting.Done())
		w.lookInto(c, func(attack *Process) int { return w.expectedStage(c, attack.Pid()) })
	})
}

// expectedStage is the stage that waits for an exec. The shim, which would end it
// after a second, is stopped then. Others are processes of the container beside it
// and the first.
func (w *world) expectedStage(c *Container, others ...int) (stage int) {
	w.t.Helper()
	w.eventually("a stage waits for an exec", func() bool {
		w.must(c.ExpectExec(w.context()))
		w.stopShim(c)
		pids, err := c.Cgroup().Pids()
		w.must(err)
		pids = slices.DeleteFunc(pids, func(pid int) bool { return pid == c.Pid() || slices.Contains(others, pid) })
		switch len(pids) {
		case 0: // a second has passed
			w.continueShim(c)
			return false
		case 1:
			stage = pids[0]
			return true
		}
		w.t.Fatalf("processes %v in the container beside the first, want the stage alone", pids)
		return false
	})
	return stage
}

// lookInto has the container try to look into one of its processes, which is a
// stage: find names it when the process that will try is ready.
func (w *world) lookInto(c *Container, find func(attack *Process) int) {
	w.t.Helper()
	script := execProcess("sh", "-c", `
			read pid
			cd /proc/$pid || exit 9
			for f in environ maps mem; do head -c1 $f >/dev/null 2>&1 && echo "read $f"; done
			for l in exe cwd root ns/mnt ns/user; do readlink $l && echo "read link $l"; done
			for n in 0 1 2 3 4 5 6 7 8 9; do readlink fd/$n && echo "read link fd/$n"; head -c1 fdinfo/$n >/dev/null 2>&1 && echo "read fdinfo/$n"; (: <fd/$n) 2>/dev/null && echo "opened fd/$n"; done
			ls root/ cwd/ 2>/dev/null
			(echo x >mem) 2>/dev/null && echo "wrote mem"
			[ -e ../$pid ] && echo tried`)
	// In a user namespace of its own even all rights there are not
	// enough. In the host's, all rights are the host's.
	if c.IDs().Size > 0 {
		allRights(w.t)(script)
	}
	in, tell, err := os.Pipe()
	w.must(err)
	defer tell.Close()
	out, outEnd, err := os.Pipe()
	w.must(err)
	defer out.Close()
	// As a tool it does not take the stage that waits for an exec.
	attack, err := c.Exec(w.context(), ExecOptions{ID: "x" + randomName(), Process: script, Tool: true, Stdin: in, Stdout: outEnd, Stderr: outEnd})
	in.Close()
	outEnd.Close()
	w.must(err)
	w.must(attack.Start(w.context()))
	_, err = io.WriteString(tell, w.innerPid(find(attack))+"\n")
	w.must(err)
	got, err := io.ReadAll(out)
	w.must(err)
	w.continueShim(c) // find may have stopped it
	w.wait(attack.Done())
	if diff := cmp.Diff("tried\n", string(got)); diff != "" {
		w.t.Errorf("what the container got (-want +got):\n%s", diff)
	}
}

// TestLeakedDirectory is CVE-2024-21626: a working directory below
// /proc/self/fd leads to a directory of the host that the runtime has open.
func TestLeakedDirectory(t *testing.T) {
	w := newWorld(t)
	c := w.start(w.bundle("sleep", "1000"))
	marker := "marker-" + randomName()
	w.must(os.WriteFile(filepath.Join(w.image, marker), nil, 0o644))
	escaped := func(out string) bool {
		// Wherever it starts, the way up must end at the container's root.
		return out != "" && !strings.Contains(out, marker)
	}
	script := "cd -P . 2>/dev/null; ls ../../../../../../../../"
	waiting, err := c.Exec(w.context(), ExecOptions{ID: "waiting", Process: execProcess("true")})
	w.must(err)
	descriptors := w.descriptors(waiting.Pid())
	w.must(waiting.Start(w.context()))
	w.wait(waiting.Done())
	worked := 0
	for _, fd := range descriptors {
		for _, cwd := range []string{fmt.Sprintf("/proc/self/fd/%d", fd), fmt.Sprintf("/proc/self/fd/%d/../../..", fd), fmt.Sprintf("/proc/1/fd/%d", fd)} {
			p := execProcess("sh", "-c", script)
			p.Cwd = cwd
			if out, err := w.tryExec(c, p); err == nil {
				worked++
				if escaped(out) {
					t.Errorf("with working directory %s: %s", cwd, out)
				}
			}
		}
	}
	t.Logf("%d of these directories could be entered, by %v", worked, descriptors)
	descriptors = w.descriptors(w.create(w.bundle("true")).Pid())
	t.Logf("a first process has %v", descriptors)
	for _, fd := range descriptors {
		b := w.bundle("sh", "-c", script)
		b.Spec.Process.Cwd = fmt.Sprintf("/proc/self/fd/%d", fd)
		cc, err := w.r.Create(w.context(), b)
		if err != nil {
			continue
		}
		conn, err := cc.Attach(w.context(), AttachOptions{Stdout: true})
		w.must(err)
		if err := cc.Start(w.context()); err == nil {
			if out := w.read(conn, false); escaped(out) {
				t.Errorf("first process with working directory %s: %s", b.Spec.Process.Cwd, out)
			}
		}
		conn.Close()
		w.delete(cc)
	}
}

// descriptors are those that a process which waits for its start has open, and the
// lowest that are free, which it takes for what it opens yet.
func (w *world) descriptors(pid int) []int {
	w.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	w.must(err)
	var list []int
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		w.must(err)
		list = append(list, fd)
	}
	if len(list) == 0 {
		w.t.Fatalf("process %d has nothing open", pid)
	}
	for fd, free := 0, 6; free > 0; fd++ {
		if !slices.Contains(list, fd) {
			list = append(list, fd)
			free--
		}
	}
	return list
}

// tryExec is execWith for a process that may not start.
func (w *world) tryExec(c *Container, p *specs.Process) (string, error) {
	r, wr, err := os.Pipe()
	w.must(err)
	defer r.Close()
	x, err := c.Exec(w.context(), ExecOptions{ID: "x" + randomName(), Process: p, Stdout: wr})
	wr.Close()
	if err == nil {
		err = x.Start(w.context())
	}
	if err != nil {
		return "", err
	}
	out, err := io.ReadAll(r)
	w.must(err)
	w.wait(x.Done())
	return string(out), nil
}

// TestMountTargetRace is CVE-2019-16884, CVE-2021-30465 and others: while a
// container starts, another one that shares a volume with it keeps exchanging the
// target of a mount for a link to somewhere else.
func TestMountTargetRace(t *testing.T) {
	w := newWorld(t)
	volume := filepath.Join(w.dir, "volume")
	outside := filepath.Join(w.dir, "outside")
	source := filepath.Join(w.dir, "source")
	for _, d := range []string{filepath.Join(volume, "target"), outside, source} {
		w.must(os.MkdirAll(d, 0o755))
	}
	w.must(os.WriteFile(filepath.Join(source, "in-source"), nil, 0o644))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	for i, link := range []string{outside, strings.Repeat("../", 30) + outside, "/proc", "/sys/firmware"} {
		name := filepath.Join(volume, fmt.Sprintf("link%d", i))
		w.must(os.Symlink(link, name))
		wg.Go(func() {
			tick := time.NewTicker(50 * time.Microsecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					unix.Renameat2(unix.AT_FDCWD, filepath.Join(volume, "target"), unix.AT_FDCWD, name, unix.RENAME_EXCHANGE)
				}
			}
		})
	}
	rounds := orSlow(40, 12)
	started := 0
	for range rounds {
		b := w.shell("ls /vol/target/new 2>/dev/null; cat /proc/keys /proc/timer_list | wc -c; test -e /proc/self/status && echo proc")
		b.Spec.Mounts = append(b.Spec.Mounts,
			specs.Mount{Destination: "/vol", Type: "bind", Source: volume, Options: []string{"rbind"}},
			specs.Mount{Destination: "/vol/target/new", Type: "bind", Source: source, Options: []string{"rbind"}},
			specs.Mount{Destination: "/vol/target", Type: "tmpfs", Source: "tmpfs"},
		)
		c, err := w.r.Create(w.context(), b)
		if err != nil {
			continue // the link was in the way
		}
		conn, err := c.Attach(w.context(), AttachOptions{Stdout: true})
		w.must(err)
		if err := c.Start(w.context()); err == nil {
			started++
			if out := w.read(conn, false); !strings.HasSuffix(out, "0\nproc\n") {
				t.Errorf("masks or /proc are not what they should be: %q", out)
			}
		}
		conn.Close()
		w.delete(c)
	}
	t.Logf("%d of %d containers started", started, rounds)
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("the host got %v", left)
	}
}

// TestLinkInVolumePart is CVE-2017-1002101, which Kubernetes had with subPath: a
// container leaves a link in a volume of which another mounts a part.
func TestLinkInVolumePart(t *testing.T) {
	userNamespaces(t, func(w *world, change func(*Bundle)) {
		volume := filepath.Join(w.dir, "volumes", randomName())
		w.must(os.MkdirAll(filepath.Join(volume, "good"), 0o777))
		w.must(os.WriteFile(filepath.Join(volume, "good", "file"), []byte("of the volume"), 0o644))
		secret := filepath.Join(w.dir, "secret")
		w.must(os.WriteFile(secret, []byte("of the host"), 0o644))
		mounted := func(b Bundle, part string) Bundle {
			change(&b)
			b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{Destination: "/v", Type: "bind", Source: volume, Options: []string{"rbind"}})
			if part != "" {
				b.Parts = map[string]string{"/v": part}
			}
			return b
		}
		w.run(mounted(w.shell("ln -s "+w.dir+" /v/absolute; ln -s ../.. /v/relative; ln -s "+secret+" /v/file; ln -s good /v/inside"), ""))
		for _, part := range []string{"absolute", "relative", "relative/secret", "file", "absolute/layers"} {
			c, err := w.r.Create(w.context(), mounted(w.shell("cat /v /v/secret"), part))
			if err == nil {
				w.delete(c)
			}
			if want := "path concatenation escapes the base directory, base: " + volume + ", subpath: " + part; err == nil || !strings.HasSuffix(err.Error(), ": "+want) {
				w.t.Errorf("part %q: error is %v, want %q", part, err, want)
			}
		}
		if out, _ := w.run(mounted(w.shell("cat /v/file"), "inside")); out != "of the volume" {
			w.t.Errorf("part that a link in the volume leads to: %q", out)
		}
	})
}

// TestFalseProc is CVE-2019-19921 and CVE-2023-27561: /proc of the image, or a
// volume at it, is something else.
func TestFalseProc(t *testing.T) {
	w := newWorld(t)
	w.must(os.Remove(filepath.Join(w.image, "proc")))
	w.must(os.Symlink("tmp", filepath.Join(w.image, "proc")))
	w.wantStartError(w.bundle("true"), `error mounting "proc" to rootfs at "/proc": filesystem "proc" must be mounted on ordinary directory`, 0)
	w.must(os.Remove(filepath.Join(w.image, "proc")))
	w.must(os.Mkdir(filepath.Join(w.image, "proc"), 0o755))
	w.must(os.Symlink("/proc", filepath.Join(w.image, "link")))
	for _, target := range []string{"/link/sys", "/link/self/attr", "/proc/../proc/fs"} {
		b := w.bundle("true")
		b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{Destination: target, Type: "bind", Source: w.dir, Options: []string{"rbind"}})
		c, err := w.r.Create(w.context(), b)
		if err == nil {
			err = c.Start(w.context())
			w.delete(c)
		}
		var se *StartError
		if !errors.As(err, &se) || !strings.HasSuffix(se.Message, "cannot be mounted because it is inside /proc") {
			t.Errorf("mount at %s: %v, want a refusal", target, err)
		}
	}
}

// TestWritesToTheKernel tries the files through which a container could have
// the host's kernel do something for it.
func TestWritesToTheKernel(t *testing.T) {
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		t.Fatal(err)
	}
	userNamespaces(t, func(w *world, change func(*Bundle)) {
		b := w.shell(`
			for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger /proc/sys/fs/binfmt_misc/register \
				/sys/kernel/uevent_helper /proc/sys/vm/panic_on_oom /sys/fs/cgroup/release_agent /sys/fs/cgroup/*/release_agent \
				/sys/fs/cgroup/*/cgroup.procs /proc/irq/default_smp_affinity /proc/1/oom_adj_x; do
				(echo "$(cat $f 2>/dev/null || echo 0)" >$f) 2>/dev/null && echo "wrote $f"
			done
			mount -t proc proc /tmp 2>/dev/null && echo "mounted proc"
			mount -t cgroup -o memory cgroup /tmp 2>/dev/null && echo "mounted cgroup"
			mount -t tmpfs tmpfs /tmp 2>/dev/null && echo "mounted tmpfs"
			mount -o remount,rw,bind /proc/sys 2>/dev/null && echo "remounted /proc/sys"
			umount /proc/timer_list 2>/dev/null && echo "unmasked"
			chroot /proc/1/root true 2>/dev/null
			echo done`)
		change(&b)
		out, _ := w.run(b)
		if diff := cmp.Diff("done\n", out); diff != "" {
			w.t.Errorf("(-want +got):\n%s", diff)
		}
	})
	if now, _ := os.ReadFile("/proc/sys/kernel/core_pattern"); string(now) != string(pattern) {
		t.Error("core_pattern has changed")
	}
}

// TestAllRightsInAUserNamespace gives a container everything that its user
// namespace has to give, and looks whether that is something on the host.
func TestAllRightsInAUserNamespace(t *testing.T) {
	w := newWorld(t)
	b := w.shell(`
		mknod /tmp/disk b 254 0 2>/dev/null && echo "made a device"
		(echo x >/proc/sys/kernel/core_pattern) 2>/dev/null && echo "wrote core_pattern"
		mount -o remount,rw,bind /proc/sys 2>/dev/null
		(echo x >/proc/sys/kernel/core_pattern) 2>/dev/null && echo "wrote core_pattern after remount"
		mkdir /tmp/cg
		for o in memory cpu cpuset pids devices freezer blkio net_cls perf_event rdma misc hugetlb none,name=x; do
			mount -t cgroup -o $o cgroup /tmp/cg 2>/dev/null || continue
			test -e /tmp/cg/release_agent && echo "release_agent of $o is there"
			(echo /x >/tmp/cg/release_agent) 2>/dev/null && echo "wrote release_agent of $o"
			umount /tmp/cg
		done
		unshare -m true && echo "own mounts"
		echo done`)
	allRights(t)(b.Spec.Process)
	out, _ := w.run(b)
	if diff := cmp.Diff("own mounts\ndone\n", out); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestExecIntoHostileContainer enters a container whose root has arranged all
// that a process on its way in may look at.
func TestExecIntoHostileContainer(t *testing.T) {
	w := newWorld(t)
	b := w.shell(`
		rm /etc/passwd; mknod /etc/passwd p
		rm /etc/group; ln -s /dev/zero /etc/group
		umount /dev/pts; : >/dev/pts/ptmx
		ln -s /proc/self/exe /bin/self
		ln -s /proc/1/root/../../../etc /bin/out
		echo ready; sleep 1000`)
	allRights(t)(b.Spec.Process)
	c := w.create(b)
	conn, err := c.Attach(w.context(), AttachOptions{Stdout: true})
	w.must(err)
	defer conn.Close()
	w.must(c.Start(w.context()))
	buf := make([]byte, 64)
	_, err = conn.Read(buf)
	w.must(err)

	t.Run("accounts that never end", func(t *testing.T) {
		w := w.with(t)
		p := execProcess("grep", "Uid:", "/proc/self/status")
		p.User.Username = "1000"
		begin := time.Now()
		if out, _ := w.execWith(c, ExecOptions{Process: p}); out != "Uid:\t1000\t1000\t1000\t1000\n" {
			t.Errorf("status = %q", out)
		}
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
	})
	t.Run("terminal that is none", func(t *testing.T) {
		w := w.with(t)
		p := execProcess("true")
		p.Terminal = true
		_, err := c.Exec(w.context(), ExecOptions{ID: "tty", Process: p})
		if err == nil || !strings.Contains(err.Error(), "not in a devpts") {
			t.Errorf("Exec() = %v, want a refusal", err)
		}
	})
	t.Run("program that is our own", func(t *testing.T) {
		w := w.with(t)
		x, err := c.Exec(w.context(), ExecOptions{ID: "self", Process: execProcess("self", "version")})
		w.must(err)
		if err := x.Start(w.context()); err == nil {
			w.wait(x.Done())
		}
	})
	if err := syscall.Kill(c.Pid(), 0); err != nil {
		t.Errorf("the container is gone: %v", err)
	}
	if out, _ := w.execRun(c, "echo", "still"); out != "still\n" {
		t.Errorf("exec afterwards: %q", out)
	}
}

package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/runtime/plan"
)

// TestView runs small scripts that look at one aspect each, in both kinds of
// user namespace.
func TestView(t *testing.T) {
	add := func(m ...specs.Mount) func(*Bundle) {
		return func(b *Bundle) { b.Spec.Mounts = append(b.Spec.Mounts, m...) }
	}
	process := func(f func(*specs.Process)) func(*Bundle) {
		return func(b *Bundle) { f(b.Spec.Process) }
	}
	mode := os.FileMode(0o640)
	uid := uint32(7)
	umask := uint32(0o077)
	score := 321
	tests := []struct {
		name   string
		script string
		change func(*Bundle)
		want   string
	}{
		{"pid namespace", `echo $$; for p in /proc/[0-9]*; do echo $p; done`, nil, "1\n/proc/1\n"},
		{"only lo, and it is up", `ip -o link | cut -d: -f2; ip -o addr show lo | grep -o '127.0.0.1/8'`, nil, " lo\n127.0.0.1/8\n"},
		{
			"devices", `cd /dev; ls; head -c 3 /dev/zero | wc -c; echo x >null; head -c 2 urandom | wc -c; readlink fd; readlink ptmx; echo x >full; stat -c '%a %u:%g' null`, nil,
			"core\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n3\n2\n/proc/self/fd\npts/ptmx\nsh: write error: No space left on device\n666 0:0\n",
		},
		{"device of its own", `stat -c '%a %u:%g %t:%T' /dev/deep/mine /dev/fuse2`, func(b *Bundle) {
			b.Spec.Linux.Devices = []specs.LinuxDevice{
				{Path: "/dev/deep/mine", Type: "c", Major: 1, Minor: 5, FileMode: &mode, UID: &uid},
				{Path: "/dev/fuse2", Type: "b", Major: 7, Minor: 3},
			}
		}, "640 7:0 1:5\n666 0:0 7:3\n"},
		{"masked", `cat /proc/keys /proc/timer_list | wc -c; ls -A /sys/firmware | wc -l; touch /sys/firmware/y 2>&1`, nil, "0\n0\ntouch: /sys/firmware/y: Read-only file system\n"},
		{
			"read-only paths", `echo 1 >/proc/sys/kernel/domainname; touch /sys/x`, nil,
			"sh: can't create /proc/sys/kernel/domainname: Read-only file system\ntouch: /sys/x: Read-only file system\n",
		},
		{
			"cgroups of its own", `cat /proc/self/cgroup | cut -d: -f3 | sort -u; find /sys/fs/cgroup -name cgroup.procs | head -1 | grep -c cgroup.procs; echo 1 >/sys/fs/cgroup/x`, nil,
			"/\n1\nsh: can't create /sys/fs/cgroup/x: Read-only file system\n",
		},
		{
			// Whichever way it was mounted, a hierarchy begins at the container's group and belongs to the host.
			"cgroup mounts", `set -- $(grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d' ' -f4,6 | sort -u); echo $#: $1 $2
				for d in $(grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d' ' -f5); do grep -qx 1 $d/cgroup.procs || echo $d; touch $d/x 2>/dev/null; mkdir $d/y 2>/dev/null && echo $d; done`, nil,
			"2: / ro,nosuid,nodev,noexec,relatime\n",
		},
		{"read-only root", `echo x >/x; echo y >/dev/shm/y && cat /dev/shm/y; test -d /made/later && pwd`, func(b *Bundle) {
			b.Spec.Root.Readonly = true
			b.Spec.Process.Cwd = "/made/later"
		}, "sh: can't create /x: Read-only file system\ny\n/made/later\n"},
		{"names", `hostname; cat /proc/sys/kernel/domainname`, func(b *Bundle) {
			b.Spec.Hostname, b.Spec.Domainname = "name", "dom.example"
		}, "name\ndom.example\n"},
		{"sysctl", `cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ip_forward`, func(b *Bundle) {
			b.Spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ip_forward": "1"}
		}, "0\n1\n"},
		{"limits", `ulimit -n; ulimit -Hn; ulimit -c`, process(func(p *specs.Process) {
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
		}), "100\n200\n0\n"},
		{"umask", `umask`, process(func(p *specs.Process) { p.User.Umask = &umask }), "0077\n"},
		{"default umask", `umask`, nil, "0022\n"},
		{"OOM score", `cat /proc/self/oom_score_adj`, process(func(p *specs.Process) { p.OOMScoreAdj = &score }), "321\n"},
		{"default user", `id; echo $HOME`, nil, "uid=0(root) gid=0(root) groups=0(root),10(wheel)\n/root\n"},
		{
			"user by name", `id; echo $HOME; pwd`, process(func(p *specs.Process) { p.User.Username = "app"; p.Cwd = "/home" }),
			"uid=1000(app) gid=1000(app) groups=10(wheel),29(audio),1000(app)\n/home/app\n/home\n",
		},
		{"user and group by name", `id`, process(func(p *specs.Process) { p.User.Username = "app:audio" }), "uid=1000(app) gid=29(audio) groups=29(audio)\n"},
		{"user by number", `id; echo $HOME`, process(func(p *specs.Process) { p.User.Username = "1000" }), "uid=1000(app) gid=1000(app) groups=10(wheel),29(audio),1000(app)\n/home/app\n"},
		{"numbers of the document", `id -G`, process(func(p *specs.Process) { p.User = specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{7, 8}} }), "6 7 8\n"},
		{"additional groups", `id -G`, func(b *Bundle) { b.GroupAdd = []string{"audio", "777"} }, "0 10 29 777\n"},
		{"HOME stays", `echo $HOME`, process(func(p *specs.Process) { p.Env = append(p.Env, "HOME=/else") }), "/else\n"},
		{"standard output can be opened again", `echo a >/dev/stdout; echo b >/dev/stdout; test -w /dev/stderr && cat /dev/stdin`, process(func(p *specs.Process) { p.User.Username = "app" }), "a\nb\n"},
		{
			"capabilities of root", `grep -E 'Cap(Prm|Eff|Bnd|Amb)' /proc/self/status | tr -d '\t'`, nil,
			"CapPrm:00000000a80425fb\nCapEff:00000000a80425fb\nCapBnd:00000000a80425fb\nCapAmb:0000000000000000\n",
		},
		{
			"capabilities of another user", `grep -E 'Cap(Prm|Eff|Bnd|Inh)' /proc/self/status | tr -d '\t'`, process(func(p *specs.Process) { p.User.Username = "app" }),
			"CapInh:0000000000000000\nCapPrm:0000000000000000\nCapEff:0000000000000000\nCapBnd:00000000a80425fb\n",
		},
		{"ambient capabilities", `grep -E 'Cap(Prm|Eff|Inh|Amb)' /proc/self/status | tr -d '\t'`, process(func(p *specs.Process) {
			p.User.Username = "app"
			net := []string{"CAP_NET_RAW"}
			p.Capabilities = &specs.LinuxCapabilities{Bounding: net, Effective: net, Permitted: net, Inheritable: net, Ambient: net}
		}), "CapInh:0000000000002000\nCapPrm:0000000000002000\nCapEff:0000000000002000\nCapAmb:0000000000002000\n"},
		{"no new privileges", `grep NoNewPrivs /proc/self/status | tr -d '\t'`, process(func(p *specs.Process) { p.NoNewPrivileges = true }), "NoNewPrivs:1\n"},
		{
			"seccomp", `grep Seccomp: /proc/self/status | tr -d '\t'; mkdir /q; chown 1 /etc`, seccompDenies("mkdir", "mkdirat"),
			"Seccomp:2\nmkdir: can't create directory '/q': Operation not permitted\n",
		},
		{"seccomp without new privileges", `grep Seccomp: /proc/self/status | tr -d '\t'; mkdir /q`, func(b *Bundle) {
			seccompDenies("mkdir", "mkdirat", "capset", "sendmsg", "setuid")(b)
			b.Spec.Process.NoNewPrivileges = true
			b.Spec.Process.User.Username = "app"
		}, "Seccomp:2\nmkdir: can't create directory '/q': Operation not permitted\n"},
		{"tmpfs", `stat -c %a /t /home /new; grep -o ' /t .*noexec.* - tmpfs' /proc/self/mountinfo | grep -c noexec`, add(
			specs.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs", Options: []string{"noexec", "nosuid", "mode=700", "size=1m"}},
			specs.Mount{Destination: "/home", Type: "tmpfs", Source: "tmpfs"},
			specs.Mount{Destination: "/new", Type: "tmpfs", Source: "tmpfs"},
		), "700\n755\n1777\n1\n"},
		{"no files are left open", `ls /proc/self/fd | wc -l; for f in /proc/$$/fd/*; do readlink $f; done | grep -vE 'pipe|null|/proc'`, nil, "4\n"},
		{"session of its own", `cut -d' ' -f6 /proc/1/stat`, nil, "1\n"},
		{"signals have their default action", `exec grep -E 'Sig(Blk|Ign)' /proc/self/status`, nil, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"},
		{"working directory is made", `pwd; stat -c %u:%a .`, process(func(p *specs.Process) { p.Cwd = "/srv/deep/dir" }), "/srv/deep/dir\n0:755\n"},
		{"nothing of the host is mounted", `grep -vE ' - (overlay|proc|tmpfs|devpts|sysfs|mqueue|cgroup2?) ' /proc/self/mountinfo | grep -v ' /null /proc/'`, nil, ""},
	}
	w := newWorld(t)
	for _, kind := range []struct {
		name   string
		change func(*Bundle)
	}{{"own", func(*Bundle) {}}, {"host", onHost}} {
		for _, tt := range tests {
			t.Run(kind.name+"/"+tt.name, func(t *testing.T) {
				w := w.with(t)
				b := w.shell(tt.script)
				if tt.change != nil {
					tt.change(&b)
				}
				kind.change(&b)
				out, _ := w.run(b)
				if diff := cmp.Diff(tt.want, out); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

func seccompDenies(names ...string) func(*Bundle) {
	return func(b *Bundle) {
		b.Spec.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow,
			Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64},
			Syscalls:      []specs.LinuxSyscall{{Names: names, Action: specs.ActErrno}},
		}
	}
}

func TestBinds(t *testing.T) {
	userNamespaces(t, func(w *world, change func(*Bundle)) {
		src := filepath.Join(w.dir, "src-"+randomName())
		w.must(os.MkdirAll(filepath.Join(src, "sub"), 0o755))
		w.must(os.WriteFile(filepath.Join(src, "file"), []byte("content\n"), 0o644))
		// Of the same filesystem: a tmpfs cannot be ID-mapped before Linux 6.3.
		below := filepath.Join(w.dir, "below-"+randomName())
		w.must(os.Mkdir(below, 0o755))
		w.must(unix.Mount(below, filepath.Join(src, "sub"), "", unix.MS_BIND, ""))
		w.t.Cleanup(func() { unix.Unmount(filepath.Join(src, "sub"), unix.MNT_DETACH) })
		w.must(os.WriteFile(filepath.Join(src, "sub/inner"), []byte("inner\n"), 0o666))
		tests := []struct {
			name    string
			source  string
			options []string
			script  string
			want    string
		}{
			{"recursive", src, []string{"rbind"}, "cat /m/sub/inner; echo w >/m/sub/w && cat /m/sub/w", "inner\nw\n"},
			{"single", src, []string{"bind"}, "ls -A /m/sub; cat /m/file", "content\n"},
			{"read-only, not below", src, []string{"rbind", "ro"}, "echo x >/m/x; echo y >/m/sub/y && echo wrote", "sh: can't create /m/x: Read-only file system\nwrote\n"},
			{"read-only with all below", src, []string{"rbind", "rro"}, "echo x >/m/x; echo y >/m/sub/z", "sh: can't create /m/x: Read-only file system\nsh: can't create /m/sub/z: Read-only file system\n"},
			{"file", filepath.Join(src, "file"), []string{"bind"}, "cat /m; stat -c %F /m", "content\nregular file\n"},
			{"no execution", w.image, []string{"rbind", "noexec"}, "/m/bin/true", "sh: /m/bin/true: Permission denied\n"},
		}
		for _, tt := range tests {
			w.t.(*testing.T).Run(tt.name, func(t *testing.T) {
				w := w.with(t)
				b := w.shell(tt.script)
				change(&b)
				b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: tt.source, Options: tt.options})
				out, _ := w.run(b)
				if diff := cmp.Diff(tt.want, out); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	})
}

// TestPropagation is about mounts that appear on the host while a container runs.
func TestPropagation(t *testing.T) {
	w := newWorld(t)
	src := filepath.Join(w.dir, "shared")
	w.must(os.MkdirAll(filepath.Join(src, "later"), 0o755))
	w.must(unix.Mount(src, src, "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(src, unix.MNT_DETACH) })
	w.must(unix.Mount("", src, "", unix.MS_SHARED, ""))
	for _, tt := range []struct {
		option string
		want   string
	}{{"rslave", "seen\n"}, {"rprivate", ""}} {
		t.Run(tt.option, func(t *testing.T) {
			w := w.with(t)
			b := w.bundle("sleep", "1000")
			b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: src, Options: []string{"rbind", tt.option}})
			c := w.start(b)
			later := filepath.Join(src, "later")
			w.must(unix.Mount("tmpfs", later, "tmpfs", 0, ""))
			defer unix.Unmount(later, unix.MNT_DETACH)
			w.must(os.WriteFile(filepath.Join(later, "seen"), nil, 0o644))
			out, _ := w.execRun(c, "ls", "/m/later")
			if diff := cmp.Diff(tt.want, out); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestJoin(t *testing.T) {
	userNamespaces(t, func(w *world, change func(*Bundle)) {
		b := w.shell("echo in-shm >/dev/shm/file; hostname; sleep 1000")
		change(&b)
		first := w.start(b)
		w.eventually("the first has written", func() bool { out, _ := w.execRun(first, "cat", "/dev/shm/file"); return out == "in-shm\n" })

		b = w.shell("cat /dev/shm/file; ps -o args | grep -c '[s]leep 1000'; for n in net ipc pid; do readlink /proc/self/ns/$n; done; id -u")
		change(&b)
		b.Join = map[specs.LinuxNamespaceType]*Container{specs.NetworkNamespace: first, specs.IPCNamespace: first, specs.PIDNamespace: first}
		kept := b.Spec.Linux.Namespaces[:0]
		for _, n := range b.Spec.Linux.Namespaces {
			if b.Join[n.Type] == nil {
				kept = append(kept, n)
			}
		}
		b.Spec.Linux.Namespaces = kept
		out, _ := w.run(b)
		var want strings.Builder
		want.WriteString("in-shm\n1\n")
		for _, n := range []string{"net", "ipc", "pid"} {
			link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", first.Pid(), n))
			w.must(err)
			want.WriteString(link + "\n")
		}
		if diff := cmp.Diff(want.String()+"0\n", out); diff != "" {
			w.t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestJoinAcrossRanges(t *testing.T) {
	w := newWorld(t)
	first := w.start(w.bundle("sleep", "1000"))
	b := w.bundle("true")
	b.IDs.Host += 65536
	b.Join = map[specs.LinuxNamespaceType]*Container{specs.IPCNamespace: first}
	b.Spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.PIDNamespace}}
	b.Spec.Hostname = ""
	c, err := w.r.Create(w.context(), b)
	if err == nil {
		w.delete(c)
	}
	if err == nil || !strings.Contains(err.Error(), "different id ranges") {
		t.Errorf("Create() = %v, want a refusal", err)
	}
}

// TestHostNamespaces shares all that can be shared with the host.
func TestHostNamespaces(t *testing.T) {
	w := newWorld(t)
	b := w.shell("for n in net ipc uts pid; do readlink /proc/self/ns/$n; done; ls -d /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null | head -1 | grep -c cgroup.procs")
	onHost(&b)
	b.Spec.Hostname = ""
	b.Spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	out, _ := w.run(b)
	var want strings.Builder
	for _, n := range []string{"net", "ipc", "uts", "pid"} {
		link, err := os.Readlink("/proc/self/ns/" + n)
		w.must(err)
		want.WriteString(link + "\n")
	}
	if diff := cmp.Diff(want.String()+"1\n", out); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestHostCgroupNamespace shows a container in a user namespace its own group
// although its paths are the host's: at the root of each hierarchy of v1, at its
// path in the tree of v2, both as Docker has it.
func TestHostCgroupNamespace(t *testing.T) {
	w := newWorld(t)
	b := w.shell(`
		group=$(cut -d: -f3 /proc/self/cgroup | sort -u); echo $group
		if test -e /sys/fs/cgroup/cgroup.procs; then cat /sys/fs/cgroup$group/cgroup.procs; else cat /sys/fs/cgroup/*/cgroup.procs; fi | head -1`)
	b.Spec.Linux.Namespaces = []specs.LinuxNamespace{
		{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.UTSNamespace}, {Type: specs.IPCNamespace},
	}
	out, _ := w.run(b)
	if diff := cmp.Diff(w.parent+"/"+b.ID+"/app\n1\n", out); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPrivileged has everything that a privileged container of Docker has.
func TestPrivileged(t *testing.T) {
	w := newWorld(t)
	b := w.shell("mount -t tmpfs tmpfs /tmp && echo mounted; mknod /dev/x c 1 3 && echo made; test -w /proc/sys/kernel/core_pattern && echo writable")
	onHost(&b)
	all := allCapabilities(t)
	b.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	b.Spec.Linux.MaskedPaths, b.Spec.Linux.ReadonlyPaths = nil, nil
	out, _ := w.run(b)
	if diff := cmp.Diff("mounted\nmade\nwritable\n", out); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRaisedLimit needs a right that this process may lack; then the error says so.
func TestRaisedLimit(t *testing.T) {
	w := newWorld(t)
	var own unix.Rlimit
	w.must(unix.Prlimit(0, unix.RLIMIT_MSGQUEUE, nil, &own))
	b := w.bundle("sh", "-c", "cat /proc/self/limits | grep msgqueue | tr -s ' ' | cut -d' ' -f4,5")
	b.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_MSGQUEUE", Soft: own.Max + 1, Hard: own.Max + 1}}
	if !hasCapability(t, unix.CAP_SYS_RESOURCE) {
		w.wantStartError(b, "error setting rlimit type 12: operation not permitted", syscall.EPERM)
		return
	}
	out, _ := w.run(b)
	if want := fmt.Sprintf("%d %d\n", own.Max+1, own.Max+1); out != want {
		t.Errorf("limits %q, want %q", out, want)
	}
}

// The daemon connects the network after ready. Parameters that interfaces take
// over when they appear are set before.
func TestReadyComesAfterInterfaceParameters(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		sysctl string
		late   bool
	}{
		{"net.ipv4.ip_unprivileged_port_start", false},
		{"net.core.somaxconn", false},
		{"net.ipv4.conf.default.forwarding", true},
		{"net/ipv6/conf/all/disable_ipv6", true},
		{"net.ipv4.neigh.default.gc_stale_time", true},
	} {
		b := w.bundle("true")
		b.Spec.Linux.Sysctl = map[string]string{tt.sysctl: "1"}
		cr := w.r.newCreation(t.Context(), &b)
		w.must(cr.compile())
		at := func(op plan.Op) int {
			return slices.IndexFunc(cr.c.plan.Steps, func(s plan.Step) bool { return s.Op == op })
		}
		ready, sysctl := at(plan.OpBarrier), at(plan.OpSysctl)
		if ready < 0 || sysctl < 0 || (ready > sysctl) != tt.late {
			t.Errorf("%s: step %d is ready, %d is the sysctl; ready after it: want %v", tt.sysctl, ready, sysctl, tt.late)
		}
		if last := at(plan.OpExec); ready > last {
			t.Errorf("%s: ready after exec", tt.sysctl)
		}
	}
}

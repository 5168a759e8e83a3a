package spec

import (
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/seccomp"
)

var update = flag.Bool("update", false, "write the documents in testdata anew; look at the difference before you commit it")

//go:fix inline
func ptr[T any](v T) *T { return new(v) }

// machine is a host with two processors and cgroup v1, on which everything can be
// had.
func machine() Host {
	return Host{
		Arch: "amd64", Kernel: seccomp.KernelVersion{Kernel: 6, Major: 1}, NCPU: 2,
		Cgroup: cgroup.Support{
			Mode: cgroup.Hybrid, Memory: true, Swap: true, MemoryReservation: true, OOMKillDisable: true, Swappiness: true,
			CPUShares: true, CPUQuota: true, Cpuset: true, CPUs: "0-1", Mems: "0", Pids: true,
			IOWeight: true, IOWeightDevice: true, IOReadBps: true, IOWriteBps: true, IOReadIOPS: true, IOWriteIOPS: true, Devices: true,
		},
		LastCap: 40, Bounding: caps.UpTo(40), Seccomp: true, CgroupNamespaces: true, IPv4Forwarding: true,
		Sysctls: map[string]bool{"net.ipv4.ping_group_range": true, "net.ipv4.ip_unprivileged_port_start": true},
		Lookup:  lookup{},
	}
}

// lookup is a host with a disk, a directory of sound devices and a shared mount.
type lookup struct{}

func (lookup) Devices(path string) ([]specs.LinuxDevice, error) {
	dev := func(suffix, kind string, major, minor int64) specs.LinuxDevice {
		return specs.LinuxDevice{Path: suffix, Type: kind, Major: major, Minor: minor, FileMode: ptr(os.FileMode(0o660)), UID: new(uint32(0)), GID: new(uint32(6))}
	}
	switch path {
	case "/dev/vda":
		return []specs.LinuxDevice{dev("", "b", 254, 0)}, nil
	case "/dev/fuse":
		return []specs.LinuxDevice{dev("", "c", 10, 229)}, nil
	case "/dev/snd":
		return []specs.LinuxDevice{dev("/timer", "c", 116, 33), dev("/by-path/pci", "c", 116, 2)}, nil
	}
	return nil, &fs.PathError{Op: "lstat", Path: path, Err: fs.ErrNotExist}
}

func (l lookup) AllDevices() ([]specs.LinuxDevice, error) {
	list, err := l.Devices("/dev/vda")
	list[0].Path = "/dev/vda"
	return list, err
}

func (lookup) Propagation(path string) (string, bool, bool, error) {
	switch path {
	case "/shared":
		return "/shared", true, false, nil
	case "/slave":
		return "/slave", false, true, nil
	}
	return "/", false, false, nil
}

// plain is the least that a container consists of; change makes it special.
func plain(change func(*Input)) Input {
	in := Input{
		ID:           strings.Repeat("4f", 32),
		Config:       &container.Config{Hostname: "4f4f4f4f4f4f", Env: []string{"PATH=/bin:/usr/bin", "LANG=C"}, Entrypoint: []string{"/init"}, Cmd: []string{"serve"}},
		HostConfig:   &container.HostConfig{NetworkMode: "bridge"},
		Files:        Files{Hosts: "/state/hosts", Hostname: "/state/hostname", ResolvConf: "/state/resolv.conf"},
		IDs:          IDRange{Host: 300000, Size: 65536},
		CgroupParent: "/porthole",
		Host:         machine(),
	}
	if change != nil {
		change(&in)
	}
	SetDefaults(in.Host, in.HostConfig)
	return in
}

var documents = map[string]func(*Input){
	"plain": nil,
	"terminal": func(in *Input) {
		in.Config.Tty, in.HostConfig.ConsoleSize = true, [2]uint{24, 80}
		in.Config.Env = []string{"TERM=vt100", "HOSTNAME"}
		in.Config.WorkingDir, in.Config.User = "/srv", "app:users"
		in.HostConfig.Umask = new(uint32(0o27))
	},
	"privileged": func(in *Input) {
		in.IDs = IDRange{}
		in.HostConfig.Privileged = true
		in.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/dev/fuse", PathInContainer: "/dev/f", CgroupPermissions: "r"}}
	},
	"host namespaces": func(in *Input) {
		in.IDs = IDRange{}
		in.HostConfig.NetworkMode, in.HostConfig.PidMode, in.HostConfig.IpcMode, in.HostConfig.UTSMode = "host", "host", "host", "host"
		in.HostConfig.CgroupnsMode = "host"
	},
	"another container's namespaces": func(in *Input) {
		in.HostConfig.NetworkMode, in.HostConfig.PidMode, in.HostConfig.IpcMode = "container:a", "container:a", "container:a"
		in.Files.Hostname = ""
	},
	"limits": func(in *Input) {
		in.HostConfig.Resources = container.Resources{
			Memory: 64 << 20, MemoryReservation: 32 << 20, MemorySwappiness: new(int64(10)), NanoCPUs: 1_500_000_000,
			CPUShares: 512, CpusetCpus: "0", CpusetMems: "0", PidsLimit: new(int64(0)), BlkioWeight: 300,
			BlkioWeightDevice:  []*blkiodev.WeightDevice{{Path: "/dev/vda", Weight: 400}},
			BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{Path: "/dev/vda", Rate: 1 << 20}},
			Ulimits:            []*container.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}},
		}
		in.Host.Ulimits = map[string]*container.Ulimit{"nofile": {Name: "nofile", Soft: 1, Hard: 1}, "core": {Name: "core", Soft: 0, Hard: -1}}
		in.HostConfig.OomScoreAdj = 500
		in.HostConfig.CgroupParent = "/slice/../tenant"
	},
	"devices": func(in *Input) {
		in.HostConfig.Devices = []container.DeviceMapping{
			{PathOnHost: "/dev/fuse", PathInContainer: "/dev/fuse", CgroupPermissions: "rwm"},
			{PathOnHost: "/dev/snd", PathInContainer: "/dev/sound", CgroupPermissions: "rw"},
		}
		in.HostConfig.DeviceCgroupRules = []string{"c 42:* rmw"}
	},
	"mounts": func(in *Input) {
		in.Mounts = []Mount{
			{Type: mount.TypeBind, Source: "/shared", Destination: "/a/b", RW: true, Propagation: mount.PropagationRShared},
			{Type: mount.TypeVolume, Source: "/vol/_data", Destination: "/a/"},
			{Type: mount.TypeBind, Source: "/x", Destination: "/x", NonRecursive: true, ReadOnlyNonRecursive: true},
			{Type: mount.TypeTmpfs, Destination: "/run", RW: true, Options: []string{"size=1m", "exec", "mode=700", "size=2m", "defaults"}},
			{Type: mount.TypeBind, Source: "/my/hosts", Destination: "/etc/hosts", RW: true},
		}
		in.HostConfig.ReadonlyRootfs, in.HostConfig.ShmSize = true, 1<<20
	},
	"own dev": func(in *Input) {
		in.Mounts = []Mount{{Type: mount.TypeBind, Source: "/slave", Destination: "/dev", RW: true, Propagation: mount.PropagationSlave}}
		in.HostConfig.IpcMode = "none"
	},
	"security": func(in *Input) {
		in.HostConfig.CapDrop, in.HostConfig.CapAdd = []string{"ALL"}, []string{"net_admin"}
		in.HostConfig.SecurityOpt = []string{"no-new-privileges", "apparmor=mine", "label:disable", `seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO"}]}`}
		in.HostConfig.MaskedPaths, in.HostConfig.ReadonlyPaths = []string{}, []string{}
		in.HostConfig.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "1024", "kernel.msgmax": "1"}
		in.HostConfig.Annotations = map[string]string{"k": "v"}
		in.Config.Domainname = "example.org"
		in.Host.AppArmor = true
	},
}

// TestDocuments compares whole documents with those in testdata. The system
// call rules of the built-in profile, which package seccomp tests, are left out.
func TestDocuments(t *testing.T) {
	for name, change := range documents {
		t.Run(name, func(t *testing.T) {
			got, warnings, err := Build(plain(change))
			if err != nil {
				t.Fatal(err)
			}
			if len(warnings) > 0 {
				t.Errorf("warnings: %q", warnings)
			}
			if s := got.Linux.Seccomp; s != nil && len(s.Syscalls) > 5 {
				s.Syscalls = s.Syscalls[:1]
				s.Syscalls[0].Names = s.Syscalls[0].Names[:1]
			}
			text, err := json.MarshalIndent(got, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", strings.Map(func(r rune) rune {
				if r == ' ' || r == '\'' {
					return '-'
				}
				return r
			}, name)+".json")
			if *update {
				if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(text)+"\n"); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBuildIsPureAndLeavesItsInputAlone(t *testing.T) {
	in := plain(documents["limits"])
	before, err := json.Marshal([]any{in.Config, in.HostConfig, in.Mounts})
	if err != nil {
		t.Fatal(err)
	}
	first, _, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
	first.Process.Env[0], first.Linux.MaskedPaths[0] = "changed", "changed"
	after, err := json.Marshal([]any{in.Config, in.HostConfig, in.Mounts})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(before), string(after)); diff != "" {
		t.Errorf("the input was changed: %s", diff)
	}
}

func TestBuildRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Input)
		want   string
	}{
		{"no command", func(in *Input) { in.Config.Entrypoint, in.Config.Cmd = nil, nil }, "no command specified"},
		{"graphics processor", func(in *Input) {
			in.HostConfig.DeviceRequests = []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
		}, `could not select device driver "" with capabilities: [[gpu]]`},
		{
			"missing device", func(in *Input) { in.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/dev/nope"}} },
			`error gathering device information while adding custom device "/dev/nope": lstat /dev/nope: file does not exist`,
		},
		{"device rule", func(in *Input) { in.HostConfig.DeviceCgroupRules = []string{"c 1:3"} }, "invalid device cgroup rule format: 'c 1:3'"},
		{
			"huge device number", func(in *Input) { in.HostConfig.DeviceCgroupRules = []string{"c 99999999999999999999:1 r"} },
			"invalid major value in device cgroup rule format: 'c 99999999999999999999:1 r'",
		},
		{"directory as disk", func(in *Input) {
			in.HostConfig.BlkioDeviceReadBps = []*blkiodev.ThrottleDevice{{Path: "/dev/snd", Rate: 1}}
		}, "/dev/snd is not a device"},
		{"security option", func(in *Input) { in.HostConfig.SecurityOpt = []string{"nonsense"} }, `invalid --security-opt 1: "nonsense"`},
		{"unknown security option", func(in *Input) { in.HostConfig.SecurityOpt = []string{"a=b"} }, `invalid --security-opt 2: "a=b"`},
		{"security option's value", func(in *Input) { in.HostConfig.SecurityOpt = []string{"no-new-privileges=maybe"} }, `invalid --security-opt 2: "no-new-privileges=maybe"`},
		{"writable groups", func(in *Input) { in.HostConfig.SecurityOpt = []string{"writable-cgroups"} }, "option WritableCgroups conflicts with user namespaces and rootless mode"},
		{"profile", func(in *Input) { in.HostConfig.SecurityOpt = []string{"seccomp={"} }, "Decoding seccomp profile failed: unexpected end of JSON input"},
		{
			"profile without seccomp", func(in *Input) { in.Host.Seccomp, in.HostConfig.SecurityOpt = false, []string{"seccomp={}"} },
			"seccomp is not enabled in your kernel, cannot run a custom seccomp profile",
		},
		{"capability", func(in *Input) { in.HostConfig.CapAdd = []string{"nope"} }, `unknown capability: "CAP_NOPE"`},
		{
			"capability that we lack", func(in *Input) { in.IDs, in.Host.Bounding, in.HostConfig.CapAdd = IDRange{}, 1, []string{"SYS_TIME"} },
			`capability not supported by your kernel or not available in the current environment: "CAP_SYS_TIME"`,
		},
		{"tmpfs option", func(in *Input) {
			in.Mounts = []Mount{{Type: mount.TypeTmpfs, Destination: "/t", Options: []string{"colour=red"}}}
		}, `invalid tmpfs option "colour"`},
		{"not shared", func(in *Input) {
			in.Mounts = []Mount{{Source: "/home", Destination: "/h", RW: true, Propagation: mount.PropagationShared}}
		}, "path /home is mounted on / but it is not a shared mount"},
		{"not a slave", func(in *Input) {
			in.Mounts = []Mount{{Source: "/home", Destination: "/h", RW: true, Propagation: mount.PropagationRSlave}}
		}, "path /home is mounted on / but it is not a shared or slave mount"},
		{"contradicting mount", func(in *Input) {
			in.Mounts = []Mount{{Source: "/home", Destination: "/h", ReadOnlyNonRecursive: true, ReadOnlyForceRecursive: true}}
		}, "mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive"},
		{"domain of the host", func(in *Input) { in.HostConfig.UTSMode, in.Config.Domainname = "host", "d" }, "conflicting options: domainname and the UTS mode"},
		{"net sysctl of the host", func(in *Input) {
			in.HostConfig.NetworkMode, in.HostConfig.Sysctls = "host", map[string]string{"net.ipv4.ip_forward": "1"}
		}, `sysctl "net.ipv4.ip_forward" not allowed in host network namespace`},
		{"ipc sysctl of the host", func(in *Input) {
			in.HostConfig.IpcMode, in.HostConfig.Sysctls = "host", map[string]string{"fs.mqueue.msg_max": "1"}
		}, `sysctl "fs.mqueue.msg_max" is not allowed in the hosts ipc namespace`},
		{"sysctl for all", func(in *Input) { in.HostConfig.Sysctls = map[string]string{"vm.swappiness": "1"} }, `sysctl "vm.swappiness" is not in a separate kernel namespace`},
		{"with slashes", func(in *Input) { in.HostConfig.Sysctls = map[string]string{"vm/swappiness": "1"} }, `sysctl "vm.swappiness" is not in a separate kernel namespace`},
		{
			"host name by sysctl", func(in *Input) { in.HostConfig.Sysctls = map[string]string{"kernel.hostname": "h"} },
			`sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field`,
		},
		{"user sysctl of the host", func(in *Input) {
			in.IDs, in.HostConfig.Sysctls = IDRange{}, map[string]string{"user.max_user_namespaces": "1"}
		}, "setting ucounts without a user namespace not allowed: user.max_user_namespaces"},
		{"shares", func(in *Input) { in.HostConfig.CPUShares = -1 }, "invalid CPU shares (-1): value must be a positive integer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := Build(plain(test.change))
			if err == nil || err.Error() != test.want {
				t.Fatalf("error %v, want %s", err, test.want)
			}
			if !errdefs.IsInvalidArgument(err) && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v is not an invalid argument", err)
			}
		})
	}
}

func TestBuildWarns(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Input)
		want   string
	}{
		{"no seccomp", func(in *Input) { in.Host.Seccomp = false }, "seccomp is not enabled in your kernel, running container without default profile"},
	} {
		_, warnings, err := Build(plain(test.change))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{test.want}, warnings); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func TestSeccompChoice(t *testing.T) {
	custom := `{"defaultAction":"SCMP_ACT_LOG"}`
	for _, test := range []struct {
		name, daemon string
		options      []string
		privileged   bool
		want         specs.LinuxSeccompAction // empty: no filter
	}{
		{name: "built in", want: specs.ActErrno},
		{name: "unconfined", options: []string{"seccomp=unconfined"}},
		{name: "own", options: []string{"seccomp=" + custom}, want: specs.ActLog},
		{name: "daemon's", daemon: custom, want: specs.ActLog},
		{name: "daemon unconfined", daemon: "unconfined"},
		{name: "built in in spite of the daemon", daemon: custom, options: []string{"seccomp=builtin"}, want: specs.ActErrno},
		{name: "privileged", privileged: true},
		{name: "privileged with own", privileged: true, options: []string{"seccomp=" + custom}, want: specs.ActLog},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, _, err := Build(plain(func(in *Input) {
				in.Host.SeccompProfile, in.HostConfig.SecurityOpt, in.HostConfig.Privileged = test.daemon, test.options, test.privileged
			}))
			if err != nil {
				t.Fatal(err)
			}
			var action specs.LinuxSeccompAction
			if got.Linux.Seccomp != nil {
				action = got.Linux.Seccomp.DefaultAction
			}
			if action != test.want {
				t.Errorf("default action %q, want %q", action, test.want)
			}
		})
	}
}

func TestExecProcess(t *testing.T) {
	base, _, err := Build(plain(documents["terminal"]))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		req  container.ExecCreateRequest
		want func(*specs.Process)
	}{
		{"plain", container.ExecCreateRequest{Cmd: []string{"ls"}}, func(p *specs.Process) {}},
		{"terminal", container.ExecCreateRequest{Cmd: []string{"ls"}, Tty: true, ConsoleSize: &[2]uint{2, 3}}, func(p *specs.Process) {
			p.Terminal, p.ConsoleSize = true, &specs.Box{Height: 2, Width: 3}
		}},
		{"everything else", container.ExecCreateRequest{Cmd: []string{"ls"}, User: "root", WorkingDir: "/w", Env: []string{"A=1", "TERM"}, Privileged: true}, func(p *specs.Process) {
			p.Cwd, p.User.Username = "/w", "root"
			p.Env = []string{"PATH=" + defaultPath, "A=1"}
			all := caps.UpTo(40).Names()
			p.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ExecProcess(machine(), base, test.req)
			if err != nil {
				t.Fatal(err)
			}
			want := *base.Process
			want.Args, want.Terminal, want.ConsoleSize = []string{"ls"}, false, nil
			test.want(&want)
			if diff := cmp.Diff(&want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := ExecProcess(machine(), base, container.ExecCreateRequest{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no command: %v", err)
	}
}

func TestExecTerminalVariable(t *testing.T) {
	for _, test := range []struct {
		name        string
		first, exec bool
		env         []string
		want        string
	}{
		{"neither", false, false, nil, ""},
		{"exec alone", false, true, nil, "TERM=xterm"},
		{"first alone", true, false, nil, ""},
		{"both", true, true, nil, "TERM=xterm"},
		{"user's", false, true, []string{"TERM=vt100"}, "TERM=vt100"},
		{"user's without terminal", true, false, []string{"TERM=vt100"}, "TERM=vt100"},
	} {
		base, _, err := Build(plain(func(in *Input) { in.Config.Tty, in.Config.Env = test.first, test.env }))
		if err != nil {
			t.Fatal(err)
		}
		p, err := ExecProcess(machine(), base, container.ExecCreateRequest{Cmd: []string{"x"}, Tty: test.exec})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if i := slices.IndexFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }); i >= 0 {
			got = p.Env[i]
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestMergeEnv(t *testing.T) {
	for _, test := range []struct{ name, env, changes, want string }{
		{"append", "A=1", "B=2", "A=1 B=2"},
		{"replace in place", "A=1 B=2", "A=3", "A=3 B=2"},
		{"remove", "A=1 B=2", "A", "B=2"},
		{"remove what is not there", "A=1", "C", "A=1"},
		{"similar names", "AB=1", "A=2", "AB=1 A=2"},
		{"empty value", "A=1", "A=", "A="},
	} {
		got := strings.Join(mergeEnv(strings.Fields(test.env), strings.Fields(test.changes)), " ")
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestSetDefaults(t *testing.T) {
	v2 := machine()
	v2.Cgroup.Mode = cgroup.V2
	for _, test := range []struct {
		name     string
		host     Host
		in, want container.HostConfig
	}{
		{"nothing asked", machine(), container.HostConfig{}, container.HostConfig{
			ShmSize: 64 << 20, IpcMode: "private", CgroupnsMode: "private", Resources: container.Resources{OomKillDisable: new(bool)},
		}},
		{"swap follows memory", machine(), container.HostConfig{Resources: container.Resources{Memory: 10}}, container.HostConfig{
			ShmSize: 64 << 20, IpcMode: "private", CgroupnsMode: "private", Resources: container.Resources{Memory: 10, MemorySwap: 20, OomKillDisable: new(bool)},
		}},
		{"privileged on v1", machine(), container.HostConfig{Privileged: true}, container.HostConfig{
			Privileged: true, ShmSize: 64 << 20, IpcMode: "private", CgroupnsMode: "host", Resources: container.Resources{OomKillDisable: new(bool)},
		}},
		{"privileged on v2", v2, container.HostConfig{Privileged: true}, container.HostConfig{
			Privileged: true, ShmSize: 64 << 20, IpcMode: "private", CgroupnsMode: "private", Resources: container.Resources{OomKillDisable: new(bool)},
		}},
	} {
		got := test.in
		SetDefaults(test.host, &got)
		if !test.want.Privileged {
			test.want.MaskedPaths, test.want.ReadonlyPaths = MaskedPaths(test.host), ReadonlyPaths()
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	in := plain(nil)
	for b.Loop() {
		if _, _, err := Build(in); err != nil {
			b.Fatal(err)
		}
	}
}

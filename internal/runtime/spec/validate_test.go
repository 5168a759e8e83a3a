package spec

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/linux/cgroup"
)

func TestValidateRefuses(t *testing.T) {
	port := network.MustParsePort("80/tcp")
	type request = func(c *container.Config, h *container.HostConfig)
	for _, test := range []struct {
		name   string
		change request
		want   string
	}{
		{"memory", func(_ *container.Config, h *container.HostConfig) { h.Memory = 6<<20 - 1 }, "Minimum memory limit allowed is 6MB"},
		{"negative memory", func(_ *container.Config, h *container.HostConfig) { h.Memory = -1 }, "Minimum memory limit allowed is 6MB"},
		{"swap below memory", func(_ *container.Config, h *container.HostConfig) { h.Memory, h.MemorySwap = 8<<20, 7<<20 }, "Minimum memoryswap limit should be larger than memory limit, see usage"},
		{"swap alone", func(_ *container.Config, h *container.HostConfig) { h.MemorySwap = 7 << 20 }, "You should always set the Memory limit when using Memoryswap limit, see usage"},
		{"swappiness", func(_ *container.Config, h *container.HostConfig) { h.MemorySwappiness = new(int64(101)) }, "Invalid value: 101, valid memory swappiness range is 0-100"},
		{"reservation", func(_ *container.Config, h *container.HostConfig) { h.MemoryReservation = 1 }, "Minimum memory reservation allowed is 6MB"},
		{"reservation above memory", func(_ *container.Config, h *container.HostConfig) { h.Memory, h.MemoryReservation = 7<<20, 8<<20 }, "Minimum memory limit can not be less than memory reservation limit, see usage"},
		{"cpus and period", func(_ *container.Config, h *container.HostConfig) { h.NanoCPUs, h.CPUPeriod = 1, 1000 }, "Conflicting options: Nano CPUs and CPU Period cannot both be set"},
		{"cpus and quota", func(_ *container.Config, h *container.HostConfig) { h.NanoCPUs, h.CPUQuota = 1, 1000 }, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"},
		{"too many cpus", func(_ *container.Config, h *container.HostConfig) { h.NanoCPUs = 2e9 + 1 }, "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"},
		{"negative cpus", func(_ *container.Config, h *container.HostConfig) { h.NanoCPUs = -1 }, "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"},
		{"period", func(_ *container.Config, h *container.HostConfig) { h.CPUPeriod = 999 }, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"},
		{"long period", func(_ *container.Config, h *container.HostConfig) { h.CPUPeriod = 1000001 }, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"},
		{"quota", func(_ *container.Config, h *container.HostConfig) { h.CPUQuota = 999 }, "CPU cfs quota can not be less than 1ms (i.e. 1000)"},
		{"shares", func(_ *container.Config, h *container.HostConfig) { h.CPUShares = -5 }, "invalid CPU shares (-5): value must be a positive integer"},
		{"realtime", func(_ *container.Config, h *container.HostConfig) { h.CPURealtimeRuntime = 1 }, "kernel does not support CPU real-time scheduler"},
		{"cpuset", func(_ *container.Config, h *container.HostConfig) { h.CpusetCpus = "0-2" }, "Requested CPUs are not available - requested 0-2, available: 0-1"},
		{"cpuset list", func(_ *container.Config, h *container.HostConfig) { h.CpusetCpus = "0,3-4" }, "Requested CPUs are not available - requested 0,3-4, available: 0-1"},
		{"cpuset nonsense", func(_ *container.Config, h *container.HostConfig) { h.CpusetCpus = "a" }, "Invalid value a for cpuset cpus: invalid format: a"},
		{"cpuset backwards", func(_ *container.Config, h *container.HostConfig) { h.CpusetMems = "1-0" }, "Invalid value 1-0 for cpuset mems: invalid format: 1-0"},
		{"huge cpuset", func(_ *container.Config, h *container.HostConfig) { h.CpusetMems = "0-9223372036854775807" }, "Invalid value 0-9223372036854775807 for cpuset mems: value of out range, maximum is 8192"},
		{"memory nodes", func(_ *container.Config, h *container.HostConfig) { h.CpusetMems = "1" }, "Requested memory nodes are not available - requested 1, available: 0"},
		{"weight", func(_ *container.Config, h *container.HostConfig) { h.BlkioWeight = 9 }, "Range of blkio weight is from 10 to 1000"},
		{"heavy", func(_ *container.Config, h *container.HostConfig) { h.BlkioWeight = 1001 }, "Range of blkio weight is from 10 to 1000"},
		{"bandwidth", func(_ *container.Config, h *container.HostConfig) { h.IOMaximumBandwidth = 1 }, "invalid option: QoS maximum bandwidth configuration is not supported on linux"},
		{"operations", func(_ *container.Config, h *container.HostConfig) { h.IOMaximumIOps = 1 }, "invalid option: QoS maximum IOPs configuration is not supported on linux"},
		{"isolation", func(_ *container.Config, h *container.HostConfig) { h.Isolation = "hyperv" }, "invalid isolation (hyperv): linux only supports 'default'"},

		{"long host name", func(c *container.Config, _ *container.HostConfig) { c.Hostname = strings.Repeat("h", 65) }, `hostname "` + strings.Repeat("h", 65) + `" is too long (maximum 64 bytes)`},
		{"host name of the host", func(c *container.Config, h *container.HostConfig) { c.Hostname, h.UTSMode = "h", "host" }, "conflicting options: hostname and the UTS mode"},
		{"host name of another", func(c *container.Config, h *container.HostConfig) { c.Hostname, h.NetworkMode = "h", "container:a" }, "conflicting options: hostname and the network mode"},
		{"network of nobody", func(_ *container.Config, h *container.HostConfig) { h.NetworkMode = "container:" }, "invalid network mode: invalid container format container:<name|id>"},
		{"network without colon", func(_ *container.Config, h *container.HostConfig) { h.NetworkMode = "container" }, "invalid network mode: invalid container format container:<name|id>"},
		{"links of another", func(_ *container.Config, h *container.HostConfig) {
			h.NetworkMode, h.Links = "container:a", []string{"l"}
		}, "conflicting options: container type network can't be used with links. This would result in undefined behavior"},
		{"links of the host", func(_ *container.Config, h *container.HostConfig) { h.NetworkMode, h.Links = "host", []string{"l"} }, "conflicting options: host type networking can't be used with links. This would result in undefined behavior"},
		{"hosts of another", func(_ *container.Config, h *container.HostConfig) {
			h.NetworkMode, h.ExtraHosts = "container:a", []string{"a:1.2.3.4"}
		}, "conflicting options: custom host-to-IP mapping and the network mode"},
		{"ports of another", func(_ *container.Config, h *container.HostConfig) {
			h.NetworkMode, h.PublishAllPorts = "container:a", true
		}, "conflicting options: port publishing and the container type network mode"},
		{"exposing for another", func(c *container.Config, h *container.HostConfig) {
			h.NetworkMode, c.ExposedPorts = "container:a", network.PortSet{port: {}}
		}, "conflicting options: port exposing and the container type network mode"},
		{"published port", func(_ *container.Config, h *container.HostConfig) {
			h.PortBindings = network.PortMap{port: {{HostPort: "http"}}}
		}, `invalid port specification: "http"`},
		{"extra host", func(_ *container.Config, h *container.HostConfig) { h.ExtraHosts = []string{"a"} }, `bad format for add-host: "a"`},
		{"extra address", func(_ *container.Config, h *container.HostConfig) { h.ExtraHosts = []string{"a:b"} }, `invalid IP address in add-host: "b"`},

		{"oom score", func(_ *container.Config, h *container.HostConfig) { h.OomScoreAdj = 1001 }, "Invalid value 1001, range for oom score adj is [-1000, 1000]"},
		{"ipc", func(_ *container.Config, h *container.HostConfig) { h.IpcMode = "x" }, "invalid IPC mode: x"},
		{"pid", func(_ *container.Config, h *container.HostConfig) { h.PidMode = "container:" }, "invalid PID mode: container:"},
		{"uts", func(_ *container.Config, h *container.HostConfig) { h.UTSMode = "x" }, "invalid UTS mode: x"},
		{"cgroup", func(_ *container.Config, h *container.HostConfig) { h.CgroupnsMode = "x" }, "invalid cgroup namespace mode: x"},
		{"shm", func(_ *container.Config, h *container.HostConfig) { h.ShmSize = -1 }, "SHM size can not be less than 0"},
		{"user namespace", func(_ *container.Config, h *container.HostConfig) { h.UsernsMode = "x" }, "invalid user namespace mode: x"},
		{"private and privileged", func(_ *container.Config, h *container.HostConfig) { h.UsernsMode, h.Privileged = "private", true }, "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode"},
		{"private and network", func(_ *container.Config, h *container.HostConfig) { h.UsernsMode, h.NetworkMode = "private", "host" }, "cannot share the host's network namespace when user namespaces are enabled"},
		{"private and pid", func(_ *container.Config, h *container.HostConfig) { h.UsernsMode, h.PidMode = "private", "host" }, "cannot share the host PID namespace when user namespaces are enabled"},

		{"working directory", func(c *container.Config, _ *container.HostConfig) { c.WorkingDir = "srv" }, "the working directory 'srv' is invalid, it needs to be an absolute path"},
		{"stop signal", func(c *container.Config, _ *container.HostConfig) { c.StopSignal = "SIGNOPE" }, "invalid signal: SIGNOPE"},
		{"number of a stop signal", func(c *container.Config, _ *container.HostConfig) { c.StopSignal = "65" }, "the linux daemon does not support signal 65"},
		{"environment", func(c *container.Config, _ *container.HostConfig) { c.Env = []string{"=x"} }, "invalid environment variable: =x"},
		{"empty environment", func(c *container.Config, _ *container.HostConfig) { c.Env = []string{""} }, "invalid environment variable: "},
		{"health interval", func(c *container.Config, _ *container.HostConfig) {
			c.Healthcheck = &container.HealthConfig{Interval: time.Microsecond}
		}, "Interval in Healthcheck cannot be less than 1ms"},
		{"health retries", func(c *container.Config, _ *container.HostConfig) {
			c.Healthcheck = &container.HealthConfig{Retries: -1}
		}, "Retries in Healthcheck cannot be negative"},

		{"policy", func(_ *container.Config, h *container.HostConfig) { h.RestartPolicy.Name = "sometimes" }, "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"},
		{"policy count", func(_ *container.Config, h *container.HostConfig) {
			h.RestartPolicy = container.RestartPolicy{Name: "always", MaximumRetryCount: 3}
		}, "invalid restart policy: maximum retry count can only be used with 'on-failure'"},
		{"policy and removal", func(_ *container.Config, h *container.HostConfig) {
			h.AutoRemove, h.RestartPolicy.Name = true, "always"
		}, "can't create 'AutoRemove' container with restart policy"},
		{"added capability", func(_ *container.Config, h *container.HostConfig) { h.CapAdd = []string{"x"} }, `invalid CapAdd: unknown capability: "CAP_X"`},
		{"dropped capability", func(_ *container.Config, h *container.HostConfig) { h.CapDrop = []string{"x"} }, `invalid CapDrop: unknown capability: "CAP_X"`},
		{"security option", func(_ *container.Config, h *container.HostConfig) { h.SecurityOpt = []string{"x=y"} }, `invalid --security-opt 2: "x=y"`},
		{"device rule", func(_ *container.Config, h *container.HostConfig) { h.DeviceCgroupRules = []string{"x"} }, "invalid device cgroup rule format: 'x'"},
		{"annotation", func(_ *container.Config, h *container.HostConfig) { h.Annotations = map[string]string{"": "v"} }, "invalid Annotations: the empty string is not permitted as an annotation key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, h := &container.Config{}, &container.HostConfig{NetworkMode: "bridge"}
			test.change(c, h)
			_, err := Validate(machine(), c, h)
			if err == nil || err.Error() != test.want {
				t.Fatalf("error %v, want %s", err, test.want)
			}
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v is not an invalid argument", err)
			}
		})
	}
}

func TestValidateAccepts(t *testing.T) {
	port := network.MustParsePort("80/tcp")
	c := &container.Config{
		Hostname: strings.Repeat("h", 64), WorkingDir: "/a/../b/", StopSignal: "rtmin+3", Env: []string{"A=", "B"},
		Healthcheck: &container.HealthConfig{Interval: time.Millisecond},
	}
	h := &container.HostConfig{
		NetworkMode: "bridge", UsernsMode: "private", IpcMode: "shareable", OomScoreAdj: -1000, Isolation: "Default",
		ExtraHosts: []string{"a:::1", "b:host-gateway", "c:1.2.3.4", "d:[::1]"}, RestartPolicy: container.RestartPolicy{Name: "on-failure", MaximumRetryCount: 3},
		CapAdd: []string{"all"}, CapDrop: []string{"cap_kill"}, SecurityOpt: []string{"no-new-privileges:true", "label=disable"},
		PortBindings: network.PortMap{port: {{HostPort: "8080-8090"}, {}}},
		Resources: container.Resources{
			Memory: 6 << 20, MemorySwap: -1, MemorySwappiness: new(int64(-1)), NanoCPUs: 2e9, CpusetCpus: "0,1", CpusetMems: "0",
			BlkioWeight: 10, PidsLimit: new(int64(-1)), OomKillDisable: new(true),
		},
	}
	warnings, err := Validate(machine(), c, h)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%q, %v", warnings, err)
	}
	if c.WorkingDir != "/b" || h.MemorySwappiness != nil {
		t.Errorf("working directory %q, swappiness %v", c.WorkingDir, h.MemorySwappiness)
	}
}

// TestValidateDiscards has a kernel without any controllers.
func TestValidateDiscards(t *testing.T) {
	poor := Host{NCPU: 2, LastCap: 40, Bounding: caps.UpTo(40), Cgroup: cgroup.Support{Mode: cgroup.V1}}
	device := []*blkiodev.ThrottleDevice{{Path: "/dev/vda", Rate: 1}}
	h := &container.HostConfig{NetworkMode: "host", CgroupnsMode: "private", PortBindings: network.PortMap{network.MustParsePort("80/tcp"): {{}}}, Resources: container.Resources{
		Memory: 7 << 20, MemorySwap: 8 << 20, MemorySwappiness: new(int64(1)), MemoryReservation: 7 << 20, OomKillDisable: new(true),
		PidsLimit: new(int64(5)), CPUShares: 5, CPUPeriod: 5000, CPUQuota: 5000, CPUPercent: 5, CpusetCpus: "0", CpusetMems: "0",
		BlkioWeight: 50, BlkioWeightDevice: []*blkiodev.WeightDevice{{Path: "/dev/vda", Weight: 1}},
		BlkioDeviceReadBps: device, BlkioDeviceWriteBps: device, BlkioDeviceReadIOps: device, BlkioDeviceWriteIOps: device,
	}}
	warnings, err := Validate(poor, &container.Config{}, h)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
		"Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
		"Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
		"Your kernel does not support OomKillDisable. OomKillDisable discarded.",
		"Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
		"Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
		"Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
		"linux does not support CPU percent. Percent discarded.",
		"Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.",
		"Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
		"Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
		"Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.",
		"Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.",
		"Your kernel does not support IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded.",
		"Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.",
		"Published ports are discarded when using host network mode",
		"Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.",
	}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Error(diff)
	}
	kept := container.Resources{
		MemorySwap: -1, BlkioWeightDevice: []*blkiodev.WeightDevice{},
		BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{}, BlkioDeviceWriteBps: []*blkiodev.ThrottleDevice{},
		BlkioDeviceReadIOps: []*blkiodev.ThrottleDevice{}, BlkioDeviceWriteIOps: []*blkiodev.ThrottleDevice{},
	}
	if diff := cmp.Diff(kept, h.Resources); diff != "" {
		t.Errorf("what is left: %s", diff)
	}

	if _, err := Validate(poor, &container.Config{}, &container.HostConfig{Resources: container.Resources{NanoCPUs: 1}}); err == nil ||
		err.Error() != "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted" {
		t.Errorf("--cpus: %v", err)
	}
	warnings, err = Validate(poor, &container.Config{}, &container.HostConfig{NetworkMode: "bridge"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"IPv4 forwarding is disabled. Networking will not work."}, warnings); diff != "" {
		t.Error(diff)
	}
}

func TestLabelsThatNobodyReads(t *testing.T) {
	h := &container.HostConfig{SecurityOpt: []string{"apparmor=mine", "apparmor=unconfined", "label=disable", "label:type:svirt_t"}}
	warnings, err := Validate(machine(), &container.Config{}, h)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`SELinux is not supported. Label option "type:svirt_t" is not applied.`}, warnings); diff != "" {
		t.Error(diff)
	}
	h.SecurityOpt = []string{"apparmor=mine"}
	if warnings, err = Validate(machine(), &container.Config{}, h); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`AppArmor is not enabled on this host. Profile "mine" is not applied.`}, warnings); diff != "" {
		t.Error(diff)
	}
}

func TestSwapWithoutAccounting(t *testing.T) {
	host := machine()
	host.Cgroup.Swap = false
	h := &container.HostConfig{Resources: container.Resources{Memory: 7 << 20}}
	warnings, err := Validate(host, &container.Config{}, h)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Error(diff)
	}
	if h.MemorySwap != -1 {
		t.Errorf("swap %d", h.MemorySwap)
	}
}

func TestValidateUpdate(t *testing.T) {
	r := container.Resources{MemorySwap: 7 << 20, PidsLimit: new(int64(5))}
	host := machine()
	host.Cgroup.Pids = false
	warnings, err := ValidateUpdate(host, &r)
	if err != nil || len(warnings) != 1 || r.PidsLimit != nil {
		t.Errorf("%q, %v, %+v", warnings, err, r.PidsLimit)
	}
	r = container.Resources{Memory: 1}
	if _, err := ValidateUpdate(machine(), &r); err == nil {
		t.Error("one byte of memory was accepted")
	}
}

func FuzzRanges(f *testing.F) {
	for _, seed := range []string{"", "0", "0-3,7", "3-1", "a", "0-9999999999", "-", ",", "1-2-3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ranges(text)
		if err != nil {
			return
		}
		for _, r := range list {
			if r[0] > r[1] || r[1] > 8192 {
				t.Errorf("%q gave %v", text, list)
			}
		}
	})
}

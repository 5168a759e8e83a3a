package createflags

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// Request is everything that the flags say about a container to be made.
type Request struct {
	Config     *container.Config
	HostConfig *container.HostConfig
	Networking *network.NetworkingConfig
}

// Request builds the request for a container of image that runs args (the
// image's command if empty). serverOS is the daemon's operating system, which
// decides how devices are written. Errors are the user's and have Docker's
// wording; files that the flags name are read here.
func (f *Flags) Request(image string, args []string, serverOS string) (*Request, error) {
	b := &builder{Flags: f, Request: Request{
		Config:     &container.Config{Image: image},
		HostConfig: &container.HostConfig{},
		Networking: &network.NetworkingConfig{},
	}, serverOS: serverOS}
	for _, step := range []func() error{
		b.macAddress, b.resources, b.volumes, func() error { return b.command(args) },
		b.ports, b.devices, b.environment, b.namespaces, b.lifecycle, b.logging,
		b.security, b.health, b.streams, b.dns, b.networks,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return &b.Request, nil
}

// builder is a request in the making.
type builder struct {
	*Flags
	Request
	serverOS string
}

func (b *builder) streams() error {
	p, c := &b.process, b.Config
	c.Tty, c.OpenStdin = p.tty, p.stdin
	c.AttachStdin = p.attach.Get("stdin") || p.stdin
	none := p.attach.Len() == 0
	c.AttachStdout = none || p.attach.Get("stdout")
	c.AttachStderr = none || p.attach.Get("stderr")
	// With stdin attached, the container's stdin ends when its client goes.
	c.StdinOnce = c.OpenStdin && c.AttachStdin
	return nil
}

func validateAttach(val string) (string, error) {
	s := strings.ToLower(val)
	switch s {
	case "stdin", "stdout", "stderr":
		return s, nil
	}
	return val, errors.New("valid streams are STDIN, STDOUT and STDERR")
}

func (b *builder) command(args []string) error {
	p, c := &b.process, b.Config
	if len(args) > 0 {
		c.Cmd = args
	}
	switch {
	case p.entrypoint != "":
		c.Entrypoint = []string{p.entrypoint}
	case b.set.Changed("entrypoint"):
		// An empty one takes the image's away.
		c.Entrypoint = []string{""}
	}
	c.Hostname, c.Domainname = p.hostname, p.domainname
	c.User, c.WorkingDir = p.user, p.workdir
	return nil
}

func (b *builder) environment() error {
	p := &b.process
	env, err := opts.ReadKVEnvStrings(p.envFile.GetSlice(), p.env.GetSlice())
	if err != nil {
		return err
	}
	labels, err := opts.ReadKVStrings(p.labelFile.GetSlice(), p.labels.GetSlice())
	if err != nil {
		return err
	}
	b.Config.Env, b.Config.Labels = env, opts.ConvertKVStringsToMap(labels)
	return nil
}

func (b *builder) lifecycle() error {
	p, h := &b.process, b.HostConfig
	policy, err := opts.ParseRestartPolicy(p.restart)
	if err != nil {
		return err
	}
	if p.autoRemove && !policy.IsNone() {
		return errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	h.RestartPolicy, h.AutoRemove = policy, p.autoRemove
	h.ContainerIDFile, h.Runtime = p.cidFile, p.runtime
	h.ReadonlyRootfs, h.GroupAdd = p.readOnly.on, p.groupAdd.GetSlice()
	h.Sysctls, h.Annotations = p.sysctls.GetAll(), p.annotations.GetAll()
	if p.readOnly.learn {
		h.Annotations[readOnlyKey] = readOnlyLearn
	}
	if p.logDenials {
		h.Annotations[logDenials] = "true"
	}
	if p.blackBox {
		h.Annotations[blackBox] = "true"
	}
	if b.set.Changed("init") {
		h.Init = &p.init
	}
	b.Config.StopSignal = p.stopSignal
	if b.set.Changed("stop-timeout") {
		b.Config.StopTimeout = &p.stopTimeout
	}
	return nil
}

func (b *builder) logging() error {
	s := &b.storage
	if s.logDriver == "none" && s.logOpt.Len() > 0 {
		return fmt.Errorf("invalid logging opts for driver %s", s.logDriver)
	}
	b.HostConfig.LogConfig = container.LogConfig{Type: s.logDriver, Config: opts.ConvertKVStringsToMap(s.logOpt.GetSlice())}
	return nil
}

func (b *builder) namespaces() error {
	n, h := &b.namespace, b.HostConfig
	h.PidMode = container.PidMode(n.pid)
	h.UTSMode = container.UTSMode(n.uts)
	h.IpcMode = container.IpcMode(n.ipc)
	h.UsernsMode = container.UsernsMode(n.userns)
	h.CgroupnsMode = container.CgroupnsMode(n.cgroupns)
	h.CgroupParent, h.Isolation = n.cgroupParent, container.Isolation(n.isolation)
	switch {
	case !h.PidMode.Valid():
		return errors.New("--pid: invalid PID mode")
	case !h.UTSMode.Valid():
		return errors.New("--uts: invalid UTS mode")
	case !validUserns(n.userns):
		return errors.New("--userns: invalid USER mode")
	case !h.CgroupnsMode.Valid():
		return errors.New("--cgroupns: invalid CGROUP mode")
	}
	return nil
}

// validUserns takes "private" beside Docker's "host" and "": a container that
// must have a user namespace of its own or fail.
func validUserns(mode string) bool {
	return mode == "private" || container.UsernsMode(mode).Valid()
}

func (b *builder) health() error {
	h := &b.Flags.health
	given := h.cmd != "" || h.interval != 0 || h.timeout != 0 || h.startPeriod != 0 || h.startInterval != 0 || h.retries != 0
	switch {
	case h.disabled && given:
		return errors.New("--no-healthcheck conflicts with --health-* options")
	case h.disabled:
		b.Config.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
		return nil
	case !given:
		return nil
	}
	for _, v := range []struct {
		flag     string
		negative bool
	}{
		{"interval", h.interval < 0},
		{"timeout", h.timeout < 0},
		{"retries", h.retries < 0},
		{"start-period", h.startPeriod < 0},
		{"start-interval", h.startInterval < 0},
	} {
		if v.negative {
			return fmt.Errorf("--health-%s cannot be negative", v.flag)
		}
	}
	var test []string
	if h.cmd != "" {
		test = []string{"CMD-SHELL", h.cmd}
	}
	b.Config.Healthcheck = &container.HealthConfig{
		Test: test, Interval: h.interval, Timeout: h.timeout,
		StartPeriod: h.startPeriod, StartInterval: h.startInterval, Retries: h.retries,
	}
	return nil
}

func (b *builder) resources() error {
	r := &b.Flags.resources
	if r.swappiness != -1 && (r.swappiness < 0 || r.swappiness > 100) {
		return fmt.Errorf("invalid value: %d. Valid memory swappiness range is 0-100", r.swappiness)
	}
	h := b.HostConfig
	h.OomScoreAdj, h.ShmSize = r.oomScoreAdj, r.shmSize.Value()
	h.Memory, h.MemoryReservation, h.MemorySwap = r.memory.Value(), r.memoryReservation.Value(), r.memorySwap.Value()
	h.MemorySwappiness, h.OomKillDisable, h.PidsLimit = &r.swappiness, &r.oomKillDisable, &r.pids
	h.NanoCPUs, h.CPUCount, h.CPUPercent = r.cpus.Value(), r.cpuCount, r.cpuPercent
	h.CPUShares, h.CPUPeriod, h.CPUQuota = r.cpuShares, r.cpuPeriod, r.cpuQuota
	h.CPURealtimePeriod, h.CPURealtimeRuntime = r.cpuRTPeriod, r.cpuRTRuntime
	h.CpusetCpus, h.CpusetMems = r.cpusetCpus, r.cpusetMems
	h.BlkioWeight, h.BlkioWeightDevice = r.blkioWeight, r.blkioWeightDevice.GetList()
	h.BlkioDeviceReadBps, h.BlkioDeviceWriteBps = r.readBps.GetList(), r.writeBps.GetList()
	h.BlkioDeviceReadIOps, h.BlkioDeviceWriteIOps = r.readIOps.GetList(), r.writeIOps.GetList()
	h.IOMaximumIOps, h.IOMaximumBandwidth = r.ioMaxIOps, uint64(r.ioMaxBandwidth)
	h.Ulimits = r.ulimits.GetList()
	return nil
}

func (b *builder) dns() error {
	n, h := &b.network, b.HostConfig
	// Never nil, so that the daemon can tell "none" from a client that knows
	// nothing of these fields.
	h.DNS = []netip.Addr{}
	for _, s := range n.dns.GetSlice() {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return err
		}
		h.DNS = append(h.DNS, addr)
	}
	h.DNSSearch, h.DNSOptions = n.dnsSearch.GetAllOrEmpty(), n.dnsOption.GetAllOrEmpty()
	h.ExtraHosts, h.Links = n.addHost.GetSlice(), n.links.GetSlice()
	return nil
}

// deviceRule is `type major:minor mode` of the devices cgroup.
const deviceRule = `^[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$`

func validateDeviceRule(val string) (string, error) {
	if regexp.MustCompile(deviceRule).MatchString(val) {
		return val, nil
	}
	return val, fmt.Errorf("invalid device cgroup format '%s'", val)
}

// logDenials is the annotation by which the daemon is asked to log system calls
// that are refused.
const logDenials = "porthole.log-denials"

// blackBox is the annotation by which the daemon is asked to keep the last system calls.
const blackBox = "porthole.blackbox"

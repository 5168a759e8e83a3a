// Package createflags turns the flags of "run" and "create" into the request
// that creates a container. It speaks to nobody: what only the daemon knows
// is passed in.
//
//	flags := createflags.Add(cmd.Flags())
//	…parse the command line…
//	req, err := flags.Request(image, args, "linux")
//
// The result is what Docker's own command line would send for the same flags;
// a test compares the two.
package createflags

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/internal/cli/ipflag"
)

// Flags holds the values of the flags between parsing and [Flags.Request].
type Flags struct {
	set *pflag.FlagSet

	process   processFlags
	security  securityFlags
	network   networkFlags
	storage   storageFlags
	health    healthFlags
	resources resourceFlags
	namespace namespaceFlags
}

type processFlags struct {
	attach, env, envFile, labels, labelFile, groupAdd opts.ListOpts
	entrypoint, hostname, domainname, user, workdir   string
	stdin, tty, autoRemove, init                      bool
	readOnly                                          readOnly
	restart, stopSignal                               string
	stopTimeout                                       int
	sysctls, annotations                              *opts.MapOpts
	logDenials, blackBox                              bool
	cidFile, runtime                                  string
}

type securityFlags struct {
	capAdd, capDrop, securityOpt, deviceRules, devices opts.ListOpts
	gpus                                               opts.GpuOpts
	privileged                                         bool
}

type networkFlags struct {
	networks                                            opts.NetworkOpt
	addHost, dns, dnsOption, dnsSearch, expose, publish opts.ListOpts
	links, linkLocalIPs, aliases                        opts.ListOpts
	publishAll                                          bool
	ip, ip6                                             ipflag.Addr
	mac                                                 string
}

type storageFlags struct {
	volumes, volumesFrom, tmpfs, storageOpt, logOpt opts.ListOpts
	mounts                                          opts.MountOpt
	logDriver, volumeDriver                         string
}

type healthFlags struct {
	cmd                                           string
	interval, timeout, startPeriod, startInterval time.Duration
	retries                                       int
	disabled                                      bool
}

type resourceFlags struct {
	memory, memoryReservation, shmSize, ioMaxBandwidth opts.MemBytes
	memorySwap                                         opts.MemSwapBytes
	swappiness, pids                                   int64
	oomKillDisable                                     bool
	oomScoreAdj                                        int
	cpus                                               opts.NanoCPUs
	cpuCount, cpuShares, cpuPercent                    int64
	cpuPeriod, cpuQuota, cpuRTPeriod, cpuRTRuntime     int64
	cpusetCpus, cpusetMems                             string
	blkioWeight                                        uint16
	blkioWeightDevice                                  opts.WeightdeviceOpt
	readBps, writeBps, readIOps, writeIOps             opts.ThrottledeviceOpt
	ioMaxIOps                                          uint64
	ulimits                                            *opts.UlimitOpt
}

type namespaceFlags struct {
	pid, uts, ipc, userns, cgroupns, cgroupParent, isolation string
}

// windowsOnly are flags that mean something to a daemon on Windows only.
var windowsOnly = []string{"cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"}

// CheckServer refuses flags that a daemon on serverOS would ignore.
func (f *Flags) CheckServer(serverOS string) error {
	var errs []string
	for _, name := range windowsOnly {
		if serverOS != "windows" && f.set.Changed(name) {
			errs = append(errs, fmt.Sprintf("\"--%s\" is only supported on a Porthole daemon running on windows, but the Porthole daemon is running on %s", name, serverOS))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errors.New(strings.Join(errs, "\n"))
}

// Add declares the flags on set and returns where their values go.
func Add(set *pflag.FlagSet) *Flags {
	f := &Flags{set: set}
	f.addProcess(set)
	f.addSecurity(set)
	f.addNetwork(set)
	f.addStorage(set)
	f.addHealth(set)
	f.addResources(set)
	f.addNamespaces(set)
	return f
}

func list(set *pflag.FlagSet, l *opts.ListOpts, name, short, usage string, check opts.ValidatorFctType) {
	*l = opts.NewListOpts(check)
	set.VarP(l, name, short, usage)
}

// alias declares a second, hidden name for a flag, as older clients had it.
func alias(set *pflag.FlagSet, name, second string) {
	flag := *set.Lookup(name)
	flag.Name, flag.Shorthand, flag.Hidden = second, "", true
	set.AddFlag(&flag)
}

func (f *Flags) addProcess(set *pflag.FlagSet) {
	p := &f.process
	list(set, &p.attach, "attach", "a", "Attach to STDIN, STDOUT or STDERR", validateAttach)
	list(set, &p.env, "env", "e", "Set environment variables", opts.ValidateEnv)
	list(set, &p.envFile, "env-file", "", "Read in a file of environment variables", nil)
	list(set, &p.labels, "label", "l", "Set meta data on a container", opts.ValidateLabel)
	list(set, &p.labelFile, "label-file", "", "Read in a line delimited file of labels", nil)
	list(set, &p.groupAdd, "group-add", "", "Add additional groups to join", nil)
	set.StringVar(&p.entrypoint, "entrypoint", "", "Overwrite the default ENTRYPOINT of the image")
	set.StringVarP(&p.hostname, "hostname", "h", "", "Container host name")
	set.StringVar(&p.domainname, "domainname", "", "Container NIS domain name")
	set.StringVarP(&p.user, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	set.StringVarP(&p.workdir, "workdir", "w", "", "Working directory inside the container")
	set.BoolVarP(&p.stdin, "interactive", "i", false, "Keep STDIN open even if not attached")
	set.BoolVarP(&p.tty, "tty", "t", false, "Allocate a pseudo-TTY")
	set.BoolVar(&p.autoRemove, "rm", false, "Automatically remove the container and its associated anonymous volumes when it exits")
	set.VarPF(&p.readOnly, "read-only", "", "Mount the container's root filesystem as read only; with =learn leave it writable, and tell in the end what else it would need").NoOptDefVal = "true"
	set.BoolVar(&p.init, "init", false, "Run an init inside the container that forwards signals and reaps processes")
	set.StringVar(&p.restart, "restart", string(container.RestartPolicyDisabled), "Restart policy to apply when a container exits")
	set.StringVar(&p.stopSignal, "stop-signal", "", "Signal to stop the container")
	set.IntVar(&p.stopTimeout, "stop-timeout", 0, "Timeout (in seconds) to stop a container")
	p.sysctls = opts.NewMapOpts(nil, opts.ValidateSysctl)
	set.Var(p.sysctls, "sysctl", "Sysctl options")
	p.annotations = opts.NewMapOpts(nil, nil)
	set.Var(p.annotations, "annotation", "Add an annotation to the container (passed through to the OCI runtime)")
	set.BoolVar(&p.blackBox, "blackbox", false, "Keep its last system calls, for \"trace --last\" and \"why\" to tell after its end")
	set.BoolVar(&p.logDenials, "log-denials", false, "Log system calls that are refused, for \"why\" to tell")
	set.StringVar(&p.cidFile, "cidfile", "", "Write the container ID to the file")
	set.StringVar(&p.runtime, "runtime", "", "Runtime to use for this container")
}

func (f *Flags) addSecurity(set *pflag.FlagSet) {
	s := &f.security
	list(set, &s.capAdd, "cap-add", "", "Add Linux capabilities", nil)
	list(set, &s.capDrop, "cap-drop", "", "Drop Linux capabilities", nil)
	list(set, &s.securityOpt, "security-opt", "", "Security Options", nil)
	list(set, &s.deviceRules, "device-cgroup-rule", "", "Add a rule to the cgroup allowed devices list", validateDeviceRule)
	list(set, &s.devices, "device", "", "Add a host device to the container", nil)
	set.Var(&s.gpus, "gpus", "GPU devices to add to the container ('all' to pass all GPUs)")
	set.BoolVar(&s.privileged, "privileged", false, "Give extended privileges to this container")
}

func (f *Flags) addNetwork(set *pflag.FlagSet) {
	n := &f.network
	list(set, &n.addHost, "add-host", "", "Add a custom host-to-IP mapping (host:ip)", opts.ValidateExtraHost)
	list(set, &n.dns, "dns", "", "Set custom DNS servers", opts.ValidateIPAddress)
	list(set, &n.dnsOption, "dns-option", "", "Set DNS options", nil)
	alias(set, "dns-option", "dns-opt")
	list(set, &n.dnsSearch, "dns-search", "", "Set custom DNS search domains", opts.ValidateDNSSearch)
	list(set, &n.expose, "expose", "", "Expose a port or a range of ports", nil)
	list(set, &n.links, "link", "", "Add link to another container", opts.ValidateLink)
	list(set, &n.linkLocalIPs, "link-local-ip", "", "Container IPv4/IPv6 link-local addresses", nil)
	list(set, &n.publish, "publish", "p", "Publish a container's port(s) to the host", nil)
	set.BoolVarP(&n.publishAll, "publish-all", "P", false, "Publish all exposed ports to random ports")
	set.Var(&n.ip, "ip", "IPv4 address (e.g., 172.30.100.104)")
	set.Var(&n.ip6, "ip6", "IPv6 address (e.g., 2001:db8::33)")
	set.StringVar(&n.mac, "mac-address", "", "Container MAC address (e.g., 92:d0:c6:0a:29:33)")
	set.Var(&n.networks, "network", "Connect a container to a network")
	alias(set, "network", "net")
	list(set, &n.aliases, "network-alias", "", "Add network-scoped alias for the container", nil)
	alias(set, "network-alias", "net-alias")
}

func (f *Flags) addStorage(set *pflag.FlagSet) {
	s := &f.storage
	list(set, &s.volumes, "volume", "v", "Bind mount a volume", nil)
	list(set, &s.volumesFrom, "volumes-from", "", "Mount volumes from the specified container(s)", nil)
	list(set, &s.tmpfs, "tmpfs", "", "Mount a tmpfs directory", nil)
	list(set, &s.storageOpt, "storage-opt", "", "Storage driver options for the container", nil)
	list(set, &s.logOpt, "log-opt", "", "Log driver options", nil)
	set.Var(&s.mounts, "mount", "Attach a filesystem mount to the container")
	set.StringVar(&s.logDriver, "log-driver", "", "Logging driver for the container")
	set.StringVar(&s.volumeDriver, "volume-driver", "", "Optional volume driver for the container")
}

func (f *Flags) addHealth(set *pflag.FlagSet) {
	h := &f.health
	set.StringVar(&h.cmd, "health-cmd", "", "Command to run to check health")
	set.DurationVar(&h.interval, "health-interval", 0, "Time between running the check (ms|s|m|h) (default 0s)")
	set.DurationVar(&h.timeout, "health-timeout", 0, "Maximum time to allow one check to run (ms|s|m|h) (default 0s)")
	set.DurationVar(&h.startPeriod, "health-start-period", 0,
		"Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)")
	set.DurationVar(&h.startInterval, "health-start-interval", 0,
		"Time between running the check during the start period (ms|s|m|h) (default 0s)")
	set.IntVar(&h.retries, "health-retries", 0, "Consecutive failures needed to report unhealthy")
	set.BoolVar(&h.disabled, "no-healthcheck", false, "Disable any container-specified HEALTHCHECK")
}

func (f *Flags) addResources(set *pflag.FlagSet) {
	r := &f.resources
	set.VarP(&r.memory, "memory", "m", "Memory limit")
	set.Var(&r.memoryReservation, "memory-reservation", "Memory soft limit")
	set.Var(&r.memorySwap, "memory-swap", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap")
	set.Int64Var(&r.swappiness, "memory-swappiness", -1, "Tune container memory swappiness (0 to 100)")
	set.Var(new(opts.MemBytes), "kernel-memory", "Kernel memory limit")
	_ = set.MarkDeprecated("kernel-memory", "and no longer supported by the kernel")
	set.BoolVar(&r.oomKillDisable, "oom-kill-disable", false, "Disable OOM Killer")
	set.IntVar(&r.oomScoreAdj, "oom-score-adj", 0, "Tune host's OOM preferences (-1000 to 1000)")
	set.Int64Var(&r.pids, "pids-limit", 0, "Tune container pids limit (set -1 for unlimited)")
	set.Var(&r.shmSize, "shm-size", "Size of /dev/shm")
	set.Var(&r.cpus, "cpus", "Number of CPUs")
	set.Int64VarP(&r.cpuShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	set.Int64Var(&r.cpuPeriod, "cpu-period", 0, "Limit CPU CFS (Completely Fair Scheduler) period")
	set.Int64Var(&r.cpuQuota, "cpu-quota", 0, "Limit CPU CFS (Completely Fair Scheduler) quota")
	set.Int64Var(&r.cpuRTPeriod, "cpu-rt-period", 0, "Limit CPU real-time period in microseconds")
	set.Int64Var(&r.cpuRTRuntime, "cpu-rt-runtime", 0, "Limit CPU real-time runtime in microseconds")
	set.StringVar(&r.cpusetCpus, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	set.StringVar(&r.cpusetMems, "cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)")
	set.Uint16Var(&r.blkioWeight, "blkio-weight", 0, "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)")
	r.blkioWeightDevice = opts.NewWeightdeviceOpt(opts.ValidateWeightDevice)
	set.Var(&r.blkioWeightDevice, "blkio-weight-device", "Block IO weight (relative device weight)")
	throttle := func(o *opts.ThrottledeviceOpt, name, usage string, check opts.ValidatorThrottleFctType) {
		*o = opts.NewThrottledeviceOpt(check)
		set.Var(o, name, usage)
	}
	throttle(&r.readBps, "device-read-bps", "Limit read rate (bytes per second) from a device", opts.ValidateThrottleBpsDevice)
	throttle(&r.readIOps, "device-read-iops", "Limit read rate (IO per second) from a device", opts.ValidateThrottleIOpsDevice)
	throttle(&r.writeBps, "device-write-bps", "Limit write rate (bytes per second) to a device", opts.ValidateThrottleBpsDevice)
	throttle(&r.writeIOps, "device-write-iops", "Limit write rate (IO per second) to a device", opts.ValidateThrottleIOpsDevice)
	r.ulimits = opts.NewUlimitOpt(nil)
	set.Var(r.ulimits, "ulimit", "Ulimit options")

	set.Int64Var(&r.cpuCount, "cpu-count", 0, "CPU count (Windows only)")
	set.Int64Var(&r.cpuPercent, "cpu-percent", 0, "CPU percent (Windows only)")
	set.Var(&r.ioMaxBandwidth, "io-maxbandwidth", "Maximum IO bandwidth limit for the system drive (Windows only)")
	set.Uint64Var(&r.ioMaxIOps, "io-maxiops", 0, "Maximum IOps limit for the system drive (Windows only)")
	for _, name := range windowsOnly {
		set.Lookup(name).Hidden = true
	}
}

func (f *Flags) addNamespaces(set *pflag.FlagSet) {
	n := &f.namespace
	set.StringVar(&n.pid, "pid", "", "PID namespace to use")
	set.StringVar(&n.uts, "uts", "", "UTS namespace to use")
	set.StringVar(&n.ipc, "ipc", "", "IPC mode to use")
	set.StringVar(&n.userns, "userns", "", "User namespace to use")
	set.StringVar(&n.cgroupns, "cgroupns", "", `Cgroup namespace to use (host|private)
'host':    Run the container in the Porthole host's cgroup namespace
'private': Run the container in its own private cgroup namespace
'':        Use the cgroup namespace as configured by the
           default-cgroupns-mode option on the daemon (default)`)
	set.StringVar(&n.cgroupParent, "cgroup-parent", "", "Optional parent cgroup for the container")
	set.StringVar(&n.isolation, "isolation", "", "Container isolation technology")
}

// SetEnvDefaults adds variables that hold for every container unless the
// user has set them: those of the proxy configuration. A nil value takes the
// variable's value from the environment of the command line.
func (f *Flags) SetEnvDefaults(env []string) {
	f.process.env = *opts.NewListOptsRef(&env, nil)
}

// Env returns the values of --env.
func (f *Flags) Env() []string { return f.process.env.GetSlice() }

// AutoRemove tells whether the container goes away when it ends.
func (f *Flags) AutoRemove() bool { return f.process.autoRemove }

// AttachGiven tells whether --attach was used.
func (f *Flags) AttachGiven() bool { return f.process.attach.Len() != 0 }

package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/probe"
)

// hostFacts are what the engine tells about its host and what does not change while it runs.
type hostFacts struct {
	id       string // of this daemon, kept in the data root
	name     string
	kernel   string
	system   string // PRETTY_NAME of os-release
	version  string // VERSION_ID
	memTotal int64
}

func readHostFacts(dataRoot string) (hostFacts, error) {
	h := hostFacts{system: "Linux"}
	var err error
	if h.id, err = daemonID(filepath.Join(dataRoot, "engine-id")); err != nil {
		return h, err
	}
	if h.name, err = os.Hostname(); err != nil {
		return h, err
	}
	if _, h.kernel, err = probe.Kernel(); err != nil {
		return h, err
	}
	h.system, h.version = osRelease()
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return h, fmt.Errorf("sysinfo: %w", err)
	}
	h.memTotal = int64(si.Totalram) * int64(si.Unit)
	return h, nil
}

// daemonID reads the daemon's id, or makes one.
func daemonID(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	sum := sha256.Sum256([]byte(randomID()))
	h := hex.EncodeToString(sum[:16])
	id := strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
	return id, os.WriteFile(path, []byte(id+"\n"), 0o600)
}

func osRelease() (name, version string) {
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(b) {
			k, v, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
			if s, err := strconv.Unquote(v); err == nil {
				v = s
			}
			switch k {
			case "PRETTY_NAME":
				name = v
			case "VERSION_ID":
				version = v
			}
		}
		break
	}
	if name == "" {
		name = "Linux"
	}
	return name, version
}

// Info tells about the daemon and its host.
func (e *Engine) Info(ctx context.Context) (*system.Info, error) {
	images, err := e.deps.Images.List(ctx, image.ListOptions{})
	if err != nil {
		return nil, err
	}
	h, sup := e.host, e.deps.Host.Cgroup
	i := &system.Info{
		ID: h.id, Images: len(images), Driver: driverName, DriverStatus: e.driverStatus(),
		Plugins:     system.PluginsInfo{Volume: []string{"local"}, Network: []string{"bridge", "host", "ipvlan", "macvlan", "null"}, Log: logDrivers},
		MemoryLimit: sup.Memory, SwapLimit: sup.Swap, CPUCfsPeriod: sup.CPUQuota, CPUCfsQuota: sup.CPUQuota, CPUShares: sup.CPUShares,
		CPUSet: sup.Cpuset, PidsLimit: sup.Pids, OomKillDisable: sup.OOMKillDisable, IPv4Forwarding: e.deps.Host.IPv4Forwarding,
		NGoroutines: runtime.NumGoroutine(), NFd: openFiles(), NEventsListener: e.deps.Events.Readers(),
		SystemTime: time.Now().Format(time.RFC3339Nano), LoggingDriver: withLogDefaults(container.LogConfig{}, e.config.LogConfig).Type, CgroupDriver: "cgroupfs", CgroupVersion: cgroupVersion(sup.Mode),
		KernelVersion: h.kernel, OperatingSystem: h.system, OSVersion: h.version, OSType: "linux", Architecture: machine(),
		IndexServerAddress: "https://index.docker.io/v1/", NCPU: e.deps.Host.NCPU, MemTotal: h.memTotal, DockerRootDir: e.config.DataRoot,
		HTTPProxy: os.Getenv("HTTP_PROXY"), HTTPSProxy: os.Getenv("HTTPS_PROXY"), NoProxy: os.Getenv("NO_PROXY"),
		Name: h.name, Labels: e.labels(), ServerVersion: e.config.Version,
		Runtimes: runtimes(), DefaultRuntime: ourRuntime, FirewallBackend: &system.FirewallInfo{Driver: "nftables"},
		ContainerdCommit: system.Commit{ID: library(containerdModule)}, RuncCommit: system.Commit{ID: e.config.GitCommit}, InitCommit: system.Commit{ID: e.config.GitCommit},
		LiveRestoreEnabled: true, InitBinary: "porthole-shim", SecurityOptions: e.securityOptions(), CDISpecDirs: []string{}, Warnings: e.warnings(),
		Isolation: "", DefaultAddressPools: e.config.AddressPools,
	}
	if e.deps.Registries != nil {
		i.RegistryConfig = registryConfig(e.deps.Registries.Options())
	}
	i.Debug = e.config.Debug != nil && e.config.Debug()
	for _, c := range e.registry.all() {
		i.Containers++
		switch v := c.view(); {
		case v.status() == container.StatePaused:
			i.ContainersPaused++
		case v.live():
			i.ContainersRunning++
		default:
			i.ContainersStopped++
		}
	}
	return i, nil
}

// ourRuntime is the name of our runtime, which also answers to the names by which clients ask for the usual one.
const ourRuntime = "porthole"

func runtimes() map[string]system.RuntimeWithStatus {
	list := map[string]system.RuntimeWithStatus{}
	for _, name := range []string{ourRuntime, "runc", "io.containerd.runc.v2"} {
		list[name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: "porthole-shim"}}
	}
	return list
}

func cgroupVersion(m cgroup.Mode) string {
	if m == cgroup.V2 {
		return "2"
	}
	return "1"
}

// machine is the kernel's name for the hardware, as x86_64.
func machine() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return runtime.GOARCH
	}
	return unix.ByteSliceToString(u.Machine[:])
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

func (e *Engine) driverStatus() [][2]string {
	status := [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}
	var st unix.Statfs_t
	if unix.Statfs(e.config.DataRoot, &st) == nil {
		status = append(status, [2]string{"Backing Filesystem", filesystemName(int64(st.Type))}) //nolint:unconvert // of another type on other machines
	}
	return status
}

func filesystemName(magic int64) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "extfs"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("0x%x", magic)
}

func (e *Engine) securityOptions() []string {
	var options []string
	host := e.deps.Host
	if host.AppArmorProfile != "" { // with Docker, too, it takes a parser that can load it
		options = append(options, "name=apparmor")
	}
	if profile := e.seccompProfile(); profile != "" {
		options = append(options, "name=seccomp,profile="+profile)
	}
	if host.CgroupNamespaces {
		options = append(options, "name=cgroupns")
	}
	if e.noMapping == nil {
		options = append(options, "name=userns")
	}
	return options
}

// warnings name what this host cannot give, in Docker's words.
func (e *Engine) warnings() []string {
	sup := e.deps.Host.Cgroup
	list := append([]string{}, e.config.Warnings...)
	v2 := sup.Mode == cgroup.V2
	for _, w := range []struct {
		missing bool
		text    string
	}{
		{!sup.Memory, "WARNING: No memory limit support"},
		{sup.Memory && !sup.Swap, "WARNING: No swap limit support"},
		{sup.Memory && !v2 && !sup.OOMKillDisable, "WARNING: No oom kill disable support"},
		{!sup.CPUShares, "WARNING: No cpu shares support"},
		{!sup.CPUQuota, "WARNING: No cpu cfs quota support"},
		{!sup.CPUQuota, "WARNING: No cpu cfs period support"},
		{!sup.Cpuset, "WARNING: No cpuset support"},
		{!sup.Pids, "WARNING: No pids limit support"},
		{v2 && !sup.IOWeight, "WARNING: No io.weight support"},
		{v2 && !sup.IOWeightDevice, "WARNING: No io.weight (per device) support"},
		{v2 && !sup.IOReadBps, "WARNING: No io.max (rbps) support"},
		{v2 && !sup.IOWriteBps, "WARNING: No io.max (wbps) support"},
		{v2 && !sup.IOReadIOPS, "WARNING: No io.max (riops) support"},
		{v2 && !sup.IOWriteIOPS, "WARNING: No io.max (wiops) support"},
		{!v2 && !sup.IOWeight, "WARNING: No blkio weight support"},
		{!v2 && !sup.IOWeightDevice, "WARNING: No blkio weight_device support"},
		{!v2 && !sup.IOReadBps, "WARNING: No blkio throttle.read_bps_device support"},
		{!v2 && !sup.IOWriteBps, "WARNING: No blkio throttle.write_bps_device support"},
		{!v2 && !sup.IOReadIOPS, "WARNING: No blkio throttle.read_iops_device support"},
		{!v2 && !sup.IOWriteIOPS, "WARNING: No blkio throttle.write_iops_device support"},
		{!e.deps.Host.IPv4Forwarding, "WARNING: IPv4 forwarding is disabled"},
	} {
		if w.missing {
			list = append(list, w.text)
		}
	}
	if text := e.fullDisk(); text != "" {
		list = append(list, "WARNING: "+text)
	}
	list = append(list, e.slowOperations()...)
	if e.noMapping != nil {
		list = append(list, "WARNING: Containers have no user namespaces of their own: "+e.noMapping.Error())
	}
	if e.config.NoAppArmor != nil {
		list = append(list, "WARNING: AppArmor is on, but containers run without a profile unless they name one: "+e.config.NoAppArmor.Error())
	}
	return list
}

// fullDisk tells that the disk below the data root takes no more; empty: it does, or that is not known.
func (e *Engine) fullDisk() string {
	const fewBytes, fewInodes = 1 << 20, 16
	var st unix.Statfs_t
	if err := unix.Statfs(e.config.DataRoot, &st); err != nil {
		return ""
	}
	what := ""
	switch {
	case st.Bavail*uint64(st.Bsize) < fewBytes:
		what = "is full"
	case st.Files > 0 && st.Ffree < fewInodes: // 0: that file system has no fixed number of inodes
		what = "has no inodes left"
	default:
		return ""
	}
	return "The disk of the data root " + what + ": nothing new can be made, and lines that containers print are dropped (porthole system df -v)"
}

// Version tells what this build is. The API versions are filled in by the server.
func (e *Engine) Version(context.Context) (*system.VersionResponse, error) {
	details := map[string]string{
		"GitCommit": e.config.GitCommit, "GoVersion": runtime.Version(), "Os": runtime.GOOS, "Arch": runtime.GOARCH,
		"KernelVersion": e.host.kernel, "BuildTime": e.config.BuildTime, "Experimental": "false",
	}
	return &system.VersionResponse{
		Platform: system.PlatformInfo{Name: "Porthole"}, Version: e.config.Version, Os: runtime.GOOS, Arch: runtime.GOARCH,
		GitCommit: e.config.GitCommit, GoVersion: runtime.Version(), KernelVersion: e.host.kernel, BuildTime: e.config.BuildTime,
		Components: []system.ComponentVersion{
			{Name: "Engine", Version: e.config.Version, Details: details},
			{Name: "containerd", Version: library(containerdModule), Details: map[string]string{"GitCommit": ""}},
			{Name: "porthole-shim", Version: e.config.Version, Details: map[string]string{"GitCommit": e.config.GitCommit}},
		},
	}, nil
}

// Inspector tells what the engine is doing: verbs under way with their age, listeners, queues.
func (e *Engine) Inspector() Inspection {
	in := Inspection{EventListeners: e.deps.Events.Readers(), Execs: e.execs.len(), StatePending: e.deps.State.Pending(), LogShipments: e.logShipments(), LogFeeds: e.logFeeds()}
	in.Containers = len(e.registry.all())
	in.Operations, _ = e.Operations("") // without a reference there is none to be wrong
	return in
}

// labels are the daemon's, never nil.
func (e *Engine) labels() []string {
	if e.config.Labels == nil {
		return []string{}
	}
	return append([]string{}, e.config.Labels()...)
}

package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Where things are unless a setting says otherwise.
const (
	DefaultConfigFile   = "/etc/porthole/daemon.json"
	DefaultDataRoot     = "/var/lib/porthole"
	DefaultExecRoot     = "/run/porthole"
	DefaultCgroupParent = "/porthole"
	DefaultGroup        = "porthole"
	defaultCertDir      = "/etc/porthole"
)

// Config holds the daemon's settings. Times are in seconds, as in the file.
type Config struct {
	Debug     bool
	LogLevel  string // debug, info, warn, error or fatal
	LogFormat string // text or json

	Hosts     []string
	Group     string // of unix sockets; empty: root's
	TLS       bool
	TLSVerify bool
	TLSCACert string
	TLSCert   string
	TLSKey    string

	DataRoot     string
	ExecRoot     string
	Pidfile      string // empty: portholed.pid in ExecRoot
	CgroupParent string
	ShimPath     string // empty: found beside the daemon
	Labels       []string

	InsecureRegistries []string // "host[:port]" or networks
	RegistryMirrors    []string // URLs, of Docker Hub
	CertDirs           []string // directories like Docker's certs.d, the first that has a host counts
	Downloads          int      // layers at once
	Uploads            int
	DownloadAttempts   int

	Bridge     string // name of the default bridge; empty: the network's own choice
	BIP        string
	MTU        int
	DNS        []string
	DNSOptions []string
	DNSSearch  []string
	IPMasq     bool
	IPv6       bool   // of the default bridge
	FixedCIDR  string // of the default bridge: which addresses containers get
	FixedCIDR6 string // of the default bridge: its IPv6 subnet; empty: one of its own
	ICC        bool   // containers of the default bridge reach one another
	BindIP     string // of ports of the default bridge's containers that name none; empty: all
	Pools      AddressPools
	// What Docker lets one switch off, and we need.
	UserlandProxy, IPTables, IP6Tables, IPForward bool

	Init               bool
	LogDriver          string            // of containers that name none
	LogOptions         map[string]string // of containers with that driver, where they say nothing else
	ShutdownTimeout    int
	DefaultStopTimeout int
	LiveRestore        bool
	CoreDumps          bool
}

// option is one setting: its flag, its key in the file if that is another, and
// where it is kept.
type option struct {
	flag, short, key string
	target           any // *bool, *string, *int, *[]string, *map[string]string or *AddressPools
	usage            string
	// reload tells that a changed file takes effect on SIGHUP.
	reload bool
}

func (o *option) fileKey() string {
	if o.key != "" {
		return o.key
	}
	return o.flag
}

// options lists all settings.
func (c *Config) options() []option {
	return []option{
		{flag: "debug", short: "D", target: &c.Debug, reload: true, usage: "Enable debug mode"},
		{flag: "log-level", short: "l", target: &c.LogLevel, reload: true, usage: `Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")`},
		{flag: "log-format", target: &c.LogFormat, usage: `Set the logging format ("text"|"json")`},
		{flag: "host", short: "H", key: "hosts", target: &c.Hosts, usage: "Daemon socket(s) to listen on: unix://PATH, tcp://HOST[:PORT] or fd://[NAME]"},
		{flag: "group", short: "G", target: &c.Group, usage: "Group for the unix socket"},
		{flag: "tls", target: &c.TLS, usage: "Use TLS; implied by --tlsverify"},
		{flag: "tlsverify", target: &c.TLSVerify, usage: "Use TLS and verify the remote"},
		{flag: "tlscacert", target: &c.TLSCACert, usage: "Trust certs signed only by this CA"},
		{flag: "tlscert", target: &c.TLSCert, usage: "Path to TLS certificate file"},
		{flag: "tlskey", target: &c.TLSKey, usage: "Path to TLS key file"},
		{flag: "data-root", target: &c.DataRoot, usage: "Root directory of persistent state"},
		{flag: "exec-root", target: &c.ExecRoot, usage: "Root directory for execution state files"},
		{flag: "pidfile", short: "p", target: &c.Pidfile, usage: "Path to use for daemon PID file (default portholed.pid in the exec root)"},
		{flag: "cgroup-parent", target: &c.CgroupParent, usage: "Set parent cgroup for all containers"},
		{flag: "shim", target: &c.ShimPath, usage: "Path of porthole-shim (default beside portholed, or in ../libexec/porthole)"},
		{flag: "label", key: "labels", target: &c.Labels, reload: true, usage: "Set key=value labels to the daemon"},
		{flag: "insecure-registry", key: "insecure-registries", target: &c.InsecureRegistries, reload: true, usage: "Registry, or network of registries, that may be asked without TLS"},
		{flag: "registry-mirror", key: "registry-mirrors", target: &c.RegistryMirrors, reload: true, usage: "Preferred registry mirror of Docker Hub"},
		{flag: "registry-certs-dir", key: "registry-certs-dirs", target: &c.CertDirs, reload: true, usage: "Directory with certificates of registries, as HOST[:PORT]/ca.crt"},
		{flag: "max-concurrent-downloads", target: &c.Downloads, usage: "Set the max concurrent downloads"},
		{flag: "max-concurrent-uploads", target: &c.Uploads, usage: "Set the max concurrent uploads"},
		{flag: "max-download-attempts", target: &c.DownloadAttempts, usage: "Set the max download attempts for each pull"},
		{flag: "bridge", short: "b", target: &c.Bridge, usage: "Name of the default bridge (default porthole0)"},
		{flag: "ip-masq", target: &c.IPMasq, usage: "Enable IP masquerading for the default bridge"},
		{flag: "bip", target: &c.BIP, usage: "IPv4 address for the default bridge, as in 10.9.0.1/24"},
		{flag: "ipv6", target: &c.IPv6, usage: "Enable IPv6 networking for the default bridge"},
		{flag: "fixed-cidr", target: &c.FixedCIDR, usage: "IPv4 subnet for fixed IPs of the default bridge"},
		{flag: "fixed-cidr-v6", target: &c.FixedCIDR6, usage: "IPv6 subnet of the default bridge (default a random unique local one)"},
		{flag: "icc", target: &c.ICC, usage: "Enable inter-container communication on the default bridge"},
		{flag: "ip", target: &c.BindIP, usage: "Default IP when binding ports of the default bridge's containers"},
		{flag: "default-address-pool", key: "default-address-pools", target: &c.Pools, usage: "Default address pools for networks, as base=172.80.0.0/16,size=24"},
		{flag: "userland-proxy", target: &c.UserlandProxy, usage: "Accepted for compatibility: sockets always hold published ports"},
		{flag: "iptables", target: &c.IPTables, usage: "Accepted for compatibility: a table of nftables is always kept"},
		{flag: "ip6tables", target: &c.IP6Tables, usage: "Accepted for compatibility: a table of nftables is always kept"},
		{flag: "ip-forward", target: &c.IPForward, usage: "Accepted for compatibility: forwarding is switched on for bridges"},
		{flag: "mtu", target: &c.MTU, usage: "Set the MTU of the default bridge (default that of the default route)"},
		{flag: "dns", target: &c.DNS, usage: "DNS server to use"},
		{flag: "dns-opt", key: "dns-opts", target: &c.DNSOptions, usage: "DNS options to use"},
		{flag: "dns-search", target: &c.DNSSearch, usage: "DNS search domains to use"},
		{flag: "init", target: &c.Init, usage: "Run an init in the container to forward signals and reap processes"},
		{flag: "log-driver", target: &c.LogDriver, usage: "Default driver for container logs"},
		{flag: "log-opt", key: "log-opts", target: &c.LogOptions, usage: "Default log driver options for containers"},
		{flag: "shutdown-timeout", target: &c.ShutdownTimeout, reload: true, usage: "Seconds that requests get to end when the daemon stops"},
		{flag: "default-stop-timeout", target: &c.DefaultStopTimeout, usage: "Seconds a container gets to stop before it is killed"},
		{flag: "core-dumps", target: &c.CoreDumps, usage: "Keep the cores of processes that crash in containers; takes kernel.core_pattern while it is the kernel's default"},
		{flag: "live-restore", target: &c.LiveRestore, usage: "Accepted for compatibility: containers always outlive the daemon"},
	}
}

// Defaults returns the settings of a daemon that was told nothing.
func Defaults() *Config {
	return &Config{
		LogLevel:           "info",
		LogFormat:          "text",
		Group:              DefaultGroup,
		TLSCACert:          filepath.Join(defaultCertDir, "ca.pem"),
		TLSCert:            filepath.Join(defaultCertDir, "cert.pem"),
		TLSKey:             filepath.Join(defaultCertDir, "key.pem"),
		DataRoot:           DefaultDataRoot,
		ExecRoot:           DefaultExecRoot,
		CgroupParent:       DefaultCgroupParent,
		LogDriver:          "json-file",
		LogOptions:         map[string]string{},
		CertDirs:           []string{"/etc/porthole/certs.d", "/etc/docker/certs.d"},
		Downloads:          3,
		Uploads:            5,
		DownloadAttempts:   5,
		ShutdownTimeout:    15,
		DefaultStopTimeout: 10,
		LiveRestore:        true,
		IPMasq:             true,
		ICC:                true,
		UserlandProxy:      true,
		IPTables:           true,
		IP6Tables:          true,
		IPForward:          true,
	}
}

// Command is what the command line asks for besides settings.
type Command struct {
	ConfigFile string
	Validate   bool // check the settings and end
	Version    bool // print the version and end
	Usage      string
}

// Parse reads the settings from args, without the program's name, and from the
// file they name. A setting that both have is an error. pflag.ErrHelp means that
// the usage was asked for.
func Parse(args []string) (*Config, Command, error) {
	c := Defaults()
	cmd := Command{ConfigFile: DefaultConfigFile}
	flags := pflag.NewFlagSet("portholed", pflag.ContinueOnError)
	flags.SortFlags = true
	flags.Usage = func() {}
	opts := c.options()
	for i := range opts {
		addFlag(flags, &opts[i])
	}
	flags.StringVar(&cmd.ConfigFile, "config-file", cmd.ConfigFile, "Daemon configuration file")
	flags.BoolVar(&cmd.Validate, "validate", false, "Validate daemon configuration and exit")
	flags.BoolVarP(&cmd.Version, "version", "v", false, "Print version information and quit")
	cmd.Usage = "Usage:  portholed [OPTIONS]\n\nThe daemon of Porthole, a container engine.\n\nOptions:\n" + flags.FlagUsages()
	if err := flags.Parse(args); err != nil {
		return nil, cmd, err
	}
	if flags.NArg() > 0 {
		return nil, cmd, fmt.Errorf("portholed: unexpected argument %q", flags.Arg(0))
	}
	if err := readFile(cmd.ConfigFile, flags.Changed("config-file"), opts, flags); err != nil {
		return nil, cmd, err
	}
	if err := c.complete(); err != nil {
		return nil, cmd, err
	}
	return c, cmd, nil
}

func addFlag(flags *pflag.FlagSet, o *option) {
	switch target := o.target.(type) {
	case *bool:
		flags.BoolVarP(target, o.flag, o.short, *target, o.usage)
	case *string:
		flags.StringVarP(target, o.flag, o.short, *target, o.usage)
	case *int:
		flags.IntVarP(target, o.flag, o.short, *target, o.usage)
	case *[]string:
		flags.StringArrayVarP(target, o.flag, o.short, *target, o.usage)
	case *map[string]string:
		flags.VarP((*mapValue)(target), o.flag, o.short, o.usage)
	case *AddressPools:
		flags.VarP(target, o.flag, o.short, o.usage)
	default:
		panic(fmt.Sprintf("option %s is a %T", o.flag, o.target))
	}
}

// mapValue is a flag that is repeated, once for each KEY=VALUE.
type mapValue map[string]string

// Set implements [pflag.Value]; a value may have commas in it, and need not be there.
func (m *mapValue) Set(s string) error {
	key, value, _ := strings.Cut(s, "=")
	if *m == nil {
		*m = mapValue{}
	}
	(*m)[key] = value
	return nil
}

// Type implements [pflag.Value].
func (*mapValue) Type() string { return "map" }

// String implements [pflag.Value].
func (m *mapValue) String() string {
	if len(*m) == 0 {
		return ""
	}
	return listText(map[string]string(*m))
}

// readFile merges the file into the settings. A file that nobody asked for may
// be missing.
func readFile(path string, asked bool, opts []option, flags *pflag.FlagSet) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return nil
	}
	if err == nil {
		err = mergeFile(text, opts, flags)
	}
	if err != nil {
		return fmt.Errorf("unable to configure the Porthole daemon with file %s: %w", path, err)
	}
	return nil
}

// mergeFile decodes the file's settings into those that no flag has set.
func mergeFile(text []byte, opts []option, flags *pflag.FlagSet) error {
	text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")))
	if len(text) == 0 {
		return nil
	}
	var file map[string]json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&file); err != nil {
		return fmt.Errorf("invalid JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("invalid JSON: unexpected content after the object")
	}
	known := map[string]*option{}
	for i := range opts {
		known[opts[i].fileKey()] = &opts[i]
	}
	var unknown, conflicts []string
	for _, key := range slices.Sorted(maps.Keys(file)) {
		o := known[key]
		switch {
		case o == nil:
			unknown = append(unknown, key)
		case flags.Changed(o.flag):
			conflicts = append(conflicts, fmt.Sprintf("%s: (from flag: %v, from file: %v)", key, show(o.target), showJSON(file[key])))
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("the following directives don't match any configuration option: %s", strings.Join(unknown, ", "))
	}
	if len(conflicts) > 0 {
		return fmt.Errorf("the following directives are specified both as a flag and in the configuration file: %s", strings.Join(conflicts, ", "))
	}
	for key, raw := range file {
		if err := json.Unmarshal(raw, known[key].target); err != nil {
			return fmt.Errorf("invalid JSON: %s: %w", key, err)
		}
	}
	return nil
}

// show returns what a target holds.
func show(target any) any {
	switch t := target.(type) {
	case *bool:
		return *t
	case *string:
		return *t
	case *int:
		return *t
	case *[]string:
		return *t
	case *map[string]string:
		return *t
	case *AddressPools:
		return *t
	}
	return target
}

func showJSON(raw json.RawMessage) any {
	var value any
	if json.Unmarshal(raw, &value) != nil {
		return string(raw)
	}
	return value
}

// complete derives settings from one another and checks them.
func (c *Config) complete() error {
	if c.Pidfile == "" {
		c.Pidfile = filepath.Join(c.ExecRoot, "portholed.pid")
	}
	if len(c.Hosts) == 0 {
		c.Hosts = []string{"unix://" + filepath.Join(c.ExecRoot, "porthole.sock")}
	}
	c.TLS = c.TLS || c.TLSVerify
	return errors.Join(c.checkLog(), c.checkPaths(), c.checkHosts(), c.checkLabels(), c.checkNetwork(), c.checkTimes())
}

func (c *Config) checkLog() error {
	if _, err := parseLevel(c.LogLevel); err != nil {
		return err
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("invalid log format: %s", c.LogFormat)
	}
	return nil
}

func (c *Config) checkPaths() error {
	for name, path := range map[string]string{
		"data-root": c.DataRoot, "exec-root": c.ExecRoot, "pidfile": c.Pidfile, "cgroup-parent": c.CgroupParent,
	} {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("invalid %s %q: the path must be absolute", name, path)
		}
	}
	c.DataRoot, c.ExecRoot, c.CgroupParent = filepath.Clean(c.DataRoot), filepath.Clean(c.ExecRoot), filepath.Clean(c.CgroupParent)
	if c.CgroupParent == "/" {
		return errors.New(`invalid cgroup-parent "/": the root of the hierarchy holds other people's processes`)
	}
	if c.DataRoot == "/" || c.ExecRoot == "/" {
		return errors.New(`data-root and exec-root must not be "/"`)
	}
	return nil
}

func (c *Config) checkHosts() error {
	for i, host := range c.Hosts {
		parsed, err := ParseHost(host, c.TLS)
		if err != nil {
			return err
		}
		c.Hosts[i] = parsed
	}
	return nil
}

// checkLabels refuses two values for one key.
func (c *Config) checkLabels() error {
	seen := map[string]string{}
	for _, label := range c.Labels {
		key, value, ok := strings.Cut(label, "=")
		if !ok || key == "" {
			return fmt.Errorf("bad attribute format: %s", label)
		}
		if old, twice := seen[key]; twice && old != value {
			return fmt.Errorf("conflict labels for %s=%s and %s=%s", key, value, key, old)
		}
		seen[key] = value
	}
	return nil
}

func (c *Config) checkTimes() error {
	for name, n := range map[string]int{
		"max-concurrent-downloads": c.Downloads, "max-concurrent-uploads": c.Uploads, "max-download-attempts": c.DownloadAttempts,
	} {
		if n < 1 {
			return fmt.Errorf("invalid %s: %d", name, n)
		}
	}
	if c.ShutdownTimeout < 0 {
		return fmt.Errorf("invalid shutdown-timeout: %d", c.ShutdownTimeout)
	}
	if !c.LiveRestore {
		return errors.New("live-restore cannot be switched off: containers always outlive the daemon")
	}
	return nil
}

// StopGrace is how long requests get to end when the daemon stops.
func (c *Config) StopGrace() time.Duration { return time.Duration(c.ShutdownTimeout) * time.Second }

// Reload returns c with those settings of next that may change while the daemon
// runs, and the names of the others that differ.
func (c *Config) Reload(next *Config) (merged *Config, ignored []string) {
	out := *c
	mine, theirs := out.options(), next.options()
	for i := range mine {
		if fmt.Sprint(show(mine[i].target)) == fmt.Sprint(show(theirs[i].target)) {
			continue
		}
		if !mine[i].reload {
			ignored = append(ignored, mine[i].fileKey())
			continue
		}
		assign(mine[i].target, theirs[i].target)
	}
	return &out, ignored
}

func assign(to, from any) {
	switch to := to.(type) {
	case *bool:
		*to = *from.(*bool)
	case *string:
		*to = *from.(*string)
	case *int:
		*to = *from.(*int)
	case *[]string:
		*to = slices.Clone(*from.(*[]string))
	case *map[string]string:
		*to = maps.Clone(*from.(*map[string]string))
	case *AddressPools:
		*to = slices.Clone(*from.(*AddressPools))
	}
}

// Attributes lists all settings, for the reload event.
func (c *Config) Attributes() map[string]string {
	out := map[string]string{}
	for _, o := range c.options() {
		switch value := show(o.target).(type) {
		case []string:
			out[o.fileKey()] = listText(append([]string{}, value...))
		case map[string]string:
			out[o.fileKey()] = listText(value)
		case AddressPools:
			out[o.fileKey()] = listText(append(AddressPools{}, value...))
		default:
			out[o.fileKey()] = fmt.Sprint(value)
		}
	}
	return out
}

func listText(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

// Warnings tells, in Docker's words, of settings by which others than root get at the daemon, and of few files that it may have open.
func (c *Config) Warnings() []string {
	const surface = `
         Access to the remote API is equivalent to root access on the host. Refer
         to the 'Docker daemon attack surface' section in the documentation for
         more information: https://docs.docker.com/go/attack-surface/`
	var list []string
	for _, host := range c.Hosts {
		addr, tcp := strings.CutPrefix(host, "tcp://")
		switch {
		case !tcp:
		case !c.TLS:
			list = append(list, "WARNING: API is accessible on http://"+addr+" without encryption."+surface)
		case !c.TLSVerify:
			list = append(list, "WARNING: API is accessible on https://"+addr+" without TLS client verification."+surface)
		}
	}
	return append(list, fileWarnings()...)
}

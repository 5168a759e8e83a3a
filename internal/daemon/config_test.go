package daemon

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
)

// write makes a file of settings and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestParseDefaults(t *testing.T) {
	c, cmd, err := Parse([]string{"--config-file", write(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	want.Hosts = []string{"unix:///run/porthole/porthole.sock"}
	want.Pidfile = "/run/porthole/portholed.pid"
	if diff := cmp.Diff(want, c, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if cmd.Validate || cmd.Version {
		t.Errorf("command %+v", cmd)
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		args []string
		file string
		want func(*Config)
		err  string
	}{
		{
			name: "flags", args: []string{"-D", "-H", "unix:///a", "-H", "tcp://:1", "--label", "a=b,c", "--exec-root", "/x/", "--log-opt", "max-size=1m", "--log-opt", "env=a,b", "--log-driver", "syslog"},
			want: func(c *Config) {
				c.Debug, c.Hosts, c.Labels = true, []string{"unix:///a", "tcp://127.0.0.1:1"}, []string{"a=b,c"}
				c.ExecRoot, c.Pidfile, c.LogOptions = "/x", "/x/portholed.pid", map[string]string{"max-size": "1m", "env": "a,b"}
				c.LogDriver = "syslog"
			},
		},
		{
			name: "file", file: `{"debug":true,"hosts":["fd://"],"labels":["a=b"],"mtu":1400,"log-driver":"local","log-opts":{"max-file":"3"},"dns":["1.1.1.1"]}`,
			want: func(c *Config) {
				c.Debug, c.Hosts, c.Labels, c.MTU = true, []string{"fd://"}, []string{"a=b"}, 1400
				c.LogOptions, c.DNS = map[string]string{"max-file": "3"}, []string{"1.1.1.1"}
				c.LogDriver = "local"
			},
		},
		{
			name: "default bridge", args: []string{"--default-address-pool", "base=10.80.0.0/16,size=24", "--default-address-pool", "base=fd00::/48,size=64"},
			file: `{"ipv6":true,"fixed-cidr-v6":"fd00:9::/64","fixed-cidr":"10.9.0.128/25","icc":false,"ip":"127.0.0.1","userland-proxy":true,"iptables":true}`,
			want: func(c *Config) {
				c.Pools = AddressPools{{netip.MustParsePrefix("10.80.0.0/16"), 24}, {netip.MustParsePrefix("fd00::/48"), 64}}
				c.IPv6, c.FixedCIDR6, c.FixedCIDR, c.ICC, c.BindIP = true, "fd00:9::/64", "10.9.0.128/25", false, "127.0.0.1"
			},
		},
		{
			name: "pools", file: `{"default-address-pools":[{"base":"172.80.0.0/16","size":24}]}`,
			want: func(c *Config) { c.Pools = AddressPools{{netip.MustParsePrefix("172.80.0.0/16"), 24}} },
		},
		{
			name: "pools twice", args: []string{"--default-address-pool", "base=10.80.0.0/16,size=24"}, file: `{"default-address-pools":[{"base":"172.80.0.0/16","size":24}]}`,
			err: "(from flag: [{10.80.0.0/16 24}], from file: [map[base:172.80.0.0/16 size:24]])",
		},
		{name: "pool without base", args: []string{"--default-address-pool", "size=24"}, err: "invalid default-address-pools: a pool has no base"},
		{name: "pool with a wrong key", args: []string{"--default-address-pool", "bas=10.0.0.0/8"}, err: "unexpected key 'bas' in 'bas=10.0.0.0/8'"},
		{name: "pool of a wrong size", file: `{"default-address-pools":[{"base":"172.80.0.0/16","size":8}]}`, err: "invalid default-address-pools: size 8 does not fit base 172.80.0.0/16: it is the length of the subnets' prefixes"},
		{name: "fixed-cidr", file: `{"fixed-cidr":"fd00::/64"}`, err: `invalid fixed-cidr "fd00::/64": want an IPv4 subnet, as in 10.9.0.128/25`},
		{name: "fixed-cidr-v6", file: `{"ipv6":true,"fixed-cidr-v6":"10.0.0.0/8"}`, err: `invalid fixed-cidr-v6 "10.0.0.0/8": want an IPv6 subnet, as in 2001:db8:1::/64`},
		{name: "fixed-cidr-v6 alone", file: `{"fixed-cidr-v6":"fd00::/64"}`, err: "fixed-cidr-v6 fd00::/64 has no effect without ipv6"},
		{name: "ip", file: `{"ip":"here"}`, err: `invalid ip "here": it is not an IP address`},
		{name: "no iptables", file: `{"iptables":false}`, err: "for packets without translation there is ip-masq"},
		{name: "no proxy", file: `{"userland-proxy":false}`, err: "what comes from other hosts passes the firewall's table only"},
		{name: "byte order mark", file: "\xef\xbb\xbf{\"debug\":true}", want: func(c *Config) { c.Debug = true }},
		{
			name: "tlsverify means tls", args: []string{"--tlsverify", "-H", "tcp://0.0.0.0"},
			want: func(c *Config) { c.TLS, c.TLSVerify, c.Hosts = true, true, []string{"tcp://0.0.0.0:2376"} },
		},
		{
			name: "conflict", args: []string{"-D"}, file: `{"debug":true}`,
			err: "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: true)",
		},
		{
			name: "conflicts", args: []string{"-H", "fd://", "--label", "a=b"}, file: `{"hosts":["unix:///a"],"labels":["c=d"]}`,
			err: "the following directives are specified both as a flag and in the configuration file: hosts: (from flag: [fd://], from file: [unix:///a]), labels: (from flag: [a=b], from file: [c=d])",
		},
		{
			name: "unknown keys", file: `{"zebra":1,"apple":2,"debug":true}`,
			err: "the following directives don't match any configuration option: apple, zebra",
		},
		{
			name: "the flag's name is not the key", file: `{"host":["fd://"]}`,
			err: "the following directives don't match any configuration option: host",
		},
		{name: "not JSON", file: `{"debug":`, err: "invalid JSON: unexpected EOF"},
		{name: "two objects", file: `{} {}`, err: "invalid JSON: unexpected content after the object"},
		{name: "wrong type", file: `{"debug":"yes"}`, err: "invalid JSON: debug: json: cannot unmarshal string into Go value of type bool"},
		{name: "level", args: []string{"-l", "loud"}, err: "invalid logging level: loud"},
		{name: "format", args: []string{"--log-format", "xml"}, err: "invalid log format: xml"},
		{name: "label", args: []string{"--label", "a"}, err: "bad attribute format: a"},
		{name: "labels that differ", args: []string{"--label", "a=1", "--label", "a=2"}, err: "conflict labels for a=2 and a=1"},
		{name: "dns", args: []string{"--dns", "one"}, err: "one is not an ip address"},
		{name: "bip", args: []string{"--bip", "10.0.0.1"}, err: `invalid bip "10.0.0.1": want an IPv4 address with the length of its subnet, as in 10.9.0.1/24`},
		{name: "host", args: []string{"-H", "http://x"}, err: "invalid bind address format: http://x"},
		{name: "relative root", args: []string{"--data-root", "here"}, err: `invalid data-root "here": the path must be absolute`},
		{name: "root cgroup", args: []string{"--cgroup-parent", "/"}, err: `invalid cgroup-parent "/": the root of the hierarchy holds other people's processes`},
		{name: "no live restore", args: []string{"--live-restore=false"}, err: "live-restore cannot be switched off: containers always outlive the daemon"},
		{name: "argument", args: []string{"run"}, err: `portholed: unexpected argument "run"`},
		{name: "unknown flag", args: []string{"--zebra"}, err: "unknown flag: --zebra"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := Parse(append([]string{"--config-file", write(t, tt.file)}, tt.args...))
			if tt.err != "" {
				if err == nil || !strings.HasSuffix(err.Error(), tt.err) {
					t.Fatalf("error %v, want …%s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := Defaults()
			want.Pidfile = "/run/porthole/portholed.pid"
			want.Hosts = []string{"unix:///run/porthole/porthole.sock"}
			tt.want(want)
			if diff := cmp.Diff(want, c, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseFileErrorsNameTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.json")
	_, _, err := Parse([]string{"--config-file", path})
	want := "unable to configure the Porthole daemon with file " + path + ": open " + path + ": no such file or directory"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if !errors.Is(err, os.ErrNotExist) {
		t.Error("the cause is lost")
	}
	if _, _, err := Parse([]string{"--help"}); !errors.Is(err, pflag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}

func TestReload(t *testing.T) {
	old, _, err := Parse([]string{"--config-file", write(t, `{"labels":["a=1"],"mtu":1500}`)})
	if err != nil {
		t.Fatal(err)
	}
	next, _, err := Parse([]string{"--config-file", write(t, `{"debug":true,"labels":["a=2"],"mtu":1400,"shutdown-timeout":3}`)})
	if err != nil {
		t.Fatal(err)
	}
	got, ignored := old.Reload(next)
	if !got.Debug || got.Labels[0] != "a=2" || got.ShutdownTimeout != 3 {
		t.Errorf("not taken over: %+v", got)
	}
	if got.MTU != 1500 {
		t.Errorf("MTU has changed to %d", got.MTU)
	}
	if diff := cmp.Diff([]string{"mtu"}, ignored); diff != "" {
		t.Errorf("ignored: %s", diff)
	}
	if old.Debug || old.Labels[0] != "a=1" {
		t.Error("the old settings were changed")
	}
	if attrs := got.Attributes(); attrs["debug"] != "true" || attrs["labels"] != `["a=2"]` {
		t.Errorf("attributes %v", attrs)
	}
}

func TestLevel(t *testing.T) {
	c := Defaults()
	if c.Level() != slog.LevelInfo {
		t.Errorf("level %v", c.Level())
	}
	c.LogLevel = "fatal"
	if c.Level() <= slog.LevelError {
		t.Errorf("fatal is %v", c.Level())
	}
	c.Debug = true
	if c.Level() != slog.LevelDebug {
		t.Errorf("debug mode logs from %v", c.Level())
	}
}

func TestLogger(t *testing.T) {
	var out strings.Builder
	var level slog.LevelVar
	log := NewLogger(&out, "text", &level)
	log.Debug("unseen")
	level.Set(slog.LevelDebug)
	log.Debug("seen", "container", "web")
	if text := out.String(); strings.Contains(text, "unseen") || !strings.Contains(text, "level=debug msg=seen container=web") {
		t.Errorf("log %q", text)
	}
	out.Reset()
	NewLogger(&out, "json", &level).Warn("odd")
	if text := out.String(); !strings.Contains(text, `"level":"warn","msg":"odd"`) {
		t.Errorf("log %q", text)
	}
}

func TestRedirectLogrus(t *testing.T) {
	var out strings.Builder
	level := new(slog.LevelVar)
	RedirectLogrus(NewLogger(&out, "text", level))
	logrus.WithField("a", 1).Error("broken")
	logrus.Info("chatter")
	if text := out.String(); !strings.Contains(text, "level=warn msg=library a=1 text=broken") || strings.Contains(text, "chatter") {
		t.Errorf("log %q", text)
	}
	level.Set(slog.LevelDebug)
	logrus.Info("chatter")
	if text := out.String(); !strings.Contains(text, "level=debug msg=library text=chatter") {
		t.Errorf("log %q", text)
	}
}

func TestWarnings(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		want   []string // beginnings
	}{
		"a socket":             {Config{Hosts: []string{"unix:///run/s"}}, nil},
		"plain":                {Config{Hosts: []string{"unix:///run/s", "tcp://127.0.0.1:2375"}}, []string{"WARNING: API is accessible on http://127.0.0.1:2375 without encryption."}},
		"TLS":                  {Config{Hosts: []string{"tcp://[::]:2376"}, TLS: true}, []string{"WARNING: API is accessible on https://[::]:2376 without TLS client verification."}},
		"TLS and certificates": {Config{Hosts: []string{"tcp://[::]:2376"}, TLS: true, TLSVerify: true}, nil},
	} {
		got := c.config.Warnings()
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(got[i], c.want[i]) {
				t.Errorf("%s: %q, want %q", name, got[i], c.want[i])
			}
		}
	}
}

package daemon

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzConfigFile holds that settings which are taken are the same when all of them
// are written into a file that is read again.
func FuzzConfigFile(f *testing.F) {
	for _, text := range []string{
		"", "\xef\xbb\xbf {}", "null", `{"debug":true,"hosts":["fd://"],"labels":["a=b"],"mtu":1400,"log-driver":"local","log-opts":{"max-file":"3"},"dns":["1.1.1.1"]}`,
		`{"default-address-pools":[{"base":"172.80.0.0/16","size":24}],"ipv6":true,"fixed-cidr-v6":"fd00:9::/64","ip":"127.0.0.1"}`,
		`{"hosts":["tcp://:1"],"tls":null,"log-opts":null,"labels":null,"default-address-pools":null}`, `{"a":1}`, `{} x`,
	} {
		f.Add([]byte(text))
	}
	path := filepath.Join(f.TempDir(), "daemon.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		parse := func(text []byte) (*Config, error) {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			c, _, err := Parse([]string{"--config-file", path})
			return c, err
		}
		c, err := parse(text)
		if err != nil {
			return
		}
		all := map[string]any{}
		for _, o := range c.options() {
			all[o.fileKey()] = show(o.target)
		}
		again, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parse(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		for i, o := range c.options() {
			if diff := cmp.Diff(all[o.fileKey()], show(got.options()[i].target), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" && !empty(all[o.fileKey()]) {
				t.Errorf("%s (-first +again):\n%s", o.fileKey(), diff)
			}
		}
	})
}

// empty tells lists that are none from those with nothing in them, which mean the same.
func empty(v any) bool {
	switch v := v.(type) {
	case []string:
		return len(v) == 0
	case map[string]string:
		return len(v) == 0
	case AddressPools:
		return len(v) == 0
	}
	return false
}

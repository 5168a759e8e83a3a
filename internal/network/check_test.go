package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEndlessFiles has files of a container that wants to fill our memory.
func TestEndlessFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("10.0.0.1 db # here\nnameserver 10.0.0.2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Fatal(err)
	}
	if a, ok := inHosts(path, "DB"); !ok || a != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("hosts: %v, %v", a, ok)
	}
	// Each of them may be waited for.
	many := filepath.Join(t.TempDir(), "many")
	if err := os.WriteFile(many, []byte(strings.Repeat("nameserver 10.0.0.2\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if list := nameserversOf(many); len(list) != 3 {
		t.Errorf("%d servers would be asked", len(list))
	}
	if list := nameserversOf(path); len(list) != 1 || list[0] != netip.MustParseAddr("10.0.0.2") {
		t.Errorf("servers: %v", list)
	}
}

package testenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOlderThan(t *testing.T) {
	for _, c := range []struct {
		release, since string
		want           bool
	}{
		{"6.18.44-fc-v595", "5.14", false},
		{"5.14.0", "5.14", false},
		{"5.10.0-23-amd64", "5.14", true},
		{"4.19", "5.4", true},
		{"6.1-rc3", "6.1", false},
	} {
		if got := olderThan(c.release, c.since); got != c.want {
			t.Errorf("olderThan(%q, %q) = %v, want %v", c.release, c.since, got, c.want)
		}
	}
}

func TestSkipIsRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "skips")
	t.Setenv("PORTHOLE_TEST_SKIPS", path)
	var skipped bool
	t.Run("inner", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		Skip(t, "needs %s", "a\nmoon")
	})
	if !skipped {
		t.Error("the test went on")
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "TestSkipIsRecorded/inner: needs a moon\n"; string(got) != want {
		t.Errorf("recorded %q, want %q", got, want)
	}
}

func TestNetNSIsEmpty(t *testing.T) {
	ns := NetNS(t)
	InNetNS(t, ns, func() error {
		data, err := os.ReadFile("/proc/thread-self/net/dev")
		if n := strings.Count(string(data), ":"); err == nil && n != 1 {
			t.Errorf("%d interfaces, want the loopback interface alone", n)
		}
		return err
	})
}

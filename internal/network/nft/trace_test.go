package nft

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/testenv"
)

// runNft changes the ruleset of a namespace.
func runNft(t *testing.T, netns *os.File, rules string) {
	t.Helper()
	nft := testenv.NeedsProgram(t, "nft")
	testenv.InNetNS(t, netns, func() error {
		cmd := exec.Command(nft, "-f", "-")
		cmd.Stdin = strings.NewReader(strings.NewReplacer("; } }", ";\n}\n}", "; }", ";\n}").Replace(rules))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("nft: %v\n%s", err, out)
		}
		return nil
	})
}

// dropped connects to a port of the loopback interface that somebody listens on,
// and returns what drops a packet; nil: nothing does for that long.
func dropped(t *testing.T, netns *os.File, wait time.Duration) (d *Drop) {
	t.Helper()
	testenv.InNetNS(t, netns, func() error {
		l, err := net.Listen("tcp4", "127.0.0.1:7777")
		if err != nil {
			return err
		}
		defer l.Close()
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		here := [4]byte{127, 0, 0, 1}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: here}); err != nil {
			return err
		}
		bound, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		port := uint16(bound.(*unix.SockaddrInet4).Port)
		a := netip.AddrFrom4(here)
		tracer, err := Trace(netns, Flow{netip.AddrPortFrom(a, port), netip.AddrPortFrom(a, 7777)})
		if err != nil {
			return err
		}
		defer tracer.Close()
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 7777, Addr: here}); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		d, err = tracer.Dropped(ctx)
		return err
	})
	return d
}

func TestTrace(t *testing.T) {
	testenv.NeedsRoot(t)
	for _, tt := range []struct {
		name, rules string
		want        *Drop
	}{
		{"nothing", "", nil},
		{
			"rule", `table inet theirs { chain input { type filter hook input priority 0; ip saddr 127.0.0.0/8 tcp dport { 7776, 7777 } counter drop comment "no way"; } }`,
			&Drop{Family: "inet", Table: "theirs", Chain: "input", Rule: `ip saddr 127.0.0.0/8 tcp dport { 7776, 7777 } counter drop comment "no way"`},
		},
		{
			"jump", `table ip theirs { chain deep { iifname "lo" tcp dport 7000-8000 reject; }
				chain output { type filter hook output priority 0; ct state invalid accept; }
				chain input { type filter hook input priority 10; ct state new,related jump deep; } }`,
			&Drop{Family: "ip", Table: "theirs", Chain: "deep", Rule: `iifname "lo" tcp dport 7000-8000 reject`},
		},
		{
			"policy", `table inet theirs { chain input { type filter hook input priority 0; policy drop; tcp dport 1 accept; } }`,
			&Drop{Family: "inet", Table: "theirs", Chain: "input"},
		},
		{
			"answer", `table inet theirs { chain input { type filter hook input priority 0; tcp sport 7777 tcp flags & (syn|ack) == syn|ack log prefix "x" drop; } }`,
			&Drop{Family: "inet", Table: "theirs", Chain: "input", Rule: `tcp sport 7777 tcp flags & 0x12 == 0x12 log prefix "x" drop`, Answer: true},
		},
		{
			"named set", `table inet theirs { set ports { type inet_service; elements = { 7777 }; }
				chain input { type filter hook input priority 0; meta mark 0 ip daddr != 10.0.0.1 tcp dport @ports drop; } }`,
			&Drop{Family: "inet", Table: "theirs", Chain: "input", Rule: `meta mark 0 ip daddr != 10.0.0.1 tcp dport @ports drop`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			netns := testenv.NetNS(t)
			testenv.InNetNS(t, netns, ns.LoopbackUp)
			if tt.rules != "" {
				runNft(t, netns, tt.rules)
			}
			wait := 300 * time.Millisecond
			if tt.want != nil {
				wait = 30 * time.Second
			}
			got := dropped(t, netns, wait)
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(Drop{}, "Handle")); diff != "" {
				t.Error(diff)
			}
			if got != nil && (got.Handle == 0) != (got.Rule == "") {
				t.Errorf("handle %d of %q", got.Handle, got.Rule)
			}
		})
	}
}

// TestTraceLeavesNothing looks for the table after the tracer is gone.
func TestTraceLeavesNothing(t *testing.T) {
	testenv.NeedsRoot(t)
	netns := testenv.NetNS(t)
	testenv.InNetNS(t, netns, ns.LoopbackUp)
	runNft(t, netns, "table inet porthole_trace_4194305_80 { }") // of a process that cannot be
	if d := dropped(t, netns, 100*time.Millisecond); d != nil {
		t.Errorf("dropped by %+v", d)
	}
	nft := testenv.NeedsProgram(t, "nft")
	testenv.InNetNS(t, netns, func() error {
		out, err := exec.Command(nft, "list", "tables").CombinedOutput()
		if len(out) > 0 {
			t.Errorf("there are tables:\n%s", out)
		}
		return err
	})
}

func TestComment(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "",
		"\x00":               "",
		"\x00\x05abc":        "",
		"\x00\x04abc\x00":    "abc",
		"\x01\x01x\x00\x01y": "y",
		"\x02\xff":           "",
	} {
		if got := comment([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// Package apparmor loads the AppArmor profile that containers run under unless
// they ask for another one.
//
//	var host apparmor.Host
//	if host.Enabled() == nil {
//		err = host.Ensure(ctx, apparmor.DefaultProfile)
//	}
//
// The kernel takes compiled profiles only, so that apparmor_parser(8) is needed.
// A process enters a profile at exec, by writing its name into its own attr/exec
// in /proc: package stage does that.
//
// What is here follows Docker's docker-default, rule by rule. Its tests have a parser
// and a /sys of their own making; test/script has the real ones, where AppArmor is
// on, as in the machine of test/stock.
package apparmor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/portholehq/porthole/internal/linux/probe"
)

// DefaultProfile is the name of the profile for containers.
const DefaultProfile = "porthole-default"

// Host says where AppArmor is looked for. The zero value is this machine.
type Host struct {
	Root   string // holds /sys, /proc and /etc; empty: /
	Parser string // program that compiles and loads; empty: apparmor_parser on the PATH
}

func (h Host) path(name string) string { return filepath.Join("/", h.Root, name) }

// Enabled tells whether profiles can be loaded and applied: the kernel has
// AppArmor switched on, and securityfs is there to tell what is loaded. The
// error is a [*probe.UnsupportedError] if not.
func (h Host) Enabled() error {
	text, err := os.ReadFile(h.path("/sys/module/apparmor/parameters/enabled"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &probe.UnsupportedError{Feature: "AppArmor", Detail: "the kernel is built without it"}
	case err != nil:
		return fmt.Errorf("ask for AppArmor: %w", err)
	case !strings.HasPrefix(string(text), "Y"):
		return &probe.UnsupportedError{Feature: "AppArmor", Detail: "switched off at boot"}
	}
	_, err = os.Stat(h.path("/sys/kernel/security/apparmor"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &probe.UnsupportedError{Feature: "AppArmor", Detail: "securityfs is not mounted on /sys/kernel/security"}
	case err != nil:
		return fmt.Errorf("ask for AppArmor: %w", err)
	}
	return nil
}

// Loaded tells whether the kernel knows a profile.
func (h Host) Loaded(name string) (bool, error) {
	file, err := os.Open(h.path("/sys/kernel/security/apparmor/profiles"))
	if err != nil {
		return false, fmt.Errorf("list AppArmor profiles: %w", err)
	}
	defer file.Close()
	// Lines are as in: docker-default (enforce)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if nameOf(lines.Text()) == name {
			return true, nil
		}
	}
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("list AppArmor profiles: %w", err)
	}
	return false, nil
}

// nameOf leaves out the mode that stands in parentheses after a profile's name,
// which may have parentheses itself.
func nameOf(s string) string {
	if i := strings.LastIndex(s, " ("); i >= 0 {
		return s[:i]
	}
	return s
}

// Ensure loads the default profile under a name unless there is a profile of
// that name: an administrator's own wins, and what was unloaded meanwhile, as
// upgrades of other packages do, comes back.
func (h Host) Ensure(ctx context.Context, name string) error {
	loaded, err := h.Loaded(name)
	if err != nil || loaded {
		return err
	}
	return h.Load(ctx, name)
}

// Load compiles the default profile and loads it, or replaces what is loaded
// under that name. No file is left in /etc or in the parser's cache.
func (h Host) Load(ctx context.Context, name string) error {
	text, err := h.Profile(name)
	if err != nil {
		return err
	}
	parser := h.Parser
	if parser == "" {
		parser = "apparmor_parser"
	}
	path, err := exec.LookPath(parser)
	if err != nil {
		return fmt.Errorf("load AppArmor profile %q: %w (is the package apparmor installed?)", name, err)
	}
	// -K: without the cache; -r: replace. Without a file the text comes from stdin.
	cmd := exec.CommandContext(ctx, path, "-Kr")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if out = bytes.TrimSpace(out); len(out) > 0 {
		return fmt.Errorf("load AppArmor profile %q: %s: %w: %s", name, parser, err, out)
	}
	return fmt.Errorf("load AppArmor profile %q: %s: %w", name, parser, err)
}

// confinement is the profile that this process itself runs under: containers
// accept its signals.
func (h Host) confinement() string {
	for _, name := range []string{"/proc/self/attr/apparmor/current", "/proc/self/attr/current"} {
		text, err := os.ReadFile(h.path(name))
		if err != nil {
			continue
		}
		// As in: NAME (enforce), or: unconfined
		if profile := nameOf(strings.TrimRight(string(text), "\x00\n")); profile != "" {
			return profile
		}
	}
	return "unconfined"
}

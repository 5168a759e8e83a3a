package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// setDevicesV1 writes device rules in their order, as
// Documentation/admin-guide/cgroup-v1/devices.rst has them: one rule a write.
// The files stay open between writes; opening one for every rule doubled the
// time of this, the longest step of making a group.
func (g *Group) setDevicesV1(rules []specs.LinuxDeviceCgroup) (err error) {
	if len(rules) == 0 {
		return nil
	}
	root, ok := g.tree.controller("devices")
	if !ok {
		return &UnavailableError{Controller: "devices", Mode: g.tree.mode}
	}
	files := make(map[string]*os.File, 2)
	defer func() {
		for _, file := range files {
			if closeErr := file.Close(); err == nil {
				err = closeErr
			}
		}
	}()
	for _, rule := range rules {
		name := "devices.deny"
		if rule.Allow {
			name = "devices.allow"
		}
		if files[name] == nil {
			file, err := os.OpenFile(filepath.Join(g.dirV1(root, App), name), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			files[name] = file
		}
		if _, err := files[name].WriteString(deviceRule(rule)); err != nil {
			return fmt.Errorf("devices controller: rule %q: %w", deviceRule(rule), err)
		}
	}
	return nil
}

// deviceRule writes a rule in the kernel's form: "c 1:3 rwm".
func deviceRule(rule specs.LinuxDeviceCgroup) string {
	kind, access := rule.Type, rule.Access
	if kind == "" {
		kind = "a"
	}
	if access == "" {
		access = "rwm"
	}
	return kind + " " + deviceNumber(rule.Major) + ":" + deviceNumber(rule.Minor) + " " + access
}

func deviceNumber(n *int64) string {
	if n == nil || *n < 0 {
		return "*"
	}
	return strconv.FormatInt(*n, 10)
}

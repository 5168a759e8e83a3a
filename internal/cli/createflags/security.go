package createflags

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"
	"unicode"

	"github.com/moby/moby/api/types/container"
)

func (b *builder) security() error {
	s, h := &b.Flags.security, b.HostConfig
	h.CapAdd, h.CapDrop, h.Privileged = s.capAdd.GetSlice(), s.capDrop.GetSlice(), s.privileged
	h.SecurityOpt = []string{}
	for _, opt := range s.securityOpt.GetSlice() {
		opt, err := securityOption(opt)
		if err != nil {
			return err
		}
		if opt == "systempaths=unconfined" {
			// Empty lists, unlike absent ones, mean that nothing is masked.
			h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
			continue
		}
		h.SecurityOpt = append(h.SecurityOpt, opt)
	}
	if s.securityOpt.Len() == 0 {
		h.SecurityOpt = nil
	}
	return nil
}

// securityOption checks one --security-opt and puts the content of a seccomp
// profile in the place of its file's name, since the daemon may be elsewhere.
func securityOption(opt string) (string, error) {
	key, value, ok := strings.Cut(opt, "=")
	if !ok && key != "no-new-privileges" {
		key, value, ok = strings.Cut(opt, ":")
	}
	if (!ok || value == "") && key != "no-new-privileges" {
		return "", fmt.Errorf("invalid --security-opt: %q", opt)
	}
	if key != "seccomp" || value == "unconfined" || value == "builtin" {
		return opt, nil
	}
	profile, err := os.ReadFile(value)
	if err != nil {
		return "", fmt.Errorf("opening seccomp profile (%s) failed: %w", value, err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, profile); err != nil {
		return "", fmt.Errorf("compacting json for seccomp profile (%s) failed: %w", value, err)
	}
	return "seccomp=" + compact.String(), nil
}

func (b *builder) devices() error {
	s, h := &b.Flags.security, b.HostConfig
	h.DeviceCgroupRules, h.DeviceRequests = s.deviceRules.GetSlice(), s.gpus.Value()
	h.Devices = []container.DeviceMapping{}
	var cdi []string
	for _, spec := range s.devices.GetSlice() {
		if isCDIName(spec) {
			cdi = append(cdi, spec)
			continue
		}
		device, err := parseDevice(spec, b.serverOS)
		if err != nil {
			return err
		}
		h.Devices = append(h.Devices, device)
	}
	if len(cdi) > 0 {
		h.DeviceRequests = append(h.DeviceRequests, container.DeviceRequest{Driver: "cdi", DeviceIDs: cdi})
	}
	return nil
}

// parseDevice reads `host[:container][:rwm]` for a daemon on serverOS.
func parseDevice(spec, serverOS string) (container.DeviceMapping, error) {
	switch serverOS {
	case "windows":
		return container.DeviceMapping{PathOnHost: spec}, nil
	case "linux":
	default:
		return container.DeviceMapping{}, fmt.Errorf("unknown server OS: %s", serverOS)
	}
	d := container.DeviceMapping{CgroupPermissions: "rwm"}
	parts := strings.Split(spec, ":")
	if len(parts) > 3 || parts[0] == "" {
		return d, fmt.Errorf("bad format for path: %s", spec)
	}
	d.PathOnHost = parts[0]
	switch {
	case len(parts) == 1:
		d.PathOnHost = path.Clean(parts[0])
		d.PathInContainer = d.PathOnHost
	case len(parts) == 2 && isDeviceMode(parts[1]):
		d.PathOnHost = path.Clean(parts[0])
		d.PathInContainer, d.CgroupPermissions = d.PathOnHost, parts[1]
	case len(parts) == 2:
		d.PathInContainer = path.Clean(parts[1])
	case !isDeviceMode(parts[2]):
		return d, fmt.Errorf("bad mode specified: %s", parts[2])
	default:
		d.PathInContainer, d.CgroupPermissions = parts[1], parts[2]
		if isDeviceMode(d.PathInContainer) {
			return d, fmt.Errorf("%s is not an absolute path", d.PathInContainer)
		}
	}
	if !path.IsAbs(d.PathInContainer) {
		return d, fmt.Errorf("%s is not an absolute path", d.PathInContainer)
	}
	return d, nil
}

// isDeviceMode: some of r, w and m, each at most once.
func isDeviceMode(mode string) bool {
	for n, c := range mode {
		if !strings.ContainsRune("rwm", c) || strings.ContainsRune(mode[:n], c) {
			return false
		}
	}
	return mode != ""
}

// isCDIName tells whether a device is named as the Container Device Interface
// does, `vendor.com/class=name`, and not by a path.
// Source: the CDI specification, "Fully-qualified device names".
func isCDIName(s string) bool {
	kind, name, ok := strings.Cut(s, "=")
	if !ok {
		return false
	}
	vendor, class, ok := strings.Cut(kind, "/")
	return ok && cdiPart(vendor, unicode.IsLetter, "_-.") && cdiPart(class, unicode.IsLetter, "_-") && cdiPart(name, alphanumeric, "_-.:")
}

// cdiPart tells whether s starts as first says, ends alphanumeric and has
// letters, digits and characters of inner between.
func cdiPart(s string, first func(rune) bool, inner string) bool {
	runes := []rune(s)
	if len(runes) == 0 || !first(runes[0]) || !alphanumeric(runes[len(runes)-1]) {
		return false
	}
	for _, c := range runes {
		if !alphanumeric(c) && !strings.ContainsRune(inner, c) {
			return false
		}
	}
	return true
}

func alphanumeric(c rune) bool {
	return c < unicode.MaxASCII && (unicode.IsLetter(c) || unicode.IsDigit(c))
}

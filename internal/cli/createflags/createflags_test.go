package createflags

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
)

func TestParseDevice(t *testing.T) {
	for in, want := range map[string]container.DeviceMapping{
		"/dev/a":              {PathOnHost: "/dev/a", PathInContainer: "/dev/a", CgroupPermissions: "rwm"},
		"/dev//a/":            {PathOnHost: "/dev/a", PathInContainer: "/dev/a", CgroupPermissions: "rwm"},
		"/dev/a:/dev/b":       {PathOnHost: "/dev/a", PathInContainer: "/dev/b", CgroupPermissions: "rwm"},
		"/dev/a:rw":           {PathOnHost: "/dev/a", PathInContainer: "/dev/a", CgroupPermissions: "rw"},
		"/dev/a:/dev/b:r":     {PathOnHost: "/dev/a", PathInContainer: "/dev/b", CgroupPermissions: "r"},
		"relative:/dev/b:mwr": {PathOnHost: "relative", PathInContainer: "/dev/b", CgroupPermissions: "mwr"},
	} {
		got, err := parseDevice(in, "linux")
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("parseDevice(%q): %v\n%s", in, err, diff)
		}
	}
	for _, in := range []string{"", ":", "a", "a:b", "/a:/b:x", "/a:/b:rr", "/a:/b:r:w", "/a:/b:"} {
		if got, err := parseDevice(in, "linux"); err == nil {
			t.Errorf("parseDevice(%q) = %v, want an error", in, got)
		}
	}
	if got, err := parseDevice(`class/x`, "windows"); err != nil || got.PathOnHost != "class/x" {
		t.Errorf("on windows: %v, %v", got, err)
	}
	if _, err := parseDevice("/dev/a", "plan9"); err == nil {
		t.Error("unknown system accepted")
	}
}

func TestVolumeSource(t *testing.T) {
	for in, want := range map[string]string{
		"/a": "", "a": "", "/data": "", "/a:/b": "/a", "vol:/b:ro": "vol", "v:/b": "", "./x:/b": "./x", `c:\x:/b`: `c:\x`, `c:\x:d:\y`: `c:\x`,
	} {
		got, err := volumeSource(in)
		if err != nil || got != want {
			t.Errorf("volumeSource(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "aa::/b", ":/a", "/a:/b:ro:x", "/a:/b:"} {
		if got, err := volumeSource(in); err == nil {
			t.Errorf("volumeSource(%q) = %q, want an error", in, got)
		}
	}
}

func TestIsCDIName(t *testing.T) {
	for in, want := range map[string]bool{
		"vendor.com/class=name": true, "nvidia.com/gpu=0": true, "v/c=a:b": true, "/dev/x": false, "a=b": false, "a/b": false,
		"v/c=": false, "1v/c=x": false, "v-/c=x": false, "v/c=-x": false, "v/c=x/y": false,
	} {
		if got := isCDIName(in); got != want {
			t.Errorf("isCDIName(%q) = %v, want %v", in, got, want)
		}
	}
}

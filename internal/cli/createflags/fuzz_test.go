package createflags

import (
	"encoding/json"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// FuzzDevice holds that a device is the same when it is written in full.
func FuzzDevice(f *testing.F) {
	for _, spec := range []string{"/dev/a", "/dev//a/", "/dev/a:/dev/b", "/dev/a:rw", "relative:/dev/b:mwr", ":", "a:b", "vendor.com/class=name"} {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		d, err := parseDevice(spec, "linux")
		if err != nil {
			return
		}
		again, err := parseDevice(d.PathOnHost+":"+d.PathInContainer+":"+d.CgroupPermissions, "linux")
		if diff := cmp.Diff(d, again); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", spec, err, diff)
		}
	})
}

// FuzzRequest gives any two flags any values. A request that is made is the same when
// it is made again, and behind its JSON.
func FuzzRequest(f *testing.F) {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	Add(all)
	var names []string
	all.VisitAll(func(fl *pflag.Flag) {
		// Not those that read files.
		if !slices.Contains([]string{"env-file", "label-file", "security-opt"}, fl.Name) {
			names = append(names, fl.Name)
		}
	})
	add := func(name, value, second, other string) {
		f.Add(uint8(slices.Index(names, name)), value, uint8(slices.Index(names, second)), other)
	}
	add("volume", "vol:/data:ro,z", "mount", "type=tmpfs,destination=/tmp,tmpfs-mode=1770")
	add("publish", "127.0.0.1:8000-8010:80-90/udp", "expose", "53/tcp")
	add("network", "name=net,ip=10.0.0.2,alias=a", "ip", "fd00::1")
	add("device", "/dev/null:/dev/x:r", "ulimit", "nofile=1:2")
	add("gpus", "all", "health-cmd", "true")
	add("memory-swap", "-1", "cpus", "1.5")
	add("restart", "on-failure:3", "rm", "true")
	add("tmpfs", "/run:size=1m", "add-host", "a:[::1]")
	add("blkio-weight-device", "/dev/sda:100", "device-read-bps", "/dev/sda:1mb")
	add("read-only", "learn", "annotation", "a=b")
	f.Fuzz(func(t *testing.T, flag uint8, value string, second uint8, other string) {
		if !utf8.ValidString(value) || !utf8.ValidString(other) {
			return // which JSON changes
		}
		request := func() ([]byte, error) {
			set := pflag.NewFlagSet("", pflag.ContinueOnError)
			flags := Add(set)
			for _, given := range [][2]string{{names[int(flag)%len(names)], value}, {names[int(second)%len(names)], other}} {
				if err := set.Set(given[0], given[1]); err != nil {
					return nil, err
				}
			}
			r, err := flags.Request("image", []string{"arg"}, "linux")
			if err != nil {
				return nil, err
			}
			text, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			return text, nil
		}
		text, err := request()
		again, errAgain := request()
		if (err == nil) != (errAgain == nil) || string(text) != string(again) {
			t.Errorf("%s, %v\n%s, %v", text, err, again, errAgain)
		}
		if err != nil {
			return
		}
		var r Request
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if behind, err := json.Marshal(&r); err != nil || string(behind) != string(text) {
			t.Errorf("%v, behind JSON\n%s\n%s", err, text, behind)
		}
	})
}

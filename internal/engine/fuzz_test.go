package engine

import (
	"encoding/json"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/runtime/spec"
)

// FuzzFilters holds that filters are the same in both forms that clients send, and
// that a map is none where nothing was said.
func FuzzFilters(f *testing.F) {
	for _, text := range []string{
		"", "null", "{}", `{"label":["a=b","c"]}`, `{"label":{"a=b":true,"c":false}}`, `{"a":null}`, `{"a":["x",null]}`, `{"a":{"x":null}}`, `[]`, `{"a":{}} x`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseFilters(text)
		if err != nil {
			return
		}
		sets := map[string]map[string]bool{}
		for key, values := range got {
			sets[key] = map[string]bool{}
			for _, v := range values {
				sets[key][v] = true
			}
		}
		older, err := json.Marshal(sets)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseFilters(string(older))
		if err != nil {
			t.Fatalf("%s: %v", older, err)
		}
		for _, key := range append(slices.Collect(maps.Keys(got)), "another") {
			want := slices.Compact(slices.Sorted(slices.Values(got[key])))
			if diff := cmp.Diff(want, again[key]); diff != "" && len(want) > 0 {
				t.Errorf("%s of %q (-first +again):\n%s", key, text, diff)
			}
			for _, v := range append(want, "x") {
				if got.Exact(key, v) != again.Exact(key, v) || got.Prefix(key, v) != again.Prefix(key, v) {
					t.Errorf("%s of %q takes %q in one form only", key, text, v)
				}
			}
		}
	})
}

// FuzzMount gives -v, --tmpfs and --mount anything. What is taken has a place of its
// own in the container, names a volume or a path by what the type says, and never
// leads out of a volume.
func FuzzMount(f *testing.F) {
	f.Add("vol:/data:ro,z", `{"Type":"volume","Source":"v","Target":"/a","VolumeOptions":{"Subpath":"../x"}}`)
	f.Add("/a/../b:/c/:rslave,rro", `{"Type":"bind","Source":"/","Target":"/a/../b","BindOptions":{"Propagation":"shared"}}`)
	f.Add("/x", `{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":-1,"Mode":1023,"Options":[["a","b"],[]]}}`)
	f.Add("::", `{"Type":"image","Source":"i","Target":"//","ImageOptions":{"Subpath":"a/./b"}}`)
	f.Add("a:/b/..:nocopy", `{"Type":"cluster","Target":"/x"}`)
	f.Fuzz(func(t *testing.T, spec, text string) {
		if m, err := parseBind(spec, ""); err == nil {
			checkMount(t, spec, m)
			full := m.Destination
			if !m.Anonymous {
				full = m.Source + m.Name + ":" + full
				if mode := m.Mode; mode != "" {
					full += ":" + mode
				}
				again, err := parseBind(full, "")
				if diff := cmp.Diff(m, again); err != nil || diff != "" {
					t.Errorf("%q as %q: %v\n%s", spec, full, err, diff)
				}
			}
		}
		dst, options, _ := strings.Cut(spec, ":")
		if m, err := parseTmpfs(dst, options); err == nil {
			checkMount(t, spec, m)
		}
		var asked mount.Mount
		if json.Unmarshal([]byte(text), &asked) != nil {
			return
		}
		m, err := parseMount(asked)
		if err != nil {
			return
		}
		checkMount(t, text, m)
		if m.RW && asked.ReadOnly || m.Type != asked.Type {
			t.Errorf("%s: %+v", text, m)
		}
	})
}

func checkMount(t *testing.T, from string, m state.Mount) {
	t.Helper()
	if m.Destination == "/" || !path.IsAbs(m.Destination) || path.Clean(m.Destination) != m.Destination {
		t.Errorf("%q is mounted at %q", from, m.Destination)
	}
	if m.Subpath != "" && (!filepath.IsLocal(m.Subpath) || filepath.Clean(m.Subpath) != m.Subpath) {
		t.Errorf("%q is %q of a volume", from, m.Subpath)
	}
	switch m.Type {
	case mount.TypeBind:
		if !path.IsAbs(m.Source) || path.Clean(m.Source) != m.Source || m.Name != "" {
			t.Errorf("%q is the path %q, the volume %q", from, m.Source, m.Name)
		}
	case mount.TypeVolume:
		if !volumeName.MatchString(m.Name) || m.Source != "" {
			t.Errorf("%q is the volume %q, the path %q", from, m.Name, m.Source)
		}
	case mount.TypeTmpfs, mount.TypeImage:
		if m.Source != "" || m.Type == mount.TypeImage && m.RW {
			t.Errorf("%q is %+v", from, m)
		}
	default:
		t.Errorf("%q is a %q", from, m.Type)
	}
}

// FuzzNetDev holds that no interface is told that is not in the kernel's text, whose
// names containers choose.
func FuzzNetDev(f *testing.F) {
	f.Add("Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 7 6 5 4 3 2 1 0 8 9 10 11 0 0 0 0\n")
	f.Add("a:b: 1 2\n: 1\nx:18446744073709551616 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1")
	f.Fuzz(func(t *testing.T, text string) {
		stats, err := parseNetDev([]byte(text))
		if err != nil && stats != nil {
			t.Errorf("%v besides %v", stats, err)
		}
		for name, s := range stats {
			if name == "lo" || !strings.Contains(text, name+":") || s.TxDropped > 0 && len(text) < 2*16 {
				t.Errorf("%q has %q: %+v", text, name, s)
			}
		}
	})
}

// FuzzMerge gives containers images with any configuration. What is made of both is
// refused as invalid, or can be started with as much as it says: what the client asked
// for wins, the image stays as it is, and what it asks for is bounded.
func FuzzMerge(f *testing.F) {
	f.Add(`{"Cmd":["a"],"Env":["A=1","B","=x",""],"WorkingDir":"../x","User":"u:g","StopSignal":"SIGNONE","Volumes":{"/v/../w":{},"x":{}}}`, `{"Env":["B"]}`)
	f.Add(`{"Entrypoint":["e"],"Cmd":["c"],"ExposedPorts":{"80":{},"1-65535/x":{},"2-65535/y":{},"1-65534/z":{},"3-65535/sctp":{}}}`, `{"Entrypoint":[""],"Cmd":["x"]}`)
	f.Add(`{"Cmd":["a"],"Healthcheck":{"Test":["CMD-SHELL","x"],"Interval":1,"Timeout":-1,"StartPeriod":-5,"StartInterval":-1,"Retries":-1},"Shell":[]}`, `{}`)
	f.Add(`{"Cmd":["a"],"Healthcheck":{"Test":["NONE"]},"ExposedPorts":{"80-79/tcp":{}}}`, `{"Healthcheck":{"Test":["CMD","y"]},"ExposedPorts":{"1/udp":{}}}`)
	f.Add(`null`, `{"Cmd":["a"],"WorkingDir":"/x/../y"}`)
	host := spec.Host{Arch: "amd64", NCPU: 2, Lookup: noDevices{}, SeccompProfile: "unconfined"}
	f.Fuzz(func(t *testing.T, own, asked string) {
		var img image.Image
		var user container.Config
		if json.Unmarshal([]byte(own), &img.Config.Config) != nil || json.Unmarshal([]byte(asked), &user) != nil {
			return
		}
		h := withDefaults(nil, container.LogConfig{})
		if _, err := spec.Validate(host, &user, h); err != nil {
			return
		}
		text := func(v any) string {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		before, first := text(img.Config.Config), text(user)
		c, err := merge(&user, img)
		if after := text(img.Config.Config); after != before || text(user) != first {
			t.Errorf("%s, %s have become %s, %s", before, first, after, text(user))
		}
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: %v", own, err)
			}
			return
		}
		if len(c.ExposedPorts) > maxImagePorts+len(user.ExposedPorts) || len(c.Volumes) > maxImageVolumes+len(user.Volumes) {
			t.Errorf("%s exposes %d ports and has %d volumes", own, len(c.ExposedPorts), len(c.Volumes))
		}
		for name, pair := range map[string][2]string{"user": {user.User, c.User}, "directory": {user.WorkingDir, c.WorkingDir}, "signal": {user.StopSignal, c.StopSignal}} {
			if pair[0] != "" && pair[0] != pair[1] {
				t.Errorf("the %s %q was asked for, and is %q", name, pair[0], pair[1])
			}
		}
		if k, ok := healthCheck(c); ok {
			if min(k.interval, k.timeout, k.startInterval) < container.MinimumDuration || k.retries < 1 || len(k.argv) == 0 {
				t.Errorf("%s, %s: the health check is %+v", own, asked, k)
			}
		}
		mounts, err := planMounts(c, h, nil)
		if err != nil {
			return
		}
		for _, m := range mounts {
			checkMount(t, own, m)
		}
		spec.SetDefaults(host, h)
		document, _, err := spec.Build(spec.Input{ID: "x", Config: c, HostConfig: h, Mounts: specMounts(mounts), Host: host})
		if err != nil {
			t.Fatalf("%s, %s: %v", own, asked, err)
		}
		if path, args := command(c); !slices.Equal(document.Process.Args, append([]string{path}, args...)) {
			t.Errorf("%s, %s: %q is started, the container's command is %q, %q", own, asked, document.Process.Args, path, args)
		}
		for _, e := range user.Env {
			if strings.Contains(e, "=") && !slices.Contains(document.Process.Env, e) && !overridden(user.Env, e) {
				t.Errorf("%s, %s: the variable %q is not in %q", own, asked, e, document.Process.Env)
			}
		}
	})
}

// overridden tells that a variable is asked for more than once.
func overridden(env []string, one string) bool {
	name, _, _ := strings.Cut(one, "=")
	n := 0
	for _, e := range env {
		if other, _, _ := strings.Cut(e, "="); other == name {
			n++
		}
	}
	return n > 1
}

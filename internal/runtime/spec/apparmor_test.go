package spec

import (
	"testing"

	"github.com/moby/moby/api/types/container"
)

func TestAppArmorProfile(t *testing.T) {
	for _, tt := range []struct {
		name       string
		on         bool   // on this host
		loaded     string // the daemon's profile
		privileged bool
		options    []string
		want       string
	}{
		{"default", true, "porthole-default", false, nil, "porthole-default"},
		{"default could not be loaded", true, "", false, nil, ""},
		{"privileged", true, "porthole-default", true, nil, "unconfined"},
		{"named", true, "porthole-default", false, []string{"apparmor=mine"}, "mine"},
		{"named, older form", true, "porthole-default", false, []string{"apparmor:mine"}, "mine"},
		{"named although the default could not be loaded", true, "", false, []string{"apparmor=mine"}, "mine"},
		{"named and privileged", true, "porthole-default", true, []string{"apparmor=mine"}, "mine"},
		{"unconfined", true, "porthole-default", false, []string{"apparmor=unconfined"}, "unconfined"},
		{"other options", true, "porthole-default", false, []string{"no-new-privileges", "seccomp=unconfined"}, "porthole-default"},
		{"off", false, "", false, nil, ""},
		{"off, named", false, "", false, []string{"apparmor=mine"}, ""},
		{"off, privileged", false, "", true, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := plain(func(in *Input) {
				in.Host.AppArmor, in.Host.AppArmorProfile = tt.on, tt.loaded
				in.HostConfig.Privileged, in.HostConfig.SecurityOpt = tt.privileged, tt.options
			})
			got, err := AppArmorProfile(in.Host, in.HostConfig)
			if err != nil || got != tt.want {
				t.Errorf("AppArmorProfile() = %q, %v, want %q", got, err, tt.want)
			}
			document, _, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			if got := document.Process.ApparmorProfile; got != tt.want {
				t.Errorf("the document has %q, want %q", got, tt.want)
			}
			exec, err := ExecProcess(in.Host, document, container.ExecCreateRequest{Cmd: []string{"true"}, Privileged: true})
			if err != nil {
				t.Fatal(err)
			}
			if exec.ApparmorProfile != tt.want {
				t.Errorf("an exec has %q, want the container's", exec.ApparmorProfile)
			}
		})
	}
	if _, err := AppArmorProfile(Host{AppArmor: true}, &container.HostConfig{SecurityOpt: []string{"nonsense"}}); err == nil {
		t.Error("an unknown option is accepted")
	}
}

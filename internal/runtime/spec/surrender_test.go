package spec

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
)

func TestSurrenders(t *testing.T) {
	for name, c := range map[string]struct {
		hc   container.HostConfig
		want []string
	}{
		"usual": {hc: container.HostConfig{
			CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges", "seccomp={}"},
			NetworkMode: "bridge", PidMode: "container:x", IpcMode: "private",
		}},
		"privileged": {hc: container.HostConfig{Privileged: true, CgroupnsMode: "host", MaskedPaths: []string{}}, want: []string{"--privileged"}},
		"namespaces": {
			hc:   container.HostConfig{UsernsMode: "host", PidMode: "host", IpcMode: "host", UTSMode: "host", NetworkMode: "host", CgroupnsMode: "host"},
			want: []string{"--userns=host", "--pid=host", "--ipc=host", "--uts=host", "--network=host", "--cgroupns=host"},
		},
		"capabilities": {
			hc:   container.HostConfig{CapAdd: []string{"all", "sys_admin", "CAP_BPF", "CHOWN"}},
			want: []string{"--cap-add=ALL", "--cap-add=SYS_ADMIN", "--cap-add=BPF"},
		},
		"devices": {
			hc: container.HostConfig{Resources: container.Resources{
				Devices: []container.DeviceMapping{{PathOnHost: "/dev/sda"}}, DeviceCgroupRules: []string{"c 1:3 rwm"},
			}},
			want: []string{"--device=/dev/sda", "--device-cgroup-rule=c 1:3 rwm"},
		},
		"unconfined": {
			hc: container.HostConfig{
				SecurityOpt: []string{"seccomp:unconfined", "apparmor=unconfined", "writable-cgroups"}, MaskedPaths: []string{},
			},
			want: []string{
				"--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--security-opt=writable-cgroups",
				"--security-opt=systempaths=unconfined",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Surrenders(&c.hc)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

package order

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAttributes(t *testing.T) {
	value := "v"
	got, err := Options{
		Dockerfile: "d/web", NoCache: true, Pull: true, Target: "t", Platform: "linux/arm64", Network: "none", Memory: 1 << 20,
		BuildArgs: map[string]*string{"SET": &value, "UNSET": nil}, Labels: map[string]string{"l": "m"},
		ExtraHosts: []string{"db:10.0.0.1", "v6:::1"}, Ulimits: []string{"nofile=1:2"}, CPUSetCPUs: "0",
	}.Attributes()
	want := map[string]string{
		"filename": "d/web", "no-cache": "", "image-resolve-mode": "pull", "target": "t", "platform": "linux/arm64",
		"force-network-mode": "none", "memory": "1048576", "build-arg:SET": "v", "label:l": "m",
		"add-hosts": "db=10.0.0.1,v6=::1", "ulimit": "nofile=1:2", "cpusetcpus": "0",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, o := range []Options{{Network: "mine"}, {ExtraHosts: []string{"none"}}} {
		if _, err := o.Attributes(); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

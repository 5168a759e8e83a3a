package engine

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/image/remote"
)

// Info shows registries as dockerd 28 does.
func TestRegistryConfig(t *testing.T) {
	const own = `"InsecureRegistryCIDRs":["::1/128","127.0.0.0/8"],"IndexConfigs":{"docker.io":{"Name":"docker.io","Mirrors":[],"Secure":true,"Official":true}},"Mirrors":[]`
	for _, test := range []struct {
		name string
		o    remote.Options
		want string
	}{
		{"nothing set", remote.Options{}, "{" + own + "}"},
		{
			"all",
			remote.Options{Insecure: []string{"10.1.2.3/16", "reg.example:5000"}, Mirrors: []string{"https://mirror.example"}},
			`{"InsecureRegistryCIDRs":["10.1.0.0/16","::1/128","127.0.0.0/8"],"IndexConfigs":{` +
				`"docker.io":{"Name":"docker.io","Mirrors":["https://mirror.example/"],"Secure":true,"Official":true},` +
				`"reg.example:5000":{"Name":"reg.example:5000","Mirrors":[],"Secure":false,"Official":false}},"Mirrors":["https://mirror.example/"]}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := json.Marshal(registryConfig(test.o))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

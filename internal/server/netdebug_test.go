package server

import (
	"context"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/network"
	"github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/network/resolver"
	"github.com/portholehq/porthole/internal/record/death"
)

// netFake has one network, "app", and one container on it, "web".
type netFake struct {
	Backend
	asked []string
}

func (f *netFake) note(what ...string) { f.asked = append(f.asked, strings.Join(what, " ")) }

func (f *netFake) NetworkCreate(_ context.Context, req mobynet.CreateRequest) (mobynet.CreateResponse, error) {
	if req.EnableIPv4 != nil {
		f.note("ipv4")
	}
	if req.Name == "app" {
		return mobynet.CreateResponse{}, errdefs.ErrAlreadyExists.WithMessage("network with name app already exists")
	}
	return mobynet.CreateResponse{ID: "n1"}, nil
}

func (f *netFake) NetworkRemove(_ context.Context, ref string) error {
	if ref != "app" {
		return errdefs.ErrNotFound.WithMessage("network " + ref + " not found")
	}
	return errdefs.ErrPermissionDenied.WithMessage("network app has active endpoints")
}

func (f *netFake) NetworkConnect(_ context.Context, ref string, req mobynet.ConnectRequest) error {
	f.note("connect", ref, req.Container, req.EndpointConfig.MacAddress.String())
	return nil
}

func (f *netFake) NetworkDisconnect(_ context.Context, ref string, req mobynet.DisconnectRequest) error {
	f.note("disconnect", ref, req.Container)
	return nil
}

func (f *netFake) NetworksPrune(context.Context, engine.Filters) (mobynet.PruneReport, error) {
	return mobynet.PruneReport{NetworksDeleted: []string{"old"}}, nil
}

func (f *netFake) NetworkCheck(_ context.Context, from, target string) ([]network.Hop, error) {
	f.note("check", from, target)
	return []network.Hop{{Name: "connect", State: network.HopFailed, Detail: "refused", Hint: "listen"}}, nil
}

func (f *netFake) ContainerForward(_ context.Context, ref string, p network.PortSpec) ([]network.Published, error) {
	f.note("forward", ref, p.Container.String(), p.HostIP.String())
	return []network.Published{{Container: p.Container, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: p.First}}, nil
}

func (f *netFake) ContainerUnforward(_ context.Context, _ string, hostPort uint16) error {
	if hostPort != 8080 {
		return errdefs.ErrNotFound.WithMessage("not forwarded")
	}
	return nil
}

func (f *netFake) ContainerCapture(ctx context.Context, ref string, o engine.CaptureOptions, open func(context.Context) io.Writer) error {
	if ref != "web" {
		return errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	}
	f.note("capture", o.Filter, o.Interface, strconv.Itoa(o.Count), o.Duration.String())
	w := open(ctx)
	if _, err := io.WriteString(w, "begins,"); err != nil {
		return err
	}
	if o.Count == 0 {
		<-ctx.Done() // the client has had enough
	}
	_, err := io.WriteString(w, "ends")
	return err
}

func (f *netFake) ContainerReach(ref string, port uint16) ([]network.ReachPort, bool, error) {
	f.note("reach", ref, strconv.Itoa(int(port)))
	return []network.ReachPort{{Proto: "tcp", Port: 80, Listens: []netip.Addr{netip.IPv6Unspecified()}, From: []network.ReachFrom{{Who: "the host", Reached: true}}}}, true, nil
}

func (f *netFake) Residents() []engine.Resident { return nil }

func (f *netFake) Deaths(engine.DeathsOptions) ([]*death.Record, error) { return nil, nil }

func (f *netFake) NetworkSurvey() (network.Survey, error) {
	return network.Survey{Members: []network.Member{{
		Container: "c1", Endpoint: network.Endpoint{Interface: "eth0", Network: "app", IPv4: netip.MustParsePrefix("10.0.0.2/24")},
	}}}, nil
}

func (f *netFake) ContainerForwards(string) ([]network.Published, error) { return nil, nil }

func (f *netFake) ContainerQueries(context.Context, string) (keeper.Queries, error) {
	return keeper.Queries{
		All: 7, External: true, Upstreams: []resolver.Upstream{{Addr: netip.MustParseAddrPort("192.0.2.1:53"), From: "--dns", Inside: true}},
		Last: []resolver.Query{{Name: "db", Type: "A", Server: resolver.Embedded, Code: "NOERROR", Took: 3 * time.Microsecond, Answers: []string{"10.0.0.2"}}},
	}, nil
}

func TestNetworkAnswers(t *testing.T) {
	f := &netFake{}
	d := serve(t, &fake{Backend: f})
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{post, "/v1.51/networks/create", `{"Name":"new"}`, 201, `{"Id":"n1","Warning":""}`},
		{post, "/v1.51/networks/create", `{"Name":"app"}`, 409, "network with name app already exists"},
		{remove, "/networks/app", "", 403, "network app has active endpoints"},
		{remove, "/networks/nosuch", "", 404, "network nosuch not found"},
		{post, "/v1.51/networks/app/connect", `{"Container":"web","EndpointConfig":{"MacAddress":"02:00:00:00:00:01"}}`, 200, ""},
		{post, "/networks/app/disconnect", `{"Container":"web"}`, 200, ""},
		{post, "/networks/prune", "", 200, `{"NetworksDeleted":["old"]}`},
		{get, "/porthole/containers/web/packets?filter=arp&interface=eth0&count=1&seconds=2", "", 200, "begins,ends"},
		{post, "/porthole/containers/web/packets", "enough", 200, "begins,ends"},
		{get, "/porthole/containers/nosuch/packets?count=1", "", 404, "No such container: nosuch"},
		{get, "/porthole/containers/web/packets?count=-1", "", 400, "must not be negative"},
		{get, "/porthole/containers/web/packets?count=x", "", 400, "invalid syntax"},
		{
			get, "/porthole/containers/web/reach?port=80", "", 200,
			`{"Note":"the container is paused: the kernel takes connections, and nobody answers","Ports":[{"Port":"80/tcp","Listens":["::"],"From":[{"Who":"the host","Reached":true,"By":[],"Why":""}]}]}`,
		},
		{get, "/porthole/containers/web/reach?port=0", "", 400, "invalid port"},
		{get, "/porthole/whois?what=10.0.0.2", "", 200, `{"Asked":"10.0.0.2","As":"address","Found":[{"Kind":"container","Id":"c1","Status":"removed",`},
		{get, "/porthole/whois?what=10.0.0.3", "", 404, "nobody here has the address 10.0.0.3"},
		{get, "/porthole/whois?what=:0", "", 400, "invalid port"},
		{post, "/porthole/net/check?from=web&target=db:80", "", 200, `[{"Name":"connect","State":"failed","Detail":"refused","Hint":"listen"}]`},
		{post, "/porthole/containers/web/forwards?port=80/tcp&hostPort=8080", "", 200, `[{"HostIp":"127.0.0.1","HostPort":8080,"Port":"80/tcp"}]`},
		{post, "/porthole/containers/web/forwards?port=x", "", 400, `invalid port specification`},
		{post, "/porthole/containers/web/forwards?port=80&hostPort=70000", "", 400, `invalid port: \"70000\"`},
		{post, "/porthole/containers/web/forwards?port=80&hostIp=x", "", 400, `invalid IP address: \"x\"`},
		{get, "/porthole/containers/web/forwards", "", 200, `[]`},
		{remove, "/porthole/containers/web/forwards?hostPort=8080", "", 200, `{}`},
		{remove, "/porthole/containers/web/forwards?hostPort=1", "", 404, `not forwarded`},
		{remove, "/porthole/containers/web/forwards", "", 400, `invalid port`},
		{get, "/porthole/containers/web/names", "", 200, `{"Servers":[{"Address":"192.0.2.1:53","From":"--dns","Inside":true}],"External":true,"Total":7,"Queries":[{"At":"0001-01-01T00:00:00Z","Name":"db","Type":"A","Protocol":"","Server":"embedded","Code":"NOERROR","Answers":["10.0.0.2"],"Microseconds":3}]}`},
	} {
		resp, body := d.ask(t, c.method, c.path, c.body)
		if resp.StatusCode != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, resp.StatusCode, body, c.status, c.want)
		}
	}
	for _, want := range []string{"connect app web 02:00:00:00:00:01", "disconnect app web", "check web db:80", "forward web 80/tcp invalid IP"} {
		if !strings.Contains(strings.Join(f.asked, "\n"), want) {
			t.Errorf("the engine was not asked to %q: %q", want, f.asked)
		}
	}
	if !strings.Contains(strings.Join(f.asked, "\n"), "capture arp eth0 1 2s") {
		t.Errorf("the engine was not asked to capture: %q", f.asked)
	}
	// Older versions of the API know less.
	f.asked = nil
	d.ask(t, post, "/v1.46/networks/create", `{"Name":"new","EnableIPv4":false}`)
	d.ask(t, post, "/v1.43/networks/app/connect", `{"Container":"web","EndpointConfig":{"MacAddress":"02:00:00:00:00:01"}}`)
	if got := strings.Join(f.asked, "\n"); got != "connect app web " {
		t.Errorf("asked %q", got)
	}
}

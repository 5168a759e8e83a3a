package keeper

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/linux/sockdiag"
	"github.com/portholehq/porthole/internal/testenv"
)

// FuzzPut holds of what a keeper is asked for: what is refused changes nothing, and
// what is not is served at the addresses that were asked for and at no other, until
// it is dropped. Its ports are in a network namespace of the test.
func FuzzPut(f *testing.F) {
	for _, s := range []string{
		`{"ports":[{"proto":"tcp","host_ips":["127.0.0.1","::1"],"port":80},{"proto":"udp","host_ips":["0.0.0.0"],"first":4000,"last":4002,"port":53}]}`,
		`{"ports":[{"proto":"tcp","host_ips":["0.0.0.0"],"first":4000,"port":80},{"proto":"tcp","host_ips":["127.0.0.1"],"first":4000,"last":4001,"port":81}]}`,
		`{"ports":[{"proto":"tcp","host_ips":[""],"first":4000}]}`,
		`{"ports":[{"proto":"udp","host_ips":[""],"first":4000}]}`,
		`{"ports":[{"proto":"sctp","host_ips":["127.0.0.1"],"first":4000}]}`,
		`{"ports":[{"proto":"tcp","host_ips":["::ffff:127.0.0.1","fe80::1%lo"],"first":65535,"last":1}]}`,
		`{"resolver":{"servers":["127.0.0.1","","::"],"external":true},"networks":[{"network":"n","names":[],"links":{"a":""},"ipv4":""}]}`,
		`{"ports":[{},{"host_ips":["127.0.0.1","127.0.0.1"],"first":7}]}`, `{"id":"other","pid":1}`, `null`, `{"ports":null} x`, `[`,
	} {
		f.Add([]byte(s))
	}
	host := testenv.NetNS(f)
	up := func() error { return exec.Command(testenv.NeedsProgram(f, "ip"), "link", "set", "lo", "up").Run() }
	testenv.InNetNS(f, host, up)
	pid := inNetNS(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 4096 {
			return
		}
		s := New("test", os.DevNull)
		routes := s.routes()
		ask := func(method string, in []byte) (status int, out string) {
			testenv.InNetNS(t, host, func() error {
				r := httptest.NewRequestWithContext(t.Context(), method, "/sandboxes/one", strings.NewReader(string(in)))
				w := httptest.NewRecorder()
				routes.ServeHTTP(w, r)
				status, out = w.Code, w.Body.String()
				return nil
			})
			return status, out
		}
		t.Cleanup(s.closeAll)
		first := fmt.Appendf(nil, `{"pid":%d,"ports":[{"proto":"tcp","host_ips":["127.0.0.1"],"first":4001,"port":80}]}`, pid)
		if status, out := ask(http.MethodPut, first); status != http.StatusOK {
			t.Fatalf("%d: %s", status, out)
		}
		was, before := s.list(), listening(t, host)

		var spec map[string]json.RawMessage
		_ = json.Unmarshal(body, &spec)
		if _, named := spec["pid"]; !named && spec != nil {
			spec["pid"] = fmt.Appendf(nil, "%d", pid)
			body, _ = json.Marshal(spec)
		}
		status, out := ask(http.MethodPut, body)
		if status != http.StatusOK {
			var r Refusal
			if err := json.Unmarshal([]byte(out), &r); err != nil || r.Message == "" || status != http.StatusBadRequest && status != http.StatusConflict {
				t.Errorf("%s: %d, %s", body, status, out)
			}
			if diff := cmp.Diff(was, s.list(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" && len(s.list()) > 0 {
				t.Errorf("%s is refused: %s (-before +after)\n%s", body, out, diff)
			}
			if after := listening(t, host); !slices.Equal(after, before) && len(s.list()) > 0 {
				t.Errorf("%s is refused: %s, listening at %v, before at %v", body, out, after, before)
			}
		} else {
			served(t, s, host, body, out)
		}
		if status, out := ask(http.MethodDelete, nil); status != http.StatusOK {
			t.Errorf("%d: %s", status, out)
		}
		if after := listening(t, host); len(after) > 0 || len(s.list()) > 0 {
			t.Errorf("%s is dropped: listening at %v", body, after)
		}
	})
}

// served compares what a sandbox has with what was asked for.
func served(t *testing.T, s *Server, host *os.File, body []byte, out string) {
	t.Helper()
	var spec Sandbox
	var answer Answer
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatal(err)
	}
	// What follows the value is nobody's.
	if err := json.NewDecoder(strings.NewReader(string(body))).Decode(&spec); err != nil {
		t.Fatal(err)
	}
	if len(answer.HostPorts) != len(spec.Ports) {
		t.Fatalf("%s: %s", body, out)
	}
	var want []string
	for i, p := range spec.Ports {
		n := answer.HostPorts[i]
		if n == 0 || p.First > 0 && (n < p.First || n > max(p.First, p.Last)) {
			t.Errorf("%s: %s", body, out)
		}
		for _, ip := range p.HostIPs {
			want = append(want, fmt.Sprintf("%s %s", p.Proto, netip.AddrPortFrom(ip.WithZone(""), n)))
		}
	}
	slices.Sort(want)
	if got := listening(t, host); !slices.Equal(got, want) {
		t.Errorf("%s: listening at %v, want %v", body, got, want)
	}
	list := s.list()
	spec.ID = "one"
	if len(list) != 1 {
		t.Fatalf("%s: %v", body, list)
	}
	if got, _ := json.Marshal(list[0].Sandbox); string(got) != mustJSON(t, spec) {
		t.Errorf("%s has become %s", body, got)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// listening are the sockets of a network namespace that can be connected to.
func listening(t *testing.T, netns *os.File) (list []string) {
	t.Helper()
	for _, k := range []sockdiag.Kind{sockdiag.TCP4, sockdiag.TCP6, sockdiag.UDP4, sockdiag.UDP6} {
		sockets, err := sockdiag.Dump(netns, k)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sockets {
			if proto := strings.TrimRight(k.Name, "46"); proto == "udp" || s.State == sockdiag.Listening {
				list = append(list, fmt.Sprintf("%s %s", proto, s.Local))
			}
		}
	}
	slices.Sort(list)
	return list
}

// inNetNS is a process in a network namespace of its own, that ends with this one.
// The thread that starts it may end before, as those of testenv.InNetNS do.
func inNetNS(f *testing.F) (pid int) {
	f.Helper()
	cmd := exec.Command(testenv.NeedsProgram(f, "sh"), "-c", "ip link set lo up; exec cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	in, err := cmd.StdinPipe()
	if err != nil {
		f.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if _, err := in.Write([]byte("up")); err != nil {
		f.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 2)); err != nil {
		f.Fatal(err)
	}
	return cmd.Process.Pid
}

package server

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/record/death"
)

func TestAnswers(t *testing.T) {
	d := serve(t, &fake{})
	tests := []struct {
		name         string
		method, path string
		body         string
		headers      []string
		status       int
		want         string
	}{
		{"ping", get, "/_ping", "", nil, 200, "OK"},
		{"ping with version", get, "/v1.45/_ping", "", nil, 200, "OK"},
		{"newest version", get, "/v1.51/_ping", "", nil, 200, "OK"},
		{"too new", get, "/v1.99/_ping", "", nil, 400, `{"message":"client version 1.99 is too new. Maximum supported API version is 1.51"}`},
		{"too old", get, "/v1.39/info", "", nil, 400, `{"message":"client version 1.39 is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version"}`},
		{"older than JSON errors", get, "/v1.12/info", "", nil, 400, "client version 1.12 is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version"},
		{"no such page", get, "/v1.45/nothing", "", nil, 404, `{"message":"page not found"}`},
		{"wrong method", post, "/info", "", nil, 404, `{"message":"page not found"}`},
		{"options", http.MethodOptions, "/v1.45/anything", "", nil, 200, ""},
		{"start", post, "/containers/web/start", "", nil, 204, ""},
		{"start by id", post, "/v1.45/containers/" + fakeID + "/start", "", nil, 204, ""},
		{"start with a body", post, "/containers/web/start", `{"Binds":["/a:/b"]}`, nil, 400, `{"message":"starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"}`},
		{"no such container", post, "/containers/nope/start", "", nil, 404, `{"message":"No such container: nope","hint":"porthole ps -a"}`},
		{"not modified", post, "/containers/web/stop?t=1", "", nil, 304, ""},
		{"stop with a bad timeout", post, "/containers/web/stop?t=x", "", nil, 400, `{"message":"strconv.Atoi: parsing \"x\": invalid syntax"}`},
		{"conflict", post, "/containers/web/kill", "", nil, 409, `{"message":"cannot kill container: web: container ` + fakeID + ` is not running","hint":"start it with: porthole start web; see its last words with: porthole logs web"}`},
		{
			"name in use", post, "/containers/create?name=web", `{"Image":"taken"}`, nil, 409,
			`{"message":"Conflict. The container name \"/web\" is already in use by container \"abc\".","hint":"free the name with: porthole rm web"}`,
		},
		{"no such image", get, "/images/nope/json", "", nil, 404, `{"message":"No such image: nope:latest","hint":"see what there is with: porthole images"}`},
		{"create", post, "/containers/create?name=web", `{"Image":"nginx","Unknown":1}`, nil, 201, `{"Id":"` + fakeID + `","Warnings":[]}`},
		{
			"create without image", post, "/containers/create", `{"Image":"missing"}`, nil, 404,
			`{"message":"No such image: missing:latest","hint":"see what there is with: porthole images; bring one in with: porthole pull NAME, or porthole load -i FILE.tar"}`,
		},
		{"create, empty object", post, "/containers/create", `{}`, nil, 400, `{"message":"config cannot be empty in order to create a container"}`},
		{"create, broken", post, "/containers/create", `{"Image":`, nil, 400, `{"message":"invalid JSON: unexpected EOF"}`},
		{"create, blank", post, "/containers/create", ` `, nil, 400, `{"message":"invalid JSON: got EOF while reading request body"}`},
		{"create, wrong type", post, "/containers/create", `{"Image":1}`, nil, 400, `{"message":"invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Config.Image of type string"}`},
		{"create, more behind", post, "/containers/create", `{"Image":"a"}{}`, nil, 400, `{"message":"unexpected content after JSON"}`},
		{
			"create, other content", post, "/containers/create", `Image=a`,
			[]string{"Content-Type", "application/x-www-form-urlencoded"},
			400,
			`{"message":"unsupported Content-Type header (application/x-www-form-urlencoded): must be 'application/json'"}`,
		},
		{"samples", get, "/porthole/containers/web/samples?last=3", "", nil, 200, `{"time":"1970-01-01T00:00:05Z","pids":3}`},
		{"samples since when", get, "/porthole/containers/web/samples?since=x", "", nil, 400, `{"message":"invalid value for \"since\": invalid timestamp \"x\": invalid seconds \"x\": invalid syntax"}`},
		{"samples of how many", get, "/porthole/containers/web/samples?last=-1", "", nil, 400, `{"message":"invalid value for \"last\": \"-1\" is no number of samples"}`},
		{"why of nothing", get, "/porthole/containers/nosuch/why", "", nil, 404, `{"message":"No such container: nosuch","hint":"porthole ps -a"}`},
		{"sockets of nothing", get, "/porthole/containers/nosuch/sockets", "", nil, 404, `{"message":"No such container: nosuch","hint":"see all containers with: porthole ps -a"}`},
		{"files of nothing", get, "/porthole/containers/nosuch/files", "", nil, 404, `{"message":"No such container: nosuch","hint":"see all containers with: porthole ps -a"}`},
		{"timeline between what", get, "/porthole/containers/web/timeline?around=die&since=1", "", nil, 400, `{"message":"around excludes since and until"}`},
		{"timeline of how many", get, "/porthole/containers/web/timeline?limit=-1", "", nil, 400, `{"message":"window and limit must not be negative"}`},
		{"timeline backwards", get, "/porthole/containers/web/timeline?since=2&until=1", "", nil, 400, `{"message":"since must not be after until"}`},
		{"compare with nothing", get, "/porthole/compare?a=web", "", nil, 400, `{"message":"a and b must both name a container or an image"}`},
		{"processes of which", get, "/porthole/processes?filters=x", "", nil, 400, `{"message":"invalid filter: invalid character 'x' looking for beginning of value"}`},
		{"mounts of nothing", get, "/porthole/containers/nosuch/mounts?all=1", "", nil, 404, `{"message":"No such container: nosuch","hint":"see all containers with: porthole ps -a"}`},
		{"trace of nothing", post, "/porthole/containers/nosuch/trace", "", nil, 404, `{"message":"No such container: nosuch","hint":"see all containers with: porthole ps -a"}`},
		{"trace of what does not run", post, "/porthole/containers/web/trace?failed=1", "", nil, 409, `{"message":"container web is not running","hint":"start it with: porthole start web; see its last words with: porthole logs web"}`},
		{"trace of no call", post, "/porthole/containers/web/trace?call=nosuch", "", nil, 400, `{"message":"unknown system call: nosuch"}`},
		{"trace by a bad time", post, "/porthole/containers/web/trace?slow=x", "", nil, 400, `{"message":"invalid value for \"slow\": time: invalid duration \"x\""}`},
		{"why of no such number", get, "/porthole/containers/web/why?run=-1", "", nil, 400, `{"message":"run must not be negative"}`},
		{"samples of nothing", get, "/porthole/containers/nope/samples", "", nil, 404, `{"message":"No such container: nope","hint":"porthole ps -a"}`},
		{"execs", get, "/porthole/containers/web/execs", "", nil, 200, `[{"id":"e1","container_id":"` + fakeID + `","pid":7,"user":"root","command":[],"tty":false,"started_at":"1970-01-01T00:00:05Z","attached":false,"die_with_client":false}]`},
		{"execs of nothing", get, "/porthole/containers/nope/execs", "", nil, 404, `{"message":"No such container: nope","hint":"porthole ps -a"}`},
		{"signal an exec", post, "/porthole/exec/e1/signal?signal=HUP", "", nil, 200, `{"id":"e1","container_id":"","pid":0,"user":"HUP","command":[],"tty":false,"started_at":"0001-01-01T00:00:00Z","attached":false,"die_with_client":false}`},
		{"signal no exec", post, "/porthole/exec/e2/signal", "", nil, 404, `{"message":"No such exec instance: e2"}`},
		{"once", post, "/porthole/containers/web/once", `{"command":["a","b"]}`, nil, 200, `{"token":"ta-b"}`},
		{"once, not there", post, "/porthole/containers/nope/once", `{}`, nil, 404, `{"message":"No such container: nope","hint":"porthole ps -a"}`},
		{"start once", post, "/porthole/containers/web/start-once?token=t", "", nil, 204, ""},
		{"start once, too late", post, "/porthole/containers/web/start-once?token=x", "", nil, 409, `{"message":"container web is not ready"}`},
		{"debug", post, "/porthole/debug", `{"target":"web","command":["ls"]}`, nil, 201, `{"id":"d1","target":"` + fakeID + `","name":"web","state":"running","writes":"live","user":"root","command":["ls"]}`},
		{"core", get, "/porthole/cores/web", "", nil, 200, fakeCoreText},
		{"cores", get, "/porthole/cores", "", nil, 200, "[" + fakeCoreText + "]"},
		{"core's file", get, "/porthole/cores/c0de000000000001/elf", "", nil, 200, "\x7fELF"},
		{"no core", get, "/porthole/cores/nope/elf", "", nil, 404, `{"message":"No such core: nope"}`},
		{"remove core", remove, "/porthole/cores/c0de000000000001", "", nil, 200, `{}`},
		{"remove no core", remove, "/porthole/cores/nope", "", nil, 404, `{"message":"No such core: nope"}`},
		{"debug nothing", post, "/porthole/debug", `{}`, nil, 400, `{"message":"No target specified"}`},
		{"debug what is not there", post, "/porthole/debug", `{"target":"nope"}`, nil, 404, `{"message":"No such container: nope","hint":"porthole ps -a"}`},
		{"debug session", get, "/porthole/debug/d1", "", nil, 200, `{"id":"d1","target":"","name":"","state":"","writes":"","user":"","command":null,"changes":["A /x"],"changed":1}`},
		{"no debug session", get, "/porthole/debug/d2", "", nil, 404, `{"message":"No such debug session: d2"}`},
		{"debug sessions", get, "/porthole/debug", "", nil, 200, `[{"id":"d1","target":"","name":"","state":"","writes":"","user":"","command":null,"pid":7,"client":{"pid":9}}]`},
		{"die with client", post, "/porthole/exec/e1/die-with-client", "", nil, 200, `{}`},
		{"die with client, not", post, "/porthole/exec/e1/die-with-client?set=0", "", nil, 409, `{"message":"exec command e1 is already running"}`},
		{"exec without command", post, "/containers/web/exec", `{}`, nil, 400, `{"message":"No exec command specified"}`},
		{"resize without height", post, "/containers/web/resize?w=1", "", nil, 400, `{"message":"invalid resize height \"\": invalid syntax"}`},
		{"resize below zero", post, "/containers/web/resize?h=1&w=-1", "", nil, 400, `{"message":"invalid resize width \"-1\": value out of range"}`},
		{"wait for what", post, "/containers/web/wait?condition=tea", "", nil, 400, `{"message":"invalid condition: \"tea\""}`},
		{"logs of no stream", get, "/containers/web/logs", "", nil, 400, `{"message":"Bad parameters: you must choose at least one stream"}`},
		{"logs since when", get, "/containers/web/logs?stdout=1&since=x", "", nil, 400, `{"message":"invalid value for \"since\": invalid timestamp \"x\": invalid seconds \"x\": invalid syntax"}`},
		{"events backwards", get, "/events?since=20&until=10", "", nil, 400, "{\"message\":\"`since` time (20) cannot be after `until` time (10)\"}"},
		{"events of what", get, "/events?filters=" + url.QueryEscape(`{"tea":["x"]}`), "", nil, 400, `{"message":"invalid filter 'tea'"}`},
		{"pull", post, "/images/create?fromImage=alpine&tag=3", "", nil, 200, "{\"status\":\"docker.io/library/alpine:3 for , all false\"}"},
		{"pull all", post, "/images/create?fromImage=alpine", "", nil, 200, "{\"status\":\"docker.io/library/alpine for , all true\"}"},
		{"pull in a name", post, "/images/create?fromImage=alpine&tag=3", "", []string{"X-Registry-Auth", urlBase64(`{"username":"tester"}`)}, 200, "{\"status\":\"docker.io/library/alpine:3 for tester, all false\"}"},
		{"pull in an old way", post, "/images/create?fromImage=alpine&tag=3", "", []string{"X-Registry-Auth", base64.StdEncoding.EncodeToString([]byte(`{"auth":"b2xkOnB3"}`))}, 200, "{\"status\":\"docker.io/library/alpine:3 for old, all false\"}"},
		{"pull is denied", post, "/images/create?fromImage=alpine&tag=3", "", []string{"X-Registry-Auth", urlBase64(`{"username":"nobody"}`)}, 404, `{"message":"pull access denied for alpine"}`},
		{"pull fails late", post, "/images/create?fromImage=alpine&tag=3", "", []string{"X-Registry-Auth", urlBase64(`{"username":"late"}`)}, 200, "{\"status\":\"docker.io/library/alpine:3 for late, all false\"}\r\n{\"errorDetail\":{\"message\":\"toomanyrequests\"},\"error\":\"toomanyrequests\"}"},
		{"pull with broken credentials", post, "/images/create?fromImage=alpine", "", []string{"X-Registry-Auth", "c2VjcmV0"}, 400, `{"message":"invalid X-Registry-Auth header: not base64url-encoded JSON"}`},
		{"push", post, "/images/alpine/push?tag=3", "", nil, 200, "{\"aux\":{\"Tag\":\"false\",\"Digest\":\"sha256:1\",\"Size\":7}}"},
		{"login", post, "/auth", `{"username":"u","password":"secret","serveraddress":"r"}`, nil, 200, `{"IdentityToken":"identity","Status":"Login Succeeded"}`},
		{"login is refused", post, "/auth", `{"username":"u","password":"no","serveraddress":"r"}`, nil, 401, `{"message":"Get \"r\": unauthorized"}`},
		{"search", get, "/images/search?term=a&filters=" + url.QueryEscape(`{"stars":["2"]}`), "", nil, 200, `[{"name":"a","description":"","star_count":25,"is_official":true,"is_automated":false}]`},
		{"search too much", get, "/images/search?term=a&limit=101", "", nil, 400, `{"message":"limit 101 is outside the range of [1, 100]"}`},
		{"pull with a bad name", post, "/images/create?fromImage=UP", "", nil, 400, `{"message":"invalid reference format: repository name (library/UP) must be lowercase"}`},
		{"checkpoints", get, "/containers/web/checkpoints", "", nil, 501, `{"message":"checkpoint is not available in this build of Porthole"}`},
		{"swarm", get, "/services", "", nil, 503, `{"message":"This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."}`},
		{"plugins", get, "/plugins", "", nil, 200, "[]"},
		{"save", get, "/images/quay.io/a/b:1/get", "", nil, 200, "tar of quay.io/a/b:1"},
		{
			"image of a platform", get, "/images/nginx/json?platform=" + url.QueryEscape(`{"os":"linux","architecture":"arm64","variant":"v8"}`), "", nil, 200,
			`{"Architecture":"arm64","Author":"","Comment":"","Config":{"Cmd":null,"Entrypoint":null,"Env":null,"Labels":null,"OnBuild":null,"User":"","Volumes":null,"WorkingDir":""},` +
				`"DockerVersion":"","Id":"sha256:2","Metadata":{"LastTagTime":"0001-01-01T00:00:00Z"},"Os":"linux","Parent":"","RepoDigests":[],"RepoTags":[],"RootFS":{},"Size":7}`,
		},
		{
			"image of another platform", get, "/images/nginx/json?platform=" + url.QueryEscape(`{"os":"linux","architecture":"amd64"}`), "", nil, 404,
			`{"message":"image with reference nginx was found but does not provide the specified platform (linux/amd64)"}`,
		},
		{"image of half a platform", get, "/images/nginx/json?platform=" + url.QueryEscape(`{"os":"linux"}`), "", nil, 400, `{"message":"both OS and Architecture must be provided"}`},
		{
			"history of another platform", get, "/images/nginx/history?platform=" + url.QueryEscape(`{"os":"linux","architecture":"amd64"}`), "", nil, 404,
			`{"message":"image with reference nginx was found but does not provide the specified platform (linux/amd64)"}`,
		},
		{"history", get, "/images/nginx/history", "", nil, 200, "[]"},
		{"df of what", get, "/system/df?type=tea", "", nil, 400, `{"message":"unknown object type: tea"}`},
		{
			"images, newest", get, "/v1.51/images/json", "", nil, 200,
			`[{"Containers":2,"Created":0,"Id":"sha256:1","Labels":null,"ParentId":"","RepoDigests":[],"RepoTags":[],"SharedSize":0,"Size":9007199254740993}]`,
		},
		{
			"images, 1.42", get, "/v1.42/images/json", "", nil, 200,
			`[{"Containers":-1,"Created":0,"Id":"sha256:1","Labels":null,"ParentId":"","RepoDigests":["<none>@<none>"],"RepoTags":["<none>:<none>"],"SharedSize":0,"Size":9007199254740993,"VirtualSize":9007199254740993}]`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := d.ask(t, tt.method, tt.path, tt.body, tt.headers...)
			if resp.StatusCode != tt.status {
				t.Errorf("status %d, want %d", resp.StatusCode, tt.status)
			}
			if diff := cmp.Diff(tt.want, strings.TrimSpace(body)); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPingHeaders(t *testing.T) {
	d := serve(t, &fake{})
	for _, method := range []string{get, head} {
		resp, _ := d.ask(t, method, "/_ping", "")
		want := map[string]string{
			"Api-Version": "1.51", "Docker-Experimental": "false", "Ostype": "linux", "Builder-Version": "2",
			"Server": "Porthole/0.1 (linux)", "Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache",
			"Swarm": "inactive", "Content-Type": "text/plain; charset=utf-8",
		}
		got := map[string]string{}
		for k := range want {
			got[k] = resp.Header.Get(k)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", method, diff)
		}
	}
}

func TestErrorHeader(t *testing.T) {
	d := serve(t, &fake{})
	resp, _ := d.ask(t, post, "/containers/n%C3%B6p%7Fe/start", "")
	text := resp.Header.Get(api.ErrorHeader)
	var got api.Error
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if diff := cmp.Diff(api.Error{Message: "No such container: nöp\x7fe", Hint: "porthole ps -a"}, got); diff != "" {
		t.Error(diff)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r >= 0x7f }) {
		t.Errorf("not for a header: %q", text)
	}
}

// field digs through decoded JSON.
func field(t *testing.T, body string, path ...string) (any, bool) {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[key]; !ok {
			return nil, false
		}
	}
	return v, true
}

func TestInspectForms(t *testing.T) {
	d := serve(t, &fake{})
	tests := []struct {
		version string
		path    []string
		want    any
		present bool
	}{
		{"1.51", []string{"NetworkSettings", "IPPrefixLen"}, 16.0, true},
		{"1.51", []string{"NetworkSettings", "IPAddress"}, "", true},
		{"1.51", []string{"GraphDriver", "Name"}, "overlayfs", true},
		{"1.51", []string{"Storage"}, nil, false},
		{"1.51", []string{"Config", "OnBuild"}, nil, true},
		{"1.51", []string{"NetworkSettings", "Networks", "back", "Aliases"}, []any{"a"}, true},
		{"1.44", []string{"NetworkSettings", "Networks", "back", "Aliases"}, []any{"a", fakeID[:12], "web-host"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.version+" "+strings.Join(tt.path, "."), func(t *testing.T) {
			_, body := d.ask(t, get, "/v"+tt.version+"/containers/web/json", "")
			got, present := field(t, body, tt.path...)
			if diff := cmp.Diff(tt.want, got); diff != "" || present != tt.present {
				t.Errorf("present %v, want %v; (-want +got):\n%s", present, tt.present, diff)
			}
		})
	}
}

func TestInfoForms(t *testing.T) {
	d := serve(t, &fake{})
	_, body := d.ask(t, get, "/v1.45/info", "")
	if got, _ := field(t, body, "ContainerdCommit", "Expected"); got != "abc" {
		t.Errorf("1.45: ContainerdCommit.Expected = %v", got)
	}
	if _, ok := field(t, body, "BridgeNfIptables"); !ok {
		t.Error("1.45: BridgeNfIptables is missing")
	}
	_, body = d.ask(t, get, "/v1.51/info", "")
	if _, ok := field(t, body, "BridgeNfIptables"); ok {
		t.Error("1.51: BridgeNfIptables is there")
	}
	_, body = d.ask(t, get, "/version", "")
	for _, path := range [][]string{{"ApiVersion"}, {"MinAPIVersion"}} {
		if got, _ := field(t, body, path...); got == "" {
			t.Errorf("version: %v is empty", path)
		}
	}
}

func TestListForms(t *testing.T) {
	d := serve(t, &fake{})
	for ver, want := range map[string]bool{"1.47": false, "1.48": true} {
		_, body := d.ask(t, get, "/v"+ver+"/containers/json", "")
		if got := strings.Contains(body, "ImageManifestDescriptor"); got != want {
			t.Errorf("%s: descriptor shown: %v, want %v", ver, got, want)
		}
		if strings.Contains(body, `"Health"`) {
			t.Errorf("%s: Health is shown, which came with 1.52", ver)
		}
	}
}

// TestOnlyIDs has a list answer with ids alone, where they are all that is wanted.
func TestOnlyIDs(t *testing.T) {
	d := serve(t, &fake{})
	_, body := d.ask(t, get, "/containers/json?only-ids=1", "")
	if diff := cmp.Diff(`[{"Id":"`+fakeID+`"}]`, strings.TrimSpace(body)); diff != "" {
		t.Error(diff)
	}
}

func TestCreateForms(t *testing.T) {
	const mac = "02:42:ac:11:00:02"
	tests := []struct {
		name    string
		version string
		body    string
		err     string
		warning string
		check   func(t *testing.T, req container.CreateRequest)
	}{
		{
			name: "default network", version: "1.51", body: `{"Image":"a","HostConfig":{"NetworkMode":"default"},"NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":["x"]}}}}`,
			check: func(t *testing.T, req container.CreateRequest) {
				if req.HostConfig.NetworkMode != "bridge" || req.NetworkingConfig.EndpointsConfig["bridge"] == nil || len(req.NetworkingConfig.EndpointsConfig) != 1 {
					t.Errorf("mode %q, endpoints %v", req.HostConfig.NetworkMode, req.NetworkingConfig.EndpointsConfig)
				}
			},
		},
		{
			name: "read-only was not recursive", version: "1.43", body: `{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"CreateMountpoint":true}}]}}`,
			check: func(t *testing.T, req container.CreateRequest) {
				if o := req.HostConfig.Mounts[0].BindOptions; !o.ReadOnlyNonRecursive || !o.CreateMountpoint {
					t.Errorf("options %+v", o)
				}
			},
		},
		{
			name: "old mounts lose options of other types", version: "1.41", body: `{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","VolumeOptions":{},"BindOptions":{"CreateMountpoint":true}}]}}`,
			check: func(t *testing.T, req container.CreateRequest) {
				if m := req.HostConfig.Mounts[0]; m.VolumeOptions != nil || m.BindOptions.CreateMountpoint {
					t.Errorf("mount %+v", m)
				}
			},
		},
		{
			name: "options of other types", version: "1.42", body: `{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","VolumeOptions":{}}]}}`,
			err: `VolumeOptions must not be specified on mount type "bind"`,
		},
		{
			name: "image mount too early", version: "1.47", body: `{"Image":"a","HostConfig":{"Mounts":[{"Type":"image"}]}}`,
			err: `Mount type "Image" needs API v1.48 or newer`,
		},
		{
			name: "two networks too early", version: "1.43", body: `{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"b":{},"a":{}}}}`,
			err: "Container cannot be created with multiple network endpoints: a, b",
		},
		{
			name: "capabilities of 1.40", version: "1.40", body: `{"Image":"a","HostConfig":{"Capabilities":["CAP_CHOWN"]}}`,
			err: "the HostConfig.Capabilities field is not supported by this daemon; use CapAdd and CapDrop to set capabilities",
		},
		{
			name: "MAC address of the container", version: "1.43", body: `{"Image":"a","MacAddress":"` + mac + `"}`,
			check: func(t *testing.T, req container.CreateRequest) {
				if got := req.NetworkingConfig.EndpointsConfig["bridge"].MacAddress.String(); got != mac {
					t.Errorf("address %q", got)
				}
			},
		},
		{
			name: "MAC address, deprecated", version: "1.44", body: `{"Image":"a","MacAddress":"` + mac + `"}`,
			warning: "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.",
		},
		{
			name: "pids unlimited", version: "1.51", body: `{"Image":"a","HostConfig":{"PidsLimit":-1}}`,
			check: func(t *testing.T, req container.CreateRequest) {
				if req.HostConfig.PidsLimit != nil {
					t.Errorf("limit %d", *req.HostConfig.PidsLimit)
				}
			},
		},
		{
			name: "console size too early", version: "1.41", body: `{"Image":"a","HostConfig":{"ConsoleSize":[10,20]}}`,
			check: func(t *testing.T, req container.CreateRequest) {
				if req.HostConfig.ConsoleSize != [2]uint{} {
					t.Errorf("size %v", req.HostConfig.ConsoleSize)
				}
			},
		},
		{
			name: "publish to any port", version: "1.51", body: `{"Image":"a","HostConfig":{"PortBindings":{"80/tcp":[]}}}`,
			check: func(t *testing.T, req container.CreateRequest) {
				for port, b := range req.HostConfig.PortBindings {
					if len(b) != 1 {
						t.Errorf("%s: %v", port, b)
					}
				}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{}
			d := serve(t, f)
			resp, body := d.ask(t, post, "/v"+tt.version+"/containers/create", tt.body)
			if tt.err != "" {
				if got, _ := field(t, body, "message"); got != tt.err || resp.StatusCode != 400 {
					t.Errorf("%d %v, want %q", resp.StatusCode, got, tt.err)
				}
				return
			}
			if resp.StatusCode != 201 {
				t.Fatalf("%d %s", resp.StatusCode, body)
			}
			want := []string{}
			if tt.warning != "" {
				want = append(want, tt.warning)
			}
			var out container.CreateResponse
			if err := json.Unmarshal([]byte(body), &out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, out.Warnings); diff != "" {
				t.Errorf("warnings: %s", diff)
			}
			if tt.check != nil {
				tt.check(t, f.created[0])
			}
		})
	}
}

func TestBodyTooLarge(t *testing.T) {
	d := serve(t, &fake{})
	body := `{"Image":"` + strings.Repeat("a", maxJSON) + `"}`
	resp, text := d.ask(t, post, "/containers/create", body)
	want := fmt.Sprintf("invalid JSON: the request body is larger than %d bytes", maxJSON)
	if got, _ := field(t, text, "message"); got != want || resp.StatusCode != 400 {
		t.Errorf("%d %v", resp.StatusCode, got)
	}
}

func TestWaitSendsHeadersFirst(t *testing.T) {
	f := &fake{waits: make(chan container.WaitResponse, 1)}
	d := serve(t, f)
	req, err := http.NewRequestWithContext(t.Context(), post, "http://d/v1.51/containers/web/wait?condition=next-exit", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.http.Do(req) // returns with the headers
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	f.waits <- container.WaitResponse{StatusCode: 3}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(body); got != "{\"StatusCode\":3}\n" {
		t.Errorf("body %q", got)
	}
}

func TestEvents(t *testing.T) {
	f := &fake{events: []events.Message{
		{Type: events.ImageEventType, Action: events.ActionCreate, Actor: events.Actor{ID: "sha256:1"}},
		{Type: events.ContainerEventType, Action: events.ActionStart, Actor: events.Actor{ID: "abc", Attributes: map[string]string{"image": "nginx"}}, Scope: "local", Time: 1, TimeNano: 2},
	}}
	d := serve(t, f)
	const start = `{"status":"start","id":"abc","from":"nginx","Type":"container","Action":"start","Actor":{"ID":"abc","Attributes":{"image":"nginx"}},"scope":"local","time":1,"timeNano":2,"porthole":{"seq":2}}` + "\n"
	const create = `{"status":"create","id":"sha256:1","Type":"image","Action":"create","Actor":{"ID":"sha256:1","Attributes":null},"porthole":{"seq":1}}` + "\n"
	tests := []struct{ name, version, accept, kind, want string }{
		{"newest", "1.51", "", "application/json", create + start},
		{"without image create", "1.45", "", "application/json", start},
		{"sequence", "1.51", "application/json-seq", "application/json-seq", "\x1e" + create + "\x1e" + start},
		{"lines", "1.51", "text/html, application/x-ndjson;q=1", "application/x-ndjson", create + start},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := d.ask(t, get, "/v"+tt.version+"/events", "", "Accept", tt.accept)
			if got := resp.Header.Get("Content-Type"); got != tt.kind {
				t.Errorf("content type %q, want %q", got, tt.kind)
			}
			if diff := cmp.Diff(tt.want, withoutActor(body)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// withoutActor leaves out of events who asked, which is this test itself.
func withoutActor(body string) string {
	return regexp.MustCompile(`("seq":[0-9]+),[^}]*`).ReplaceAllString(body, "$1")
}

func TestEventsTellTheActor(t *testing.T) {
	f := &fake{events: []events.Message{{Type: events.ContainerEventType, Action: events.ActionStart}}}
	_, body := serve(t, f).ask(t, get, "/events?after=41", "")
	var e api.Event
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatal(err)
	}
	got := e.Porthole
	if got.UID == nil || int(*got.UID) != os.Getuid() || int(got.PID) != os.Getpid() || !slices.Equal(got.Command, os.Args) || got.Request == "" || got.Seq != 1 {
		t.Errorf("event by %+v, want this process", got)
	}
	if f.eventsAsked.After != 41 {
		t.Errorf("asked for events after %d", f.eventsAsked.After)
	}
	for _, after := range []string{"0", "-1", "x"} {
		if resp, _ := serve(t, f).ask(t, get, "/events?after="+after, ""); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("after=%s gives %s", after, resp.Status)
		}
	}
}

// frames decodes a multiplexed stream into "1:text" pieces.
func frames(t *testing.T, body string) []string {
	t.Helper()
	var out []string
	for len(body) > 0 {
		if len(body) < frameHead {
			t.Fatalf("cut frame %q", body)
		}
		n := int(binary.BigEndian.Uint32([]byte(body[4:8])))
		out = append(out, fmt.Sprintf("%d:%s", body[0], body[frameHead:frameHead+n]))
		body = body[frameHead+n:]
	}
	return out
}

func TestLogs(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 60, time.FixedZone("x", 3600))
	entries := []engine.LogEntry{
		{Time: at, Stream: engine.Stdout, Line: []byte("one\n"), Details: "a=b"},
		{Time: at, Stream: engine.Stderr, Line: []byte("two\x00\n"), Dropped: 7},
		{Time: at, Stream: engine.Stdout, Line: []byte("thr"), Details: "a=b"},
		{Time: at, Stream: engine.Stdout, Line: []byte("ee\n"), Continued: true, Details: "a=b"},
		{Time: at, Stream: engine.Stdout, Dropped: 2},
	}
	replay := func(_ context.Context, _ engine.LogsOptions, fn func(engine.LogEntry) error) error {
		for _, e := range entries {
			if err := fn(e); err != nil {
				return err
			}
		}
		return nil
	}
	const (
		gap  = "porthole: 7 lines dropped here: rotated away or not written\n"
		last = "porthole: 2 lines dropped here: rotated away or not written\n"
	)
	tests := []struct {
		name, query string
		tty         bool
		kind        string
		want        []string
		raw         string
	}{
		{
			name: "plain", query: "/v1.51/containers/web/logs?stdout=1&stderr=1", kind: "application/vnd.docker.multiplexed-stream",
			want: []string{"1:one\n", "2:" + gap, "2:two\x00\n", "1:thr", "1:ee\n", "2:" + last},
		},
		{
			name: "before 1.42", query: "/v1.41/containers/web/logs?stdout=1", kind: "application/vnd.docker.raw-stream",
			want: []string{"1:one\n", "2:two\x00\n", "1:thr", "1:ee\n"},
		},
		{
			name: "times and details", query: "/v1.51/containers/web/logs?stdout=1&stderr=1&timestamps=1&details=1", kind: "application/vnd.docker.multiplexed-stream",
			want: []string{"1:2026-01-02T02:04:05.000000060Z a=b one\n", "2:2026-01-02T02:04:05.000000060Z " + gap, "2:2026-01-02T02:04:05.000000060Z  two\x00\n", "1:2026-01-02T02:04:05.000000060Z a=b thr", "1:ee\n", "2:2026-01-02T02:04:05.000000060Z " + last},
		},
		{
			name: "terminal", query: "/v1.51/containers/web/logs?stdout=1", tty: true, kind: "application/vnd.docker.raw-stream",
			raw: "one\ntwo\x00\nthree\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := serve(t, &fake{tty: tt.tty, logs: replay})
			resp, body := d.ask(t, get, tt.query, "")
			if got := resp.Header.Get("Content-Type"); got != tt.kind {
				t.Errorf("content type %q, want %q", got, tt.kind)
			}
			if got := resp.Header.Get(api.MissingLinesHeader); got != "9" {
				t.Errorf("missing lines %q", got)
			}
			if tt.tty {
				if diff := cmp.Diff(tt.raw, body); diff != "" {
					t.Error(diff)
				}
				return
			}
			if diff := cmp.Diff(tt.want, frames(t, body)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLogsOptions(t *testing.T) {
	var got engine.LogsOptions
	d := serve(t, &fake{logs: func(_ context.Context, o engine.LogsOptions, _ func(engine.LogEntry) error) error {
		got = o
		return nil
	}})
	tests := []struct {
		query string
		want  engine.LogsOptions
	}{
		{"stdout=1", engine.LogsOptions{Stdout: true, Tail: -1}},
		{"stderr=true&tail=all&follow=1", engine.LogsOptions{Stderr: true, Tail: -1, Follow: true}},
		{"stdout=1&tail=0&until=0", engine.LogsOptions{Stdout: true}},
		{"stdout=1&tail=-5", engine.LogsOptions{Stdout: true, Tail: -1}},
		{"stdout=1&since=10.5&until=20", engine.LogsOptions{
			Stdout: true, Tail: -1,
			Since: time.Unix(10, 500_000_000).UTC(), Until: time.Unix(20, 0).UTC(),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			resp, _ := d.ask(t, get, "/containers/web/logs?"+tt.query, "")
			if resp.StatusCode != 200 {
				t.Fatal(resp.Status)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLogsErrors(t *testing.T) {
	fail := errdefs.ErrNotImplemented.WithMessage("configured logging driver does not support reading")
	d := serve(t, &fake{logs: func(_ context.Context, o engine.LogsOptions, fn func(engine.LogEntry) error) error {
		if o.Follow { // late: the answer has begun
			if err := fn(engine.LogEntry{Stream: engine.Stdout, Line: make([]byte, lazySize+1)}); err != nil {
				return err
			}
		}
		return fail
	}})
	resp, body := d.ask(t, get, "/containers/web/logs?stdout=1", "")
	if got, _ := field(t, body, "message"); got != fail.Error() || resp.StatusCode != 501 {
		t.Errorf("early: %d %v", resp.StatusCode, got)
	}
	_, body = d.ask(t, get, "/containers/web/logs?stdout=1&follow=1", "")
	f := frames(t, body)
	if got, want := f[len(f)-1], "3:Error grabbing logs: "+fail.Error()+"\n"; got != want {
		t.Errorf("late: %q, want %q", got, want)
	}
}

func TestFollowIsSeenAtOnce(t *testing.T) {
	next := make(chan string)
	d := serve(t, &fake{tty: true, logs: func(ctx context.Context, _ engine.LogsOptions, fn func(engine.LogEntry) error) error {
		for {
			select {
			case line := <-next:
				if err := fn(engine.LogEntry{Stream: engine.Stdout, Line: []byte(line)}); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}})
	req, _ := http.NewRequestWithContext(t.Context(), get, "http://d/containers/web/logs?stdout=1&follow=1", http.NoBody)
	resp, err := d.http.Do(req) // headers arrive although nothing was logged
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 16)
	for _, line := range []string{"one\n", "two\n"} {
		next <- line
		n, err := io.ReadFull(resp.Body, buf[:len(line)])
		if err != nil || string(buf[:n]) != line {
			t.Fatalf("%q %v", buf[:n], err)
		}
	}
}

func TestLoad(t *testing.T) {
	f := &fake{}
	d := serve(t, f)
	resp, body := d.ask(t, post, "/images/load?quiet=0", "the archive", "Content-Type", "application/x-tar")
	want := "{\"status\":\"Loading layer\"}\r\n{\"stream\":\"Loaded image: busybox:latest\\n\"}\r\n{\"stream\":\"Loaded image ID: sha256:123\\n\"}\r\n"
	if diff := cmp.Diff(want, body); diff != "" || resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, diff)
	}
	if string(f.loaded) != "the archive" {
		t.Errorf("loaded %q", f.loaded)
	}
	if _, body = d.ask(t, post, "/images/load", "x", "Content-Type", "application/x-tar"); strings.Contains(body, "Loading layer") {
		t.Error("quiet load reports progress")
	}
	f.loadErr = errdefs.ErrInvalidArgument.WithMessage("archive/tar: invalid tar header")
	_, body = d.ask(t, post, "/images/load", "x", "Content-Type", "application/x-tar")
	want = "{\"errorDetail\":{\"message\":\"archive/tar: invalid tar header\"},\"error\":\"archive/tar: invalid tar header\"}\r\n"
	if diff := cmp.Diff(want, body); diff != "" {
		t.Error(diff)
	}
}

func TestSaveThatBreaksOffIsNoArchive(t *testing.T) {
	d := serve(t, &fake{})
	req, _ := http.NewRequestWithContext(t.Context(), get, "http://d/images/broken/get", http.NoBody)
	resp, err := d.http.Do(req)
	if err == nil {
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		t.Error("the client takes half an archive for a whole one")
	}
}

func TestPanicIsAnError(t *testing.T) {
	d := serve(t, &fake{})
	resp, body := d.ask(t, get, "/volumes", "") // the fake has no volumes
	if resp.StatusCode != 500 || !strings.Contains(body, "panic: ") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if logs := d.logs.String(); !strings.Contains(logs, "request panicked") || !strings.Contains(logs, "VolumeList") {
		t.Errorf("no stack in the log: %s", logs)
	}
	if resp, _ := d.ask(t, get, "/_ping", ""); resp.StatusCode != 200 {
		t.Error("the server is gone")
	}
}

func TestDebugLog(t *testing.T) {
	on := true
	d := serve(t, &fake{}, func(o *Options) { o.Debug = func() bool { return on } })
	d.ask(t, post, "/v1.51/containers/create?name=web", `{"Image":"a","Env":[{"Password":"hunter2"}],"data":"hunter2"}`,
		"X-Registry-Auth", "hunter2")
	logs := d.logs.String()
	for _, want := range []string{"handling request", "method=POST", "/v1.51/containers/create?name=web", "vars.version=1.51", "Image", "*****"} {
		if !strings.Contains(logs, want) {
			t.Errorf("no %q in %s", want, logs)
		}
	}
	d.ask(t, head, "/_ping", "")
	if logs = d.logs.String(); !strings.Contains(logs, "request handled") || !strings.Contains(logs, "status=200") {
		t.Errorf("no end of a request in %s", logs)
	}
	if strings.Contains(logs, "hunter2") {
		t.Errorf("a secret in %s", logs)
	}
	// The body is still there for the handler: it has refused Env.
	if !strings.Contains(logs, "error response") || !strings.Contains(logs, "status=400") {
		t.Errorf("no error response in %s", logs)
	}
	on = false
	d.ask(t, post, "/containers/web/start", "")
	if strings.Contains(d.logs.String(), "web/start") {
		t.Error("logged without debug mode")
	}
}

func TestDaemonState(t *testing.T) {
	f := &fake{waits: make(chan container.WaitResponse)}
	d := serve(t, f)
	req, _ := http.NewRequestWithContext(t.Context(), post, "http://d/containers/web/wait", http.NoBody)
	waiting, err := d.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Body.Close()
	_, body := d.ask(t, get, "/porthole/daemon", "")
	var got api.Daemon
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Operations) != 2 || got.Operations[0].Path != "/containers/web/wait" || !strings.Contains(got.Operations[0].Peer, "uid ") {
		t.Errorf("operations %+v", got.Operations)
	}
	if got.Goroutines == 0 || len(got.Fds) == 0 || got.RSSBytes == 0 || got.Parts["engine"] == nil {
		t.Errorf("state %+v", got)
	}
	f.waits <- container.WaitResponse{}
}

// TestOperations: what the engine has under way is shown by itself, and with the container that it is about.
func TestOperations(t *testing.T) {
	d := serve(t, &fake{})
	want := []api.EngineOperation{{
		ID: 3, Verb: "exec start", Container: fakeID, Name: "web", By: &api.Actor{UID: new(uint32(1000)), PID: 42, Command: []string{"docker", "exec", "web", "true"}},
		AgeMilliseconds: 12000, Slow: true, WaitsFor: "pause",
	}}
	_, body := d.ask(t, get, "/porthole/operations", "")
	var list []api.EngineOperation
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	_, body = d.ask(t, get, "/containers/web/json", "")
	var inspected struct{ Porthole api.Container }
	if err := json.Unmarshal([]byte(body), &inspected); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, inspected.Porthole.Operations); diff != "" {
		t.Error(diff)
	}
}

func TestIsolation(t *testing.T) {
	d := serve(t, &fake{})
	resp, body := d.ask(t, get, "/porthole/containers/web/isolation", "")
	var got api.Isolation
	if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d, %v", resp.StatusCode, err)
	}
	if !strings.HasPrefix(string(got.Plan), "{") {
		t.Errorf("plan %s", got.Plan)
	}
	got.Plan = nil
	want := api.Isolation{
		ID: "web", IDs: &api.IDRange{Host: 100000, Size: 65536},
		Steps: []api.Step{{Name: "mount root", Microseconds: 42}}, Warnings: []string{"less than asked"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, body = d.ask(t, get, "/porthole/containers/stopped/isolation", "")
	got = api.Isolation{}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if got.Live != nil || got.Expected == nil || got.Expected.Name != "stopped" || got.NoStart != "in the way" || !strings.Contains(string(got.Plan), `"id":"next"`) ||
		got.UsernsNote != "privileged" || got.IDs != nil || len(got.Steps) != 0 || !strings.Contains(body, `"Steps":[]`) {
		t.Errorf("stopped: %s", body)
	}
	if resp, _ := d.ask(t, get, "/porthole/containers/nope/isolation", ""); resp.StatusCode != 404 {
		t.Errorf("nope: %d", resp.StatusCode)
	}
}

func TestDebugEndpoints(t *testing.T) {
	d := serve(t, &fake{})
	for path, want := range map[string]string{
		"/debug/vars":                          "memstats",
		"/v1.51/debug/vars":                    "memstats",
		"/debug/pprof/":                        "goroutine",
		"/debug/pprof/cmdline":                 "server.test",
		"/debug/pprof/goroutine?debug=2":       "debugPprof",
		"/v1.51/debug/pprof/goroutine?debug=2": "debugPprof",
	} {
		if resp, body := d.ask(t, get, path, ""); resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d, no %q", path, resp.StatusCode, want)
		}
	}
}

func urlBase64(text string) string { return base64.URLEncoding.EncodeToString([]byte(text)) }

func TestDeaths(t *testing.T) {
	f := &fake{deaths: []*death.Record{{
		Container: "abc", Name: "web", Run: 2, Cause: death.Killed, Exit: death.Exit{Observed: true, Code: 137, Signal: 9, WaitStatus: 9},
		Signals:   &death.SignalMasks{Ignored: 1 | 1<<33 | 1<<35},
		LastLines: []death.Line{{Stream: "stdout", Text: []byte("a")}, {Stream: "stderr", Text: []byte{0xff}}},
	}}}
	d := serve(t, f)
	resp, body := d.ask(t, get, "/porthole/containers/web/deaths?run=2&execs=1&limit=3", "")
	var got []api.Death
	if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != http.StatusOK || len(got) != 1 {
		t.Fatal(resp.Status, body, err)
	}
	if diff := cmp.Diff([]string{"SIGHUP", "SIGRTMIN", "SIGRTMIN+2"}, got[0].Signals.Ignored); diff != "" {
		t.Error(diff)
	}
	if g := got[0]; g.Text != "killed by SIGKILL, not by us" || g.SignalFrom != "not-by-us" || g.LastLines[0].Text != "a" || g.LastLines[1].Bytes[0] != 0xff {
		t.Errorf("got %+v", g)
	}
	if want := (engine.DeathsOptions{Container: "web", Run: 2, Execs: true, Limit: 3}); f.deathsAsked != want {
		t.Errorf("asked for %+v", f.deathsAsked)
	}
	for path, status := range map[string]int{
		"/porthole/deaths": 200, "/porthole/deaths?run=x": 400, "/porthole/deaths?limit=-1": 400, "/porthole/containers/nosuch/deaths": 404,
	} {
		if resp, _ := d.ask(t, get, path, ""); resp.StatusCode != status {
			t.Errorf("%s gives %s, want %d", path, resp.Status, status)
		}
	}
}

func TestHealth(t *testing.T) {
	d := serve(t, &fake{})
	for path, want := range map[string]string{
		"/porthole/containers/web/health":       `{"Status":"unhealthy","FailingStreak":2,"Results":[{"Run":3,"Start":"0001-01-01T00:00:00Z","End":"0001-01-01T00:00:00Z","ExitCode":1,"Output":"DB down","Status":""}]}`,
		"/porthole/containers/unchecked/health": `{"Status":"none","FailingStreak":0,"Results":[]}`,
	} {
		if _, body := d.ask(t, get, path, ""); strings.TrimSpace(body) != want {
			t.Errorf("%s gives %s", path, body)
		}
	}
	if resp, _ := d.ask(t, get, "/porthole/containers/nosuch/health", ""); resp.StatusCode != http.StatusNotFound {
		t.Error(resp.Status)
	}
}

const fakeCoreText = `{"ID":"c0de000000000001","ContainerID":"","ContainerName":"web","Image":"","Run":0,"Time":"0001-01-01T00:00:00Z","PID":0,"PIDInside":7,` +
	`"First":false,"Process":"perl","UID":0,"Signal":"SIGSEGV","Bytes":4,"DiskBytes":0,"Truncated":false}`

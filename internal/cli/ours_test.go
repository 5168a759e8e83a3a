package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portholehq/porthole/api"
)

// TestOwnWays holds what Docker's client does not do, or not in the same way.
func TestOwnWays(t *testing.T) {
	for name, c := range map[string]struct {
		line           string
		out, err, none string // text that must be there; that must not be
		code           int
	}{
		"rm -f is silent about what is not there": {line: "rm -f nosuch web", out: "web\n", none: "No such", code: 0},
		"contexts are refused":                    {line: "-c other ps", err: "contexts are not supported", code: 1},
		"the default context is fine":             {line: "-c default ps -q", out: webID[:12], code: 0},
		"use-api-socket is refused":               {line: "create --use-api-socket busybox", err: "--use-api-socket is not supported", code: 125},
		"json excludes a format":                  {line: "ps --json --format x", err: "cannot specify both --format and --json", code: 1},
		"detach keys are checked first":           {line: "run --detach-keys nope busybox", err: "invalid detach keys (nope)", none: newID, code: 1},
		"networks outside their subnet":           {line: "network create --subnet nope n", err: "invalid subnet", code: 1},
		"an address that is none":                 {line: "run --ip nope busybox", err: `invalid argument "nope" for "--ip" flag`, code: 125},
		"private user namespace":                  {line: "create --userns private busybox", out: newID, code: 0},
		"build is a common command":               {line: "--help", out: "  ps          List containers\n  build       Build", code: 0},
		"completion knows the containers":         {line: "__complete stop ”", out: "web\n", code: 0},
		"completion knows the images":             {line: "__complete run ”", out: "busybox:latest\n", code: 0},
		"completion knows the networks":           {line: "__complete network rm ”", out: "net10\n", code: 0},
		"completion leaves out what is there":     {line: "__complete network rm net10 ”", out: "net2\n", none: "net10", code: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := words(c.line)
			for n, arg := range args {
				args[n] = strings.ReplaceAll(arg, "”", "")
			}
			got := porthole(t).run(t, newFakeAPI(t, fixtures()).host, args...)
			if got.Code != c.code || !strings.Contains(got.Out, c.out) || !strings.Contains(got.Err, c.err) {
				t.Errorf("got %s\nwant code %d, %q and %q", got, c.code, c.out, c.err)
			}
			if c.none != "" && strings.Contains(got.Out+got.Err, c.none) {
				t.Errorf("got %s\nwant no %q", got, c.none)
			}
		})
	}
}

// TestJSON: --json gives what the daemon has, whole.
func TestJSON(t *testing.T) {
	for line, fields := range map[string][]string{
		"ps -a --json":                 {"Id", "ImageID", "HostConfig"},
		"images --json":                {"Id", "RepoTags"},
		"network ls --json":            {"Id", "IPAM"},
		"volume ls --json":             {"Mountpoint"},
		"history --json busybox":       {"CreatedBy"},
		"stats --no-stream --json web": {"CPUPercent", "Memory"},
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			got := porthole(t).run(t, newFakeAPI(t, fixtures()).host, words(line)...)
			var list []object
			if err := json.Unmarshal([]byte(got.Out), &list); err != nil || len(list) == 0 {
				t.Fatalf("%v in %s", err, got)
			}
			for _, f := range fields {
				if _, ok := list[0][f]; !ok {
					t.Errorf("no field %q in %v", f, list[0])
				}
			}
		})
	}
}

// TestHint: what the daemon suggests to try is shown below its error.
func TestHint(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /containers/web/kill", func(w http.ResponseWriter, _ *http.Request) {
		e := api.Error{Message: "cannot kill container: web", Hint: "porthole logs web"}
		text, _ := json.Marshal(e)
		w.Header().Set(api.ErrorHeader, string(text))
		answer(w, http.StatusConflict, e)
	})
	got := porthole(t).run(t, newFakeAPI(t, mux).host, "kill", "web")
	if want := "Error response from daemon: cannot kill container: web\nhint: porthole logs web\n"; got.Err != want || got.Code != 1 {
		t.Errorf("got %s, want %q", got, want)
	}
}

// TestHintOfStream: so is what comes in a stream of progress, with the error that it ends with.
func TestHintOfStream(t *testing.T) {
	mux := http.NewServeMux()
	fails := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"Unpacking"}`+"\r\n"+
			`{"errorDetail":{"message":"unpack: no space left on device"},"error":"unpack: no space left on device","hint":"porthole system df -v"}`+"\r\n")
	}
	mux.HandleFunc("POST /images/{verb...}", fails)
	mux.HandleFunc("POST /build", fails)
	dir := t.TempDir()
	archive := filepath.Join(dir, "Dockerfile")
	if err := os.WriteFile(archive, []byte("FROM scratch\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	host := newFakeAPI(t, mux).host
	for _, line := range []string{"pull b", "load -i " + archive, "import " + archive, "push b", "build " + dir, "build -q " + dir} {
		got := porthole(t).run(t, host, words(line)...)
		if want := "unpack: no space left on device\nhint: porthole system df -v\n"; got.Err != want || got.Code != 1 {
			t.Errorf("%s: %s, want %q", line, got, want)
		}
	}
}

func TestNoDaemon(t *testing.T) {
	for _, line := range []string{"ps", "run busybox", "exec c true", "start c", "logs c", "images", "info", "stop a b"} {
		got := porthole(t).run(t, "unix:///nowhere/s", words(line)...)
		const want = "Cannot connect to the Porthole daemon at unix:///nowhere/s. Is the porthole daemon running?"
		code := 1
		if strings.HasPrefix(line, "run") {
			code = 125
		}
		if got.Code != code || !strings.Contains(got.Err, want) {
			t.Errorf("%s: %s", line, got)
		}
	}
}

// TestHarmless: what a container has said or named does nothing to a terminal.
func TestHarmless(t *testing.T) {
	const evil = "a\x1b]0;x\x07b\u009bc\u202ed"
	mux := http.NewServeMux()
	for path, body := range map[string]any{
		"/porthole/containers/{id}/health": api.Health{Results: []api.HealthResult{{ExitCode: 1, Status: "unhealthy", Output: evil}}},
		"/porthole/deaths":                 []api.Death{{Name: "web", Text: evil, Command: []string{evil}, Observed: true}},
		"/porthole/containers/{id}/why": api.Why{
			Summary: evil, Verdicts: []api.Verdict{{Text: evil, Evidence: []string{evil}, Next: []string{evil}}}, Notes: []string{evil}, Unknown: []string{evil},
			LastWords: []api.DeathLine{{Text: evil}, {Bytes: []byte(evil + "\xff")}}, History: []api.WhyRun{{Text: evil, LastLine: evil}},
		},
		"/porthole/processes": []api.ContainerProcesses{{Name: evil, Status: "running", Processes: []api.Process{{User: evil, Command: evil}}}, {Name: "x", Unknown: evil}},
		"/porthole/containers/{id}/sockets": api.Sockets{
			Sockets: []api.Socket{{Local: evil, Holders: []api.Holder{{Name: evil}}, PeerHolders: []api.Holder{{Name: evil}}}}, Unknown: []string{evil},
		},
		"/porthole/containers/{id}/files": api.OpenFiles{
			Files: []api.OpenFile{{Holder: api.Holder{Name: evil}, Type: "file", Path: evil, Peers: []api.Holder{{Name: evil}}}}, Mapped: []api.MappedFile{{Path: evil}}, Unknown: []string{evil},
		},
		"/porthole/containers/{id}/timeline": api.Timeline{Entries: []api.TimelineEntry{{Source: "log", Kind: evil, Text: evil}}, Unknown: []string{evil}},
		"/porthole/containers/{id}/grafts":   []api.Graft{{Source: evil, Destination: evil}},
		"/porthole/compare":                  api.Comparison{A: api.Compared{Name: evil}, B: api.Compared{Name: evil}, Differences: []api.Difference{{Group: "env", Key: evil}}, Unknown: []string{evil}},
		"/porthole/containers/{id}/isolation": api.Isolation{
			UsernsNote: evil, Steps: []api.Step{{Name: evil}}, Warnings: []string{evil},
			Live: &api.IsolationLive{
				Name: evil, AppArmor: evil, MaskedPaths: []string{evil}, Mounts: []api.Mount{{Destination: evil, Source: evil, Kind: evil}}, Unknown: []string{evil},
				Namespaces: []api.Namespace{{Kind: "net", SharedWith: []string{evil}}},
			},
		},
		"/porthole/containers/{id}/mounts": api.Mounts{Mounts: []api.Mount{{Destination: evil, Source: evil, Kind: evil, Filesystem: evil, Note: evil, Next: []string{evil}, Options: []string{evil}}}},
		"/porthole/whois":                  api.Whois{Found: []api.Owner{{Kind: "container", Name: evil, Detail: evil, Image: evil, Command: evil}}},
		"/containers/json":                 []object{{"Id": webID, "Names": []string{"/web"}, "Status": "Up 2 seconds (unhealthy)"}},
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, body) })
	}
	mux.HandleFunc("POST /porthole/containers/{id}/trace", func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // the request lasts as long as the answer
		for _, e := range []api.TraceEvent{
			{Kind: api.TraceBegin},
			{Kind: api.TraceExec, PID: 1, Name: evil, File: evil, Command: []string{"x"}},
			{Kind: api.TraceCall, PID: 1, Name: evil, Call: evil, Args: evil, Result: evil},
			{Kind: api.TraceEnd},
		} {
			_ = json.NewEncoder(w).Encode(e)
		}
	})
	mux.HandleFunc("POST /porthole/net/check", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, []api.Hop{{Name: "connect", State: "ok", Detail: evil, Hint: evil}})
	})
	mux.HandleFunc("POST /containers/web/kill", func(w http.ResponseWriter, _ *http.Request) {
		e := api.Error{Message: evil, Hint: evil}
		text, _ := json.Marshal(e)
		w.Header().Set(api.ErrorHeader, string(text))
		answer(w, http.StatusConflict, e)
	})
	host := newFakeAPI(t, mux).host
	for _, line := range []string{
		"whois 1", "whois --format {{.Name}}{{.Image}}{{.Command}} 1", "net check web db:80", "trace web", "health web", "health --no-trunc --format {{.Output}} web", "deaths", "deaths --no-trunc --format {{.Cause}}{{.Command}}", "why web", "ps --no-trunc", "ps --tree", "sockets web", "files web", "files --mapped web", "timeline web", "mount ls web", "compare a b", "inspect --isolation web",
		"mounts web", "mounts --no-trunc --format {{.Source}}{{.Type}}{{.Filesystem}}{{.Options}}{{.Note}} web",
	} {
		got := porthole(t).run(t, host, words(line)...)
		if got.Code != 0 || !strings.Contains(got.Out, "a\ufffd]0;x\ufffdb\ufffdc\ufffdd") || strings.ContainsAny(got.Out, "\x1b\x07\u009b\u202e") {
			t.Errorf("%s: %s", line, got)
		}
	}
	got := porthole(t).run(t, host, "kill", "web")
	if strings.Count(got.Err, "a\ufffd]0;x\ufffdb\ufffdc\ufffdd") != 2 || strings.ContainsAny(got.Err, "\x1b\x07\u009b\u202e") {
		t.Errorf("an error with a hint: %s", got)
	}
}

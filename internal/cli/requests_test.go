package cli

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/testenv"
)

// requestCases are command lines whose requests are compared with Docker's.
// Files that they name are made by [requestFiles].
var requestCases = []string{
	"busybox",
	"busybox echo a b",
	"-it busybox sh",
	"-i busybox",
	"-t busybox",
	"-a stdin -a stdout busybox",
	"-a STDERR busybox",
	"--name web busybox",
	"-e A=b -e FROM_CLIENT -e NOT_SET -e EMPTY= busybox",
	"--env-file env busybox",
	"--env-file env -e A=flag busybox",
	"-l a=b -l only --label-file labels busybox",
	"-u 1000:1000 busybox",
	"-w /work busybox",
	"-h host --domainname example.com busybox",
	"--entrypoint /bin/sh busybox -c true",
	"--entrypoint= busybox true",
	"-v /data busybox",
	"-v /data -v /more busybox",
	"-v /a:/b busybox",
	"-v /a:/b:ro,z busybox",
	"-v vol:/b busybox",
	"-v vol:/b:nocopy -v /x:/y -v /data busybox",
	"-v ./rel:/b busybox",
	"-v /same:/same -v /same:/same busybox",
	"--mount type=bind,src=/a,dst=/b,readonly busybox",
	"--mount type=bind,src=/a,dst=/b,bind-propagation=rprivate,bind-recursive=readonly,readonly busybox",
	"--mount type=volume,src=v,dst=/b,volume-nocopy,volume-opt=a=b,volume-label=x=y,volume-subpath=s busybox",
	"--mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777 busybox",
	"--mount src=v,dst=/b busybox",
	"--tmpfs /run --tmpfs /tmp:size=1m,mode=1777 busybox",
	"--volumes-from a --volumes-from b:ro --volume-driver local busybox",
	"-p 80 busybox",
	"-p 8080:80 busybox",
	"-p 127.0.0.1:8080:80/udp -p 53:53/udp busybox",
	"-p 8000-8002:80-82 busybox",
	"-p [::1]:8080:80 busybox",
	"-p published=8080,target=80 -p target=90,published=90,protocol=udp busybox",
	"-P --expose 90 --expose 100-102/udp busybox",
	"--network none busybox",
	"--network host busybox",
	"--network container:web busybox",
	"--network net busybox",
	"--network net --network-alias a --network-alias b --ip 10.0.0.2 --ip6 fd00::2 --link-local-ip 169.254.1.1 busybox",
	"--network name=net,alias=x,ip=10.0.0.2,mac-address=02:42:ac:11:00:02,driver-opt=a=b,gw-priority=7 busybox",
	"--network net1 --network net2 busybox",
	"--net net --net-alias z busybox",
	"--mac-address 92:d0:c6:0a:29:33 busybox",
	"--link web:db busybox",
	"--network net --link web:db busybox",
	"--dns 1.1.1.1 --dns 8.8.8.8 --dns-search a.b --dns-search . --dns-option ndots:2 --dns-opt debug busybox",
	"--add-host a:1.2.3.4 --add-host b=5.6.7.8 --add-host g:host-gateway busybox",
	"--rm busybox",
	"--restart always busybox",
	"--restart on-failure:3 busybox",
	"--restart unless-stopped busybox",
	"--init busybox",
	"--init=false busybox",
	"--privileged busybox",
	"--cap-add NET_ADMIN --cap-add ALL --cap-drop MKNOD busybox",
	"--security-opt no-new-privileges busybox",
	"--security-opt seccomp=unconfined --security-opt apparmor=x --security-opt label:disable busybox",
	"--security-opt seccomp=profile.json busybox",
	"--security-opt systempaths=unconfined busybox",
	"--userns host --pid host --uts host --ipc host --cgroupns host busybox",
	"--pid container:web --ipc container:web busybox",
	"--ipc shareable --cgroupns private busybox",
	"--cgroup-parent /x --group-add a --group-add 10 busybox",
	"--ulimit nofile=1024:2048 --ulimit nproc=10 --ulimit core=-1 busybox",
	"--sysctl net.ipv4.ip_forward=1 --sysctl kernel.msgmax=65536 busybox",
	"--device /dev/null busybox",
	"--device /dev/null:/dev/x --device /dev/zero:/dev/y:r --device /dev/full:rw busybox",
	"--device vendor.com/class=name busybox",
	"--device-cgroup-rule c_1:3_rwm busybox",
	"--gpus all busybox",
	"--gpus device=0,capabilities=utility busybox",
	"-m 100m --memory-swap 200m --memory-reservation 50m --memory-swappiness 10 busybox",
	"--memory-swap -1 -m 1g busybox",
	"--cpus 1.5 busybox",
	"-c 512 --cpu-period 100000 --cpu-quota 50000 --cpu-rt-period 1000 --cpu-rt-runtime 900 busybox",
	"--cpuset-cpus 0-1 --cpuset-mems 0 busybox",
	"--pids-limit 100 busybox",
	"--pids-limit -1 busybox",
	"--blkio-weight 300 --blkio-weight-device /dev/sda:200 busybox",
	"--device-read-bps /dev/sda:1mb --device-write-bps /dev/sda:2mb --device-read-iops /dev/sda:10 --device-write-iops /dev/sda:20 busybox",
	"--shm-size 128m busybox",
	"--oom-kill-disable --oom-score-adj 500 busybox",
	"--read-only busybox",
	"--stop-signal SIGINT --stop-timeout 5 busybox",
	"--stop-timeout 0 busybox",
	"--health-cmd true --health-interval 5s --health-timeout 2s --health-retries 3 --health-start-period 1m --health-start-interval 1s busybox",
	"--no-healthcheck busybox",
	"--log-driver json-file --log-opt max-size=10m --log-opt max-file=3 busybox",
	"--storage-opt size=10G busybox",
	"--annotation a=b busybox",
	"--runtime runc --isolation default busybox",
	"--platform linux/amd64 busybox",
	"--pull never -q busybox",
	"--cidfile cid busybox",
	"busybox --name x -e y",
	"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	"localhost:5000/a/b:c@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef true",
}

func requestFiles(t *testing.T, dir string) {
	t.Helper()
	for name, text := range map[string]string{
		"env":          "\ufeffA=file\n# comment\n\nQUOTED=\"kept\"\nFROM_CLIENT\nNOT_SET\n  INDENTED=x y \n",
		"labels":       "x=1\ny\n# no\nz=a=b\n",
		"profile.json": "{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\"\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCreateRequests holds that create and run send what Docker's command
// line of version 28 sends.
func TestCreateRequests(t *testing.T) {
	const file = "testdata/requests.json"
	if *update {
		recordRequests(t, file)
	}
	want := readRequests(t, file)
	for _, line := range requestCases {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			got := createRequest(t, porthole(t), line)
			recorded, ok := want[line]
			if !ok {
				t.Fatalf("no recorded request: run the test with -update")
			}
			if diff := cmp.Diff(recorded, got); diff != "" {
				t.Errorf("request differs from Docker's (-docker +porthole):\n%s", diff)
			}
		})
	}
}

// TestCreateRequestsAreDockers compares the recorded requests with those of
// the Docker at hand.
func TestCreateRequestsAreDockers(t *testing.T) {
	docker := docker28(t)
	want := readRequests(t, "testdata/requests.json")
	for _, line := range requestCases {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(createRequest(t, docker, line), want[line]); diff != "" {
				t.Errorf("recorded request is not Docker's (-docker +recorded):\n%s", diff)
			}
		})
	}
}

// docker28 returns the Docker command line if it is of the version whose ways
// we keep.
func docker28(t testing.TB) program {
	t.Helper()
	docker := program{path: testenv.NeedsProgram(t, "docker")}
	if v := docker.run(t, "unix:///nowhere", "--version").Out; !strings.Contains(v, "version 28.2.") {
		testenv.Skip(t, "needs docker of version 28.2, not %s", strings.TrimSpace(v))
	}
	return docker
}

// createRequest runs "create" with the words of line, in which an underscore
// stands for a space within a word, and returns the decoded request.
func createRequest(t *testing.T, p program, line string) map[string]any {
	t.Helper()
	dir := t.TempDir()
	requestFiles(t, dir)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /containers/create", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusCreated, map[string]any{"Id": "c0ffee", "Warnings": []string{}})
	})
	api := newFakeAPI(t, mux)
	args := strings.Fields(line)
	for n, arg := range args {
		args[n] = strings.ReplaceAll(arg, "_", " ")
		if strings.Contains(arg, "FROM_") || strings.Contains(arg, "NOT_") || strings.Contains(arg, "NET_") {
			args[n] = arg
		}
	}
	cmd := p.command(t, api.host, append([]string{"create"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "c0ffee\n") {
		t.Fatalf("create %s: %v\n%s", line, err, out)
	}
	for _, req := range api.take() {
		if req.Path == "/containers/create" {
			return normalRequest(t, req, dir)
		}
	}
	t.Fatalf("create %s sent no request", line)
	return nil
}

// normalRequest decodes a request and takes away what depends on the run and
// what the two clients' types write in different ways without a difference in
// meaning: a field that is null or the zero of its type is one that is absent.
// Lists that Docker takes from maps, in no order, are sorted.
func normalRequest(t *testing.T, req request, dir string) map[string]any {
	t.Helper()
	text := strings.ReplaceAll(string(req.Body), dir, "DIR")
	var body map[string]any
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatal(err)
	}
	host, _ := body["HostConfig"].(map[string]any)
	for _, list := range []any{host["Binds"], body["Env"]} {
		if list, ok := list.([]any); ok {
			slices.SortFunc(list, func(x, y any) int { return strings.Compare(x.(string), y.(string)) })
		}
	}
	query := map[string]any{}
	for key, values := range req.Query {
		query[key] = strings.Join(values, ",")
	}
	body["query"] = query
	dropZeros(body)
	return body
}

// kept are fields whose zero is not the same as their absence.
var kept = map[string]bool{
	"MaskedPaths": true, "ReadonlyPaths": true, "Entrypoint": true, "Init": true, "StopTimeout": true,
	"Dns": true, "DnsOptions": true, "DnsSearch": true,
}

func dropZeros(m map[string]any) {
	for key, value := range m {
		inner, isMap := value.(map[string]any)
		if isMap {
			dropZeros(inner)
		}
		if kept[key] && value != nil {
			continue
		}
		list, isList := value.([]any)
		switch {
		case value == nil, value == "", value == false, value == float64(0):
			delete(m, key)
		// The members of a set are empty objects and stay.
		case isMap && len(inner) == 0 && !strings.Contains(key, "/"):
			delete(m, key)
		case isList && len(list) == 0:
			delete(m, key)
		}
		for _, item := range list {
			if inner, ok := item.(map[string]any); ok {
				dropZeros(inner)
			}
		}
	}
}

func readRequests(t *testing.T, file string) map[string]map[string]any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func recordRequests(t *testing.T, file string) {
	t.Helper()
	docker := docker28(t)
	all := map[string]map[string]any{}
	for _, line := range requestCases {
		all[line] = createRequest(t, docker, line)
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

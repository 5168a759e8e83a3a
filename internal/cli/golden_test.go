package cli

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// goldenCases are command lines whose output and exit code are compared with
// Docker's, on the daemon of [fixtures]. An argument is quoted by ”...” where
// it has spaces; ”” is an empty one.
var goldenCases = strings.Split(strings.TrimSpace(`
ps
ps -a
ps -aq
ps -q
ps -a --no-trunc
ps -as
ps -n 1
ps -l
ps -a --format json
ps -a --format ''{{json .}}''
ps -a --format ''table {{.Names}}\t{{.Ports}}''
ps -a --format ''{{.ID}} {{.Labels}} {{.Label "a"}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}|{{.State}}''
ps -a --format ''{{.Names}} {{.Size}}''
ps -a --format ''{{upper .Names}} {{lower .Image}} {{title "a b"}} {{pad .ID 1 2}} {{truncate .ID 4}} {{join (split .Names ",") "-"}}''
ps --format ''{{range .Names}}x{{end}}{{if eq .State "running"}}yes{{else}}no{{end}} {{printf "%q" .Image}} {{len .Names}}''
ps --format raw
ps -q --format x
ps --format ''{{.Nope}}''
ps --format ''{{''
ps -f bad=1
ps -f
ps x
ps --nope
ps --help
container ls --help
container ls -a
container list -q
container ps
container nope
container
inspect web
inspect -s web
inspect --size busybox
inspect -f json web
inspect -f ''{{.State.Pid}} {{.Name}} {{.RestartCount}} {{.Config.Env}} {{.Config.ExposedPorts}} {{.HostConfig.Memory}}'' web
inspect -f ''{{.NetworkSettings.IPAddress}} {{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.IPAddress}} [{{$v.IPv6Gateway}}]{{end}}'' web
inspect -f ''{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}'' web
inspect -f ''{{range $p, $b := .NetworkSettings.Ports}}{{$p}}={{$b}};{{end}}'' web
inspect -f ''{{json .State}}'' web
inspect -f ''{{json .Mounts}}'' web
inspect -f ''{{json .NetworkSettings}}'' web
inspect -f ''{{json .Config.Labels}}'' web
inspect -f ''{{.HostConfig.PortBindings}} {{.HostConfig.DNS}} {{.HostConfig.RestartPolicy.Name}}'' web
inspect -f ''{{.FutureField.X}}'' web
inspect -f ''{{.Nope}}'' web
inspect -f ''{{'' web
inspect -f ''{{.Id}}'' web busybox
inspect -f ''{{.ID}}'' busybox
inspect web nosuch
inspect nosuch
inspect -f x nosuch
inspect --type container busybox
inspect --type image busybox
inspect --type network bridge
inspect --type volume data
inspect --type nope x
inspect --type ”” x
inspect
container inspect web
container inspect nosuch
image inspect busybox
network inspect bridge
network inspect -f ''{{.IPAM.Config}} {{json .IPAM}} {{json .Containers}}'' bridge
network inspect nosuch
volume inspect data
volume inspect nosuch
start web
start web nosuch stuck
start -a web nosuch
stop web old
stop nosuch web
stop -t 1 --time 2 web
stop --time 1 web
kill web
kill -s HUP stuck
restart web nosuch
pause web
pause stuck
unpause web
rm web
rm -f web old
rm nosuch web stuck
rm /
rm
wait web
wait nosuch web
rename web other
rename nosuch other
rename web
update web
update -m 1g web nosuch
update --cpus x web
update --restart nope web
top web
top stuck
diff web
diff nosuch
port web
port web 80
port web 80/tcp
port web 443
port web 53/udp
logs web
logs --tail 0 web
logs nosuch
logs -n 5 -t --since 1h --until 2m web
logs
attach old
attach nosuch
exec web
exec nosuch true
exec -it nosuch true
exec -it web true
stats --no-stream web
stats --no-stream --format json web
stats --no-stream --no-trunc --format ''{{.ID}} {{.Container}} {{.PIDs}}'' web
stats --no-stream nosuch
create busybox
create --name web busybox
create missing
create --pull never missing
create --pull nope busybox
create
run
run --rm --restart always busybox
run -d -a stdin busybox
run -it busybox
run --name web busybox
run --cpu-count 2 busybox
run --memory-swappiness 101 busybox
run --pid nope busybox
run --uts nope busybox
run --userns nope busybox
run --cgroupns nope busybox
run --mac-address nope busybox
run --health-interval -1s busybox
run --no-healthcheck --health-cmd x busybox
run --log-driver none --log-opt a=b busybox
run --storage-opt a busybox
run --security-opt a busybox
run --security-opt seccomp=/nosuch busybox
run --env-file /nosuch busybox
run --label-file /nosuch busybox
run -v a:b:c:d busybox
run -v : busybox
run -p nope busybox
run -p 80:x busybox
run --device a:b:c:d busybox
run --device x busybox
run --device-cgroup-rule x busybox
run --ulimit nope busybox
run --sysctl nope busybox
run --add-host nope busybox
run --dns nope busybox
run --link nope: busybox
run --gpus nope=1 busybox
run --restart nope busybox
run --restart on-failure:x busybox
run -m nope busybox
run --cpus nope busybox
run --network-alias a busybox
run --network host --network net busybox
run --network net --network net busybox
run --platform nope/nope/nope/nope busybox
run -a nope busybox
run -e =x busybox
run -l =x busybox
run --cidfile /etc/passwd busybox
run -d busybox
run BAD
run --help
create --help
exec --help
logs --help
start --help
stop --help
rm --help
kill --help
attach --help
cp --help
top --help
wait --help
update --help
port --help
stats --help
events --help
inspect --help
container inspect --help
images --help
image ls --help
rmi --help
import --help
history --help
pull --help
push --help
tag --help
image prune --help
image inspect --help
network ls --help
network create --help
network rm --help
network connect --help
network inspect --help
network prune --help
volume ls --help
volume rm --help
volume inspect --help
volume prune --help
system df --help
system prune --help
container prune --help
login --help
logout --help
search --help
version --help
info --help
network --help
container --help
images
images -q
images --digests
images --no-trunc
images --format ''{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}} {{.CreatedSince}}''
images --format ''table {{.ID}}\t{{.Digest}}''
images nope
images ls
images a b
image ls
rmi busybox
rmi nosuch
rmi -f nosuch
rmi nosuch busybox
tag busybox a
tag nosuch a
tag busybox BAD
history busybox
history --no-trunc busybox
history -q busybox
history -H=false --format ''{{.Size}} {{.Comment}}'' busybox
history nosuch
load -q
load -i /nosuch
load x
pull busybox
pull -q busybox
pull missing
pull BAD
pull -a busybox:x
save -o /nosuch/dir/x busybox
import /nosuch
network ls
network ls -q
network ls --no-trunc
network ls --format json
network ls --format ''{{.Name}} {{.IPv6}} {{.Internal}} {{.Labels}} {{.Label "a"}} {{.CreatedAt}}''
network rm net2 bridge
network rm -f net2
network create n
network create --subnet 10.0.0.0/8 --gateway 11.0.0.1 n
network create --subnet 10.0.0.0/8 --subnet 10.1.0.0/16 n
network create --gateway 10.0.0.1 n
network prune -f
volume ls
volume ls -q
volume ls --format json
volume ls --format ''{{.Name}} {{.Driver}} {{.Mountpoint}} {{.Labels}}''
volume rm data vol2
volume create
volume create --name a b
volume prune -f
volume prune -a --filter all=1
container prune -f
image prune -f
system df
system df --format ''{{.Type}} {{.TotalCount}} {{.Active}}''
system
info
info -f ''{{.ID}} {{.NCPU}}''
info -f ''{{''
info --format ''{{.ClientInfo.Debug}}''
version
version -f ''{{.Server.Version}} {{.Client.Version}}''
version -f ''{{''
version -f ''{{.Nope}}''
events
events --format json
events --format ''{{.Action}} {{.Actor.Attributes.name}}''
events --format ''{{.Nope}}''
events --format ''{{''
login -u a -p b --password-stdin
login --password-stdin
login -u ”” -p x
help nope
nope
-v
--version
-l nope ps
`), "\n")

// notDockers are differences from Docker 28.2 that are meant: texts that
// later versions of Docker have, which are the ones we keep to, and our own.
var notDockers = strings.NewReplacer(
	"Error: No such object", "error: no such object",
	"the input device is not a TTY", "cannot attach stdin to a TTY-enabled container because stdin is not a terminal",
	"You cannot attach to a", "cannot attach to a",
	"Error: failed to start containers", "failed to start containers",
	"Error: No public port", "no public port",
	"Error: Cannot perform an interactive login from a non TTY device", "error: cannot perform an interactive login from a non-TTY device",
	"Error response from daemon: No such container: nosuch\nError: failed to rename container named nosuch",
	"failed to rename container: Error response from daemon: No such container: nosuch",
	"Error parsing reference: ", "error parsing reference: ",
	"Invalid --security-opt", "invalid --security-opt",
	"\n\nSRun '", "\n\nRun '",
	`"|missing"`, `"missing"`,
	// A flag without use, one that is refused, and a view that is not offered.
	"      --kernel-memory bytes              Kernel memory limit\n", "",
	"      --use-api-socket                   Bind mount Docker API socket and\n                                         required auth\n", "",
	"      --tree            List multi-platform images as a tree (EXPERIMENTAL)\n", "",
)

func words(line string) []string {
	var out []string
	for n, part := range strings.Split(strings.ReplaceAll(line, "””", "''\x00''"), "''") {
		if n%2 == 0 {
			out = append(out, strings.Fields(part)...)
		} else {
			out = append(out, strings.TrimPrefix(part, "\x00"))
		}
	}
	return out
}

// TestGolden compares with what Docker printed when testdata was recorded.
func TestGolden(t *testing.T) {
	const file = "testdata/golden.txtar"
	if *update {
		recordGolden(t, file)
	}
	want := readGolden(t, file)
	for _, line := range goldenCases {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			recorded, ok := want[line]
			if !ok {
				t.Fatal("nothing recorded: run the test with -update")
			}
			api := newFakeAPI(t, fixtures())
			got := withoutOurs(porthole(t).run(t, api.host, words(line)...).asDocker())
			if diff := cmp.Diff(recorded, got.String()); diff != "" {
				t.Errorf("differs from Docker (-docker +porthole):\n%s", diff)
			}
		})
	}
}

// TestGoldenIsDockers holds the recorded results against the Docker at hand.
func TestGoldenIsDockers(t *testing.T) {
	docker := docker28(t)
	want := readGolden(t, "testdata/golden.txtar")
	for _, line := range goldenCases {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(dockerGolden(t, docker, line), want[line]); diff != "" {
				t.Errorf("recorded result is not Docker's (-docker +recorded):\n%s", diff)
			}
		})
	}
}

func (r result) String() string {
	text := varying.ReplaceAllString(r.Out, "VARYING")
	if r.Err != "" {
		text += "[stderr]\n" + r.Err
	}
	if !strings.HasSuffix(text, "\n") {
		text += "[no newline]\n"
	}
	return text + fmt.Sprintf("[exit %d]\n", r.Code)
}

// ours are parts that Docker 28.2 does not have.
var ours = regexp.MustCompile(`(?s)` + strings.Join([]string{
	`      --json .*?machines\n`,
	`      --isolation .*?step by step\n`,
	`      --actor .*?asked for it\n`,
	`      --security .*?given\s+it\s+up\n`,
	`      --after uint .*?Seq\)\n`,
	`      --orphans .*?see df -v\n`,
	`      --(die-with-client|kill|list|signal) [^\n]*(is gone|EXEC ID|by exec)\n`,
	`      --tree .*?\(EXPERIMENTAL\)\n`,
	`      --build [^\n]*run as well\n`,
	`      --build .*?last\s+builds,\s+too\n`,
	`      --tree [^\n]*as a tree\n`,
	`\nOptions:\n      --condition [^\n]*\n[^\n]*removed\n|\nOptions:\n      --condition [^\n]*removed\n`,
	`\nOptions:\n      --nspid [^\n]*of the host\n`,
	`      --(plot|since|until|wide) [^\n]*(network over time|then|then \(e.g. "10m"\)|waited for)\n`,
	` \("always": over restarts, too\)`,
	`      --grep .*?\(RE2\)\n`,
	`      --run int .*?has written\n`,
	`      --stream name .*?stdout, stderr\n`,
	`  (deaths|files|health|mounts|sockets) +List [^\n]*\n`,
	`  why +Tell [^\n]*\n`,
	`  timeline +Show [^\n]*\n`,
	`  watch +Watch [^\n]*\n`,
	`  trace +Follow [^\n]*\n`,
	`      --log-denials .*?"why" to tell\n`,
	`      --blackbox .*?its\s+end\n`,
	`; with\s+=learn leave it .*?would need`,
	`  debug +Open [^\n]*\n`,
	`      --(cmd|once) [^\n]*(\n {20,}[^\n]*)*\n`,
	`  -t, --tty +With --once[^\n]*\n`,
	`"HealthStatus":"[a-z]*",`,
}, "|"))

func withoutOurs(r result) result {
	r.Out, r.Err = ours.ReplaceAllString(r.Out, ""), ours.ReplaceAllString(r.Err, "")
	return r
}

// varying are parts that depend on the time, and on how a client was built.
var varying = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC|(?m)^ (API version|Go version|Built):.*$`)

func dockerGolden(t *testing.T, docker program, line string) string {
	t.Helper()
	api := newFakeAPI(t, fixtures())
	r := docker.run(t, api.host, words(line)...)
	r.Err, r.Out = notDockers.Replace(r.Err), notDockers.Replace(r.Out)
	return r.String()
}

func readGolden(t *testing.T, file string) map[string]string {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range archive.Files {
		out[f.Name] = string(f.Data)
	}
	return out
}

func recordGolden(t *testing.T, file string) {
	t.Helper()
	docker := docker28(t)
	archive := &txtar.Archive{Comment: []byte("What Docker 28.2 does on the daemon of fixtures_test.go; recorded by: go test -run TestGolden -update\n")}
	for _, line := range goldenCases {
		archive.Files = append(archive.Files, txtar.File{Name: line, Data: []byte(dockerGolden(t, docker, line))})
	}
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

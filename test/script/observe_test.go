package script

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// observed are commands for docker, of which some are in error. DIR stands for a directory that has a file f, and a
// backslash joins what belongs to one argument.
const observed = `
import -c CMD\ ["sleep","1000"] FLAT flat:v1
run -d --network none --name box -l k=v -v vol:/data flat:v1 sh -c sleep\ 1000&exec\ sleep\ 2000
exec box sh -c until\ [\ $(pidof\ sleep|wc\ -w)\ =\ 2\ ];do\ usleep\ 10000;done
exec -d box true
top box
top box aux
top box -o pid,ppid,args
top box -eLf
top nosuch
stats --no-stream box
stats --no-stream --no-trunc box
stats --no-stream --format json box
stats --no-stream --format table\ {{.Name}}\t{{.NetIO}}\t{{.BlockIO}} box
stats --no-stream nosuch
exec box sh -c echo>/new;rm\ /bin/awk;mkdir\ /d;chmod\ 700\ /var
exec box sh -c exit\ 3
diff box
diff nosuch
cp DIR/f box:/tmp
cp DIR/f box:/tmp/g
cp -a DIR/f box:/tmp/a
cp DIR/f box:/nope/g
cp DIR/f box:/nope/
cp DIR box:/tmp/f
cp DIR/f nosuch:/
cp DIR/nope box:/
cp box:/tmp/g DIR/h
cp box:/nope DIR
cp box:/etc/passwd DIR/nope/
cp box:/tmp DIR/f
cp nosuch:/f DIR
cp -q box:/tmp/g DIR/q
commit box made:v1
commit -m words -a me -c ENV\ A=b box made:v2
inspect -f {{.Comment}}\ {{.Author}}\ {{.Config.Env}}\ {{.Config.Cmd}}\ {{.Config.Labels}} made:v2
history --format {{.CreatedBy}}\ {{.Comment}} made:v2
commit -p=false box
commit box BAD
commit nosuch
pause box
top box
stats --no-stream box
unpause box
kill -s CONT box
rename box other
update --memory 64m --memory-swap 64m other
restart -t 0 other
stop -t 0 other
start other
export -o DIR/tar other
attach --no-stdin nosuch
kill other
wait other
logs -t other
logs -t nosuch
top other
stats --no-stream other
diff other
cp other:/tmp/g DIR/i
commit other made:v3
commit -c NOPE\ x other
rm other
run --network none --rm --name third flat:v1 sh -c exit\ 4
run --network none --name gone -v vol:/data flat:v1 nosuch
logs -t gone
rm gone
tag flat:v1 flat:v2
rmi flat:v2
rmi made:v1
rmi made:v2
volume rm vol
events --since nonsense
events --since 0 --until 1 --filter nope=x
events --since 0 --until 0s --filter container=nosuch
`

// ways are further ways to look at the events of all that.
var ways = []string{
	"", "--filter type=container --filter event=die", "--filter event=pause --filter event=unpause --filter container=box",
	"--filter label=k=v --filter type=container --filter event=start", "--filter label=k --filter label=none", "--filter image=flat:v1 --filter event=create",
	"--filter volume=vol --filter event=create --filter event=destroy", "--filter type=image --filter event=tag", "--filter event=exec_create",
	"--filter event=die --format {{.Type}}/{{.Action}}/{{.Actor.Attributes.name}}/{{.Scope}}",
	"--filter event=rename --format json",
}

// An exception is a difference between Docker 20.10 and Porthole, which follows Docker 28, with its reason.
type exception struct {
	reason string
	theirs string // in what 20.10 prints, over several lines
	ours   string // what stands there with us
}

// exceptions are applied to what Docker has printed, one after the other.
var exceptions = []exception{
	{
		"since 23.0 the message begins with a small letter",
		`daemon: Container (ID\S*) is not running`, "daemon: container $1 is not running",
	},
	{
		"since 23.0, and with runc 1.1, it says more of where a start has failed; no runc takes part in ours",
		`failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec`,
		"failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start container process: error during container init: exec",
	},
	{
		"since 23.0 a filter that is not known is refused also by events",
		`(docker events --since 0 --until 1 --filter nope=x\n--\n)-- 0`, "${1}Error response from daemon: invalid filter 'nope'\n-- 1",
	},
	{
		"since 23.0 the end of a container has the time that it ran",
		`(container die \S+ \()`, "${1}execDuration=N, ",
	},
	{
		"newer ones publish the creation of a volume only if it was not there yet",
		`TIME volume create vol .*\n(TIME (?:container create \S+ .*name=gone|volume destroy))`, "$1",
	},
	{
		"what diff shows of directories that were made to mount volumes on: docs/compatibility.md",
		`A /data\n`, "",
	},
	{
		"cp has Docker mount the volumes anew, for a moment; ours sees those that are mounted",
		`TIME volume mount vol.*\n((?:TIME container (?:archive-path|extract-to-dir) .*\n)?)TIME volume unmount .*\n`, "$1",
	},
}

// said is what a command has printed, with its errors behind and its status; it may fail.
func (e engine) said(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), e.docker, append([]string{"-H", e.host}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("docker %q: %v", args, err)
	}
	return fmt.Sprintf("%s--\n%s-- %d\n", out.String(), errs.String(), cmd.ProcessState.ExitCode())
}

// now is the time as the daemon has it.
func (e engine) now(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(string(e.run(t, nil, "info", "-f", "{{.SystemTime}}")))
}

// detachedEnds waits until as many execs have ended as were started since then.
func (e engine) detachedEnds(t *testing.T, since string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		said := e.said(t, "events", "--since", since, "--until", e.now(t), "--filter", "event=exec_start", "--filter", "event=exec_die", "--format", "{{.Action}}")
		if n := strings.Count(said, "exec_start"); n > 0 && n == strings.Count(said, "exec_die") {
			return
		}
	}
	t.Fatal("a detached exec does not end")
}

// observe does all steps, and returns what is to be seen on a screen meanwhile, and of the events behind it.
func (e engine) observe(t *testing.T, replace *strings.Replacer) string {
	t.Helper()
	var screen strings.Builder
	began := e.now(t)
	show := func(step string) {
		args := strings.Fields(strings.ReplaceAll(step, `\ `, "\x00"))
		for i, arg := range args {
			args[i] = replace.Replace(strings.ReplaceAll(arg, "\x00", " "))
		}
		said := e.said(t, args...)
		if args[0] == "diff" { // Docker has no order: docs/compatibility.md
			lines := slices.Sorted(strings.Lines(said))
			said = strings.Join(lines, "")
		}
		fmt.Fprintf(&screen, "$ docker %s\n%s", step, said)
		if strings.HasPrefix(step, "exec -d") {
			e.detachedEnds(t, began) // else the next step may see it
		}
	}
	for step := range strings.Lines(strings.TrimSpace(observed)) {
		show(strings.TrimSpace(step))
	}
	ended := e.now(t)
	for _, way := range ways {
		fmt.Fprintf(&screen, "$ docker events %s\n", way)
		all := append([]string{"events", "--since", began, "--until", ended}, strings.Fields(way)...)
		screen.WriteString(e.said(t, all...))
	}
	return screen.String()
}

// What differs between any two runs.
var (
	anyID    = regexp.MustCompile(`\b(?:[0-9a-f]{64}|[0-9a-f]{12})\b`)
	anyTime  = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|[-+]\d\d:\d\d)`)
	anyStamp = regexp.MustCompile(`"time":\d+,"timeNano":\d+`)
	ran      = regexp.MustCompile(`execDuration=\d+`)
	clients  = regexp.MustCompile(`(?m)^time=.*\n`) // what docker says of its own goroutines that were late
	late     = regexp.MustCompile(`(TIME container stop \S+ .*\n)((?:TIME (?:network disconnect|volume unmount) .*\n)+)`)
	anyRow   = regexp.MustCompile(`(?m)^(\$ docker (?:top|stats) (?:.*\n)+?)(--)$`)
	number   = regexp.MustCompile(`\d+(?:\.\d+)?(?:[KMG]i?)?`)
	blanks   = regexp.MustCompile(` {2,}`)
)

// normal replaces ids by their numbers in the order in which they appear, times, and the numbers in the rows of tables.
func normal(text string) string {
	ids := map[string]string{}
	text = anyID.ReplaceAllStringFunc(text, func(id string) string {
		if ids[id[:12]] == "" {
			ids[id[:12]] = fmt.Sprintf("ID%d", len(ids)+1)
		}
		return ids[id[:12]] + map[bool]string{true: "long", false: "short"}[len(id) == 64]
	})
	text = anyTime.ReplaceAllString(text, "TIME")
	text = anyStamp.ReplaceAllString(text, `"time":N,"timeNano":N`)
	text = ran.ReplaceAllString(text, "execDuration=N")
	text = clients.ReplaceAllString(text, "")
	// With us stop does not wait until the container's network is cleared away.
	text = late.ReplaceAllString(text, "$2$1")
	return anyRow.ReplaceAllStringFunc(text, func(rows string) string {
		head, body, _ := strings.Cut(rows, "\n")
		return head + "\n" + blanks.ReplaceAllString(number.ReplaceAllString(body, "N"), "  ")
	})
}

// TestObservedLikeDocker does the same with a real Docker and with Porthole, with one and the same client, and compares
// all that it prints: of events, stats, top, logs -t, diff, cp and commit, and of all other verbs that make events.
func TestObservedLikeDocker(t *testing.T) {
	theirs, ours, image := twoEngines(t)
	t.Cleanup(func() {
		ours.said(t, "rm", "-f", "box", "other", "third", "gone")
		ours.said(t, "rmi", "-f", "flat:v1", "flat:v2", "made:v1", "made:v2", "made:v3")
		ours.said(t, "image", "prune", "-f")
		ours.said(t, "volume", "rm", "-f", "vol")
	})
	dir := t.TempDir()
	flat := filepath.Join(dir, "flat.tar")
	for name, content := range map[string][]byte{flat: image, filepath.Join(dir, "f"): []byte("text\n")} {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	replace := strings.NewReplacer("DIR", dir, "FLAT", flat)
	back := strings.NewReplacer(flat, "FLAT", dir, "DIR")
	want, got := normal(back.Replace(theirs.observe(t, replace))), normal(back.Replace(ours.observe(t, replace)))
	for _, x := range exceptions {
		re := regexp.MustCompile(x.theirs)
		if !re.MatchString(want) {
			t.Errorf("Docker does not print %q: %s", x.theirs, x.reason)
		}
		want = re.ReplaceAllString(want, x.ours)
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("differs (-docker +porthole):\n%s", diff)
	}
}

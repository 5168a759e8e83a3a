package hostile

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// upScript looks for the host's files above the working directory.
const upScript = "pwd -P; ls / ../../../../../../../.. ../../../../../../../../var/tmp 2>&1; true"

// checkUp tells whether a process began in a working directory, and fails if it got out from there.
func checkUp(t *testing.T, what, out string, err error) (entered bool) {
	t.Helper()
	if strings.Contains(out, filepath.Base(daemon.Dir)) { // is in /var/tmp of the host, and in no container
		t.Errorf("%s: the host's files: %s", what, out)
	}
	if err == nil {
		return true
	}
	for _, refused := range []string{"no such file or directory", "not a directory", "permission denied", "outside of container", "too many levels"} {
		if strings.Contains(strings.ToLower(out), refused) {
			return false
		}
	}
	t.Errorf("%s: refused for another reason: %s", what, out)
	return false
}

// TestWorkdir is CVE-2024-21626 by the command line and by builds: a working directory that leads through a descriptor
// which the runtime has open on the host. internal/runtime tries it below the command line.
func TestWorkdir(t *testing.T) {
	begin(t)
	start(t, "box", "busybox", "sleep", "1000")
	for verb, args := range map[string][]string{
		"exec": {"exec", "-w", "DIR", "box", "sh", "-c", upScript},
		"run":  run("--rm", "-w", "DIR", "busybox", "sh", "-c", upScript),
	} {
		attack(t, verb, func(t *testing.T) {
			entered := 0
			for fd := range 14 {
				for _, dir := range []string{fmt.Sprintf("/proc/self/fd/%d", fd), fmt.Sprintf("/proc/self/fd/%d/../../..", fd), fmt.Sprintf("/proc/1/fd/%d", fd)} {
					with := make([]string, len(args))
					for i, a := range args {
						with[i] = strings.ReplaceAll(a, "DIR", dir)
					}
					out, err := try(t, with...)
					if checkUp(t, dir, out, err) {
						entered++
					}
					if verb == "run" {
						break
					}
				}
			}
			t.Logf("%d of these directories could be entered", entered)
		})
	}
}

// maskScript tells whether what containers get to see of /proc and /dev is what it should be.
const maskScript = `
	exec 2>/tmp/said
	for f in /proc/keys /proc/timer_list /proc/kcore /proc/sched_debug; do
		[ -e $f ] && [ "$(head -c1 $f | wc -c)" != 0 ] && echo "$f is read"
	done
	for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do
		(echo h >$f) && echo "$f is written"
	done
	[ -e /proc/self/status ] || echo "no /proc"
	ls /proc/acpi /proc/scsi /sys/firmware | grep -v : | grep . && echo "a masked directory has files"
	echo ended`

// TestMasks is CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881: what the runtime masks with, binds to /dev/console and
// writes to is a link that the container has prepared in a volume, or that another container exchanges meanwhile.
func TestMasks(t *testing.T) {
	begin(t)
	dir, _ := outside(t)
	porthole(t, run("--rm", "-v", "dev:/v", "busybox", "sh", "-c", "cd /v && for n in zero full tty ptmx random urandom; do ln -s "+dir+"/f $n; done; "+
		"for n in null console; do ln -s /proc/sys/kernel/core_pattern $n; done; mkdir pts shm mqueue; ln -s /proc fd")...)
	attack(t, "links in a volume at /dev", func(t *testing.T) {
		for _, more := range [][]string{nil, {"-t"}, {"--sysctl", "net.ipv4.ip_forward=1"}} {
			out, err := try(t, append(run("--rm", "-v", "dev:/dev"), append(more, "busybox", "sh", "-c", maskScript)...)...)
			if err == nil && strings.TrimSpace(strings.ReplaceAll(out, "\r", "")) != "ended" {
				t.Errorf("with %v: %s", more, out)
			}
			if err != nil && !strings.Contains(out, "OCI runtime create failed") {
				t.Errorf("with %v: refused for another reason: %s", more, out)
			}
			if text, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(text) != "secret of the host" {
				t.Errorf("the host's file is %q now, %v", text, err)
			}
		}
	})
	attack(t, "exchanged while containers start", func(t *testing.T) {
		porthole(t, run("--rm", "-v", "race:/v", "busybox", "sh", "-c", "cd /v && mkdir -p a b/sys && ln -s /proc l1 && ln -s "+dir+" l2")...)
		start(t, "racer", "-v", "race:/v", "busybox", "/attack/attack", "swap", "/v/a", "/v/l1")
		start(t, "racer2", "-v", "race:/v", "busybox", "/attack/attack", "swap", "/v/b", "/v/l2")
		started, refused := 0, 0
		for began := time.Now(); racing(began, started > 0 && refused > 0); {
			out, err := try(t, append(run("--rm", "-v", "race:/v", "--tmpfs", "/v/a", "-v", attackDir+":/v/b/planted:ro"), "busybox", "sh", "-c", maskScript)...)
			switch {
			case err == nil && strings.TrimSpace(out) == "ended":
				started++
			case err == nil:
				t.Fatal(out)
			default:
				refused++
			}
			if found, err := filepath.Glob(filepath.Join(dir, "planted*")); err != nil || len(found) > 0 {
				t.Fatalf("the host got %q, %v", found, err)
			}
		}
		if started == 0 || refused == 0 {
			t.Errorf("%d containers started and %d were refused: there was no race", started, refused)
		}
	})
}

// TestBuilds is CVE-2024-23652, CVE-2024-23651 and CVE-2024-21626: a step mounts something at a link of its image that leads to the
// host, and what is made for that is cleared away behind it; the source of a mount leads out by links; the
// working directory is one of the host. And what no build is allowed.
func TestBuilds(t *testing.T) {
	begin(t)
	dir, secret := outside(t)
	empty := filepath.Join(dir, "empty")
	if err := errors.Join(os.MkdirAll(filepath.Join(empty, "sub"), 0o755), os.Chmod(empty, 0o777)); err != nil {
		t.Fatal(err)
	}
	context := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(context, "out")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"target through a link":           "FROM busybox\nRUN ln -s " + empty + " /l && ln -s ../../../../../../../.." + dir + " /r\nRUN --mount=type=tmpfs,target=/l/sub --mount=type=cache,target=/r/new true\n",
		"source through a link":           "FROM busybox\nRUN --mount=type=bind,source=out,target=/x cat /x/f\n",
		"source through a link of a step": "FROM busybox AS a\nRUN ln -s " + dir + " /l\nFROM busybox\nRUN --mount=type=bind,from=a,source=/l,target=/x cat /x/f\n",
		"source of a cache":               "FROM busybox\nRUN --mount=type=cache,id=c,target=/c ln -sfn " + dir + " /c/l\nRUN --mount=type=cache,id=c,source=l,target=/x cat /x/f\n",
		"copy through a link":             "FROM busybox AS a\nRUN ln -s " + dir + " /l\nFROM busybox\nCOPY --from=a /l/f /f\nRUN cat /f\n",
		"all rights":                      "FROM busybox\nRUN --security=insecure cat /proc/self/status\n",
		"the host's network":              "FROM busybox\nRUN --network=host cat /proc/net/unix\n",
	} {
		attack(t, name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := try(t, "build", "--no-cache", "--progress", "plain", context)
			if strings.Contains(out, secret) {
				t.Errorf("the host's file is read: %s", out)
			}
			for _, name := range []string{filepath.Join(empty, "sub"), filepath.Join(dir, "f")} {
				if _, err := os.Lstat(name); err != nil {
					t.Errorf("%s of the host is gone: %v", name, err)
				}
			}
			if _, err := os.Lstat(filepath.Join(dir, "new")); err == nil {
				t.Error("the host has got a directory")
			}
			switch name {
			case "target through a link": // which then is inside
			case "all rights":
				if err == nil || !strings.Contains(out, "security.insecure is not allowed") {
					t.Errorf("%v: %s", err, out)
				}
			case "the host's network":
				if err == nil || !strings.Contains(out, "network.host is not allowed") {
					t.Errorf("%v: %s", err, out)
				}
			default:
				if err == nil || !strings.Contains(out, "no such file or directory") && !strings.Contains(out, "not found") {
					t.Errorf("want it missing: %v: %s", err, out)
				}
			}
		})
	}
	attack(t, "secret that stays", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte("FROM busybox\nRUN --mount=type=secret,id=s,required=true,target=/run/secrets/s grep -q hush /run/secrets/s\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(file, []byte("hush-"+filepath.Base(daemon.Dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		porthole(t, "build", "-t", "withsecret", "--no-cache", "--secret", "id=s,src="+file, context)
		defer porthole(t, "rmi", "-f", "withsecret")
		if out, err := try(t, run("--rm", "withsecret", "cat", "/run/secrets/s")...); err == nil || strings.Contains(out, "hush") {
			t.Errorf("the image has it: %s", out)
		}
		found, err := grep(daemon.DataRoot(), "hush-"+filepath.Base(daemon.Dir))
		if err != nil || len(found) > 0 {
			t.Errorf("the data root has it: %q, %v", found, err)
		}
	})
	for _, kit := range []string{"0", "1"} {
		attack(t, "build with BuildKit "+kit, func(t *testing.T) {
			t.Setenv("DOCKER_BUILDKIT", kit)
			context := t.TempDir()
			for fd := 3; fd < 12; fd++ {
				text := fmt.Sprintf("FROM busybox\nWORKDIR /proc/self/fd/%d\nRUN %s\n", fd, upScript)
				if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				out, err := try(t, "build", "--no-cache", "--progress", "plain", context)
				checkUp(t, fmt.Sprint("WORKDIR of descriptor ", fd), strings.ReplaceAll(out, context, ""), err)
			}
		})
	}
	entitlements(t)
}

// entitlements is a part of TestBuilds: a client that allows itself all rights for its build gets them from no engine that has not been
// told to give them.
func entitlements(t *testing.T) {
	t.Helper()
	buildx := os.Getenv("PORTHOLE_TEST_BUILDX")
	if buildx == "" {
		out, err := exec.CommandContext(t.Context(), "sh", "../buildx/build.sh").Output()
		if err != nil {
			t.Fatalf("docker buildx (make buildx): %v", err)
		}
		buildx = strings.TrimSpace(string(out))
	}
	context := t.TempDir()
	if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte("FROM busybox\nRUN --security=insecure grep Cap /proc/self/status\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	build := func(more ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), buildx, append(append([]string{"build", "--no-cache", "--progress", "plain"}, more...), context)...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+daemon.Host(), "DOCKER_CONFIG="+t.TempDir())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	attack(t, "all rights that the client allows", func(t *testing.T) {
		out, err := build("--allow", "security.insecure")
		if err == nil || !strings.Contains(out, "security.insecure") || !strings.Contains(out, "not allowed") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

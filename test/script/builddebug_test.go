package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// buildDir makes a build context.
func buildDir(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

const failing = `FROM busybox
ENV WHO=me
RUN echo one >/one
RUN --mount=type=cache,target=/c,id=debugged echo kept >/c/x && test -f /fixed && \
    echo two >/two
RUN cat /one /two
`

// A build that fails stops inside of its step; what is mended there by hand is in
// the image, and not in the cache of others. (Row 1 of what hurts:
// docs/design/records.md.)
func TestBuildDebug(t *testing.T) {
	begin(t)
	porthole(t, "builder", "prune", "-a", "-f")
	dir := buildDir(t, failing)
	p := openTerminal(t, daemon.Program("porthole"), "build", "--debug", "-t", "mended", dir)
	p.expect(`Stopped at Dockerfile:4, instruction 4 of 5: it ended with exit code 1`)
	p.expect(`command 2 of 3 failed: test -f /fixed: exit code 1`)
	prompt := `\(build Dockerfile:4\) `
	p.expect(prompt)
	p.typeIn("env\r")
	p.expect(`environment +WHO=me`)
	p.expect(`mount +/c \(bind, rw\)`)
	p.expect(prompt)
	p.typeIn("files /c\r")
	p.expect(`x\r\n`)
	p.expect(prompt)
	p.typeIn("files /one\r")
	p.expect(`\none`)
	p.expect(prompt)
	p.typeIn("sh\r")
	p.expect(`/ # `)
	p.typeIn("stty size; cat /c/x; touch /fixed\r")
	p.expect(`24 80\r\nkept`)
	p.expect(`/ # `)
	// One at a time is in the step.
	p.typeIn("exit\r")
	p.expect(prompt)
	p.typeIn("nonsense\r")
	p.expect(`unknown command "nonsense"`)
	p.expect(prompt)
	p.typeIn("retry\r")
	p.expect(`Files were changed by hand`)
	p.expect(`Successfully tagged mended:latest`)
	if code := p.ends(); code != 0 {
		t.Errorf("ended with %d", code)
	}
	if out := porthole(t, "run", "--rm", "mended", "sh", "-c", "ls /fixed; cat /two"); out != "/fixed\ntwo" {
		t.Errorf("in the image: %q", out)
	}
	// It is in the history, as it was in the end.
	if out := porthole(t, "build", "ls", "-n", "1", "--format", "{{.Name}} {{.Door}} {{.Status}}"); out != "mended debug done" {
		t.Errorf("newest build: %q", out)
	}
	if out := porthole(t, "build", "steps", "--format", "{{.Step}} {{.Line}} {{.Status}}"); out != "1 1 done\n2 3 done\n3 4-5 done\n4 6 done" {
		t.Errorf("its steps: %q", out)
	}
	if out, err := daemon.Porthole(t.Context(), "build", dir); err == nil {
		t.Errorf("the same build, not mended, succeeds:\n%s", out)
	}
	porthole(t, "rmi", "mended")
}

// An instruction is changed, and done alone; the Dockerfile gets it when that is
// wanted. Breakpoints stop inside of steps, single steps before instructions.
func TestBuildDebugEdit(t *testing.T) {
	begin(t)
	cache := "RUN --mount=type=cache,target=/c,id=" + filepath.Base(t.TempDir()) + time.Now().Format("150405.000000") + " "
	text := strings.Replace(failing, "RUN ", cache, 1)
	porthole(t, "build", buildDir(t, "FROM busybox\n"+cache+"echo kept >/c/kept\n"))
	dir := buildDir(t, text)
	p := openTerminal(t, daemon.Program("porthole"), "build", "--step", "--break", "3", dir)
	p.expect(`Stopped at Dockerfile:1, instruction 1 of 5, before it is done`)
	p.expect(`\) `)
	p.typeIn("next\r")
	p.expect(`Stopped at Dockerfile:2,`)
	p.expect(`\) `)
	p.typeIn("continue\r")
	p.expect(`Stopped at Dockerfile:3, instruction 3 of 5, before its step runs`)
	p.expect(`\) `)
	p.typeIn("run exec 2>&1; ls /one; cat /c/kept; exit 5\r") // two streams have no order
	p.expect(`/one: No such file`)
	p.expect(`\nkept`) // a breakpoint empties no cache
	p.expect(`exit code 5`)
	p.expect(`\) `)
	p.typeIn("continue\r")
	p.expect(`Stopped at Dockerfile:4.*exit code 1`)
	p.expect(`\) `)
	p.typeIn("back\r")
	p.expect(`Stopped at Dockerfile:3,`)
	p.expect(`\) `)
	p.typeIn("edit RUMBLE\r")
	p.expect(`unknown instruction: RUMBLE`)
	p.expect(`\) `)
	p.typeIn("edit RUN echo uno >/one; touch /fixed\r")
	p.expect(`Stopped at Dockerfile:3,`) // the breakpoint
	p.expect(`\) `)
	p.typeIn("break -3\r")
	p.expect(`no breakpoints`)
	p.expect(`\) `)
	p.typeIn("next\r")
	p.expect(`Stopped at Dockerfile:4, instruction 4 of 5, before it is done`)
	p.expect(`\) `)
	p.typeIn("save\r")
	p.expect(`- RUN .* echo one >/one`)
	p.expect(`\+ RUN echo uno >/one; touch /fixed`)
	p.expect(`\[y/N\] `)
	p.typeIn("y\r")
	p.expect(`Written`)
	p.expect(`\) `)
	p.typeIn("c\r")
	p.expect(`\nuno`)
	p.expect(`Successfully built`)
	if code := p.ends(); code != 0 {
		t.Errorf("ended with %d", code)
	}
	got, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
	if want := strings.Replace(text, cache+"echo one >/one", "RUN echo uno >/one; touch /fixed", 1); err != nil || string(got) != want {
		t.Errorf("the Dockerfile is %q, %v", got, err)
	}
}

// An edit that has mended a build is not lost with the session.
func TestBuildDebugOffersEdits(t *testing.T) {
	begin(t)
	dir := buildDir(t, failing)
	p := openTerminal(t, daemon.Program("porthole"), "build", "--debug", dir)
	p.expect(`Stopped at Dockerfile:4`)
	p.expect(`\) `)
	p.typeIn("edit RUN echo mended >/two\r")
	p.expect(`Successfully built`)
	p.expect(`which is not in .*Dockerfile:`)
	p.expect(`\+ RUN echo mended >/two`)
	p.expect(`\[y/N\] `)
	p.typeIn("y\r")
	p.expect(`Written`)
	if code := p.ends(); code != 0 {
		t.Errorf("ended with %d", code)
	}
	got, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
	lines := strings.SplitAfter(failing, "\n")
	lines[3], lines[4] = "RUN echo mended >/two\n", ""
	if err != nil || string(got) != strings.Join(lines, "") {
		t.Errorf("the Dockerfile is %q, %v", got, err)
	}
}

// A build that waits for its debugger holds up no other, not even of the same
// Dockerfile. Its daemon's death leaves nothing that is not cleared away.
func TestBuildDebugAlone(t *testing.T) {
	begin(t)
	dir := buildDir(t, failing)
	p := openTerminal(t, daemon.Program("porthole"), "build", "--debug", dir)
	p.expect(`Stopped at Dockerfile:4`)
	p.expect(`\) `)
	began := time.Now()
	out, err := daemon.Porthole(t.Context(), "build", dir)
	if err == nil || !strings.Contains(out, "Dockerfile:4 ended with exit code 1") {
		t.Errorf("beside it: %q, %v", out, err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	p.typeIn("run touch /fixed\r")
	p.expect(`\) `)
	if err := daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	if code := p.ends(); code == 0 {
		t.Error("a build succeeds although its daemon has gone")
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	porthole(t, "builder", "prune", "-a", "-f")
	left, err := filepath.Glob(filepath.Join(daemon.DataRoot(), "build", "tmp", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in the directory for temporary files: %v, %v", left, err)
	}
	if out := porthole(t, "system", "df", "--format", "{{.Type}} {{.TotalCount}}"); !strings.Contains(out, "Build Cache 0") {
		t.Errorf("after a prune there is %q", out)
	}
}

// A step that has no shell, and whose program cannot be executed, is entered with
// tools of ours, which are no part of it.
func TestBuildDebugWithoutShell(t *testing.T) {
	begin(t)
	dir := buildDir(t, "FROM scratch\nCOPY Dockerfile /\nRUN [\"/nosuch\"]\n")
	p := openTerminal(t, daemon.Program("porthole"), "build", "--debug", "-t", "bare", dir)
	p.expect(`Stopped at Dockerfile:3`)
	p.expect(`/nosuch`)
	p.expect(`\(build Dockerfile:3\) `)
	p.typeIn("run ls -d /*file; cp /Dockerfile /copy\r")
	p.expect(`/Dockerfile\r\n`)
	p.expect(`\(build Dockerfile:3\) `)
	p.typeIn("continue\r")
	p.expect(`Successfully tagged bare`)
	if code := p.ends(); code != 0 {
		t.Errorf("ended with %d", code)
	}
	porthole(t, "create", "--name", "bare", "bare", "x")
	if out := porthole(t, "export", "-o", filepath.Join(dir, "bare.tar"), "bare"); out != "" {
		t.Errorf("export says %q", out)
	}
	list, err := exec.CommandContext(t.Context(), "tar", "tf", filepath.Join(dir, "bare.tar")).Output()
	if err != nil || !strings.Contains(string(list), "copy") || strings.Contains(string(list), ".porthole") {
		t.Errorf("in the image: %s, %v", list, err)
	}
	porthole(t, "rm", "bare")
	porthole(t, "rmi", "bare")
}

// Without the cache each instruction is done once, though each is a job of its
// own.
func TestBuildDebugNoCache(t *testing.T) {
	begin(t)
	run := "RUN --mount=type=cache,target=/c,id=" + filepath.Base(t.TempDir()) + time.Now().Format("150405.000000") + " "
	dir := buildDir(t, "FROM busybox AS one\n"+run+"echo one >>/c/n\n"+run+"echo two >>/c/n\nFROM one\nCOPY --from=one /etc /etc\n"+run+"cat /c/n && exit 3\n")
	for range 2 { // the second time they are in the cache
		p := openTerminal(t, daemon.Program("porthole"), "build", "--debug", "--no-cache", dir)
		p.expect(`Running in [0-9a-f]{12}\r\none\r\ntwo\r\n`)
		p.expect(`command 2 of 2 failed`)
		p.expect(`\) `)
		p.typeIn("!rm /c/n\r")
		p.expect(`\) `)
		p.typeIn("quit\r")
		p.ends()
	}
}

// Secrets are there as long as the step is. What cannot be had with a debugger is
// refused.
func TestBuildDebugSecret(t *testing.T) {
	begin(t)
	dir := buildDir(t, "FROM busybox\nRUN --mount=type=secret,id=token test -f /run/secrets/token && exit 4\n")
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("hush"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := openTerminal(t, daemon.Program("porthole"), "build", "--debug", "--secret", "id=token,src="+secret, dir)
	p.expect(`command 2 of 2 failed: exit 4: exit code 4`)
	p.expect(`\) `)
	p.typeIn("run cat /run/secrets/token; echo\r")
	p.expect(`\r\nhush\r\n`)
	p.expect(`\) `)
	p.typeIn("files /run/secrets/token\r")
	p.expect(`\r\nhush\r\n`)
	p.expect(`\) `)
	p.typeIn("env\r")
	p.expect(`mount +/run/secrets/token`)
	p.expect(`\) `)
	p.typeIn("quit\r")
	if code := p.ends(); code != 1 {
		t.Errorf("ended with %d", code)
	}
	p = openTerminal(t, daemon.Program("porthole"), "build", "--debug", "--secret", "id=token,src="+secret, "--ssh", "default", dir)
	p.expect(`cannot specify both --debug and --ssh`)
	if code := p.ends(); code == 0 {
		t.Error("--ssh was passed over")
	}
}

// Where nobody could answer, a build goes on as without a debugger.
func TestBuildDebugWithoutTerminal(t *testing.T) {
	begin(t)
	dir := buildDir(t, failing)
	out, err := daemon.Porthole(t.Context(), "build", "--debug", dir)
	if err == nil || !strings.Contains(out, "porthole run -it --rm step:") {
		t.Errorf("%q, %v", out, err)
	}
}

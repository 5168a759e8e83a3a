package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// syntaxErrors are Dockerfiles with what the error must name: the line, and what to
// do about it.
var syntaxErrors = []struct{ text, want string }{
	{"FROM busybox\nRUNN ls\n", `line 2: unknown instruction: RUNN \(did you mean RUN\?\)`},
	{"FROM\n", `line 1: FROM requires either one or three arguments`},
	{"FROM busybox AS 1x\n", `line 1: invalid name for build stage: "1x", name can't start with a number`},
	{"FROM Busy:Box:x\n", `(?s)(Dockerfile:1\b.*)?failed to parse stage name "Busy:Box:x": invalid reference format`},
	{"ARG X\nFROM ${X}\n", `(?s)base name \(\$\{X\}\) should not be blank \(give the variable by --build-arg`},
	{"RUN ls\n", `\(a Dockerfile begins with FROM IMAGE`},
	{"\n", `file with no instructions \(a Dockerfile begins with FROM IMAGE`},
	{"# only a comment\n", `file with no instructions \(`},
	{"# escape=x\nFROM busybox\n", `invalid escape token 'x' does not match`},
	{"FROM busybox\nRUN <<END\nls\n", `unterminated heredoc \(a line with the word`},
	{"FROM busybox\nCOPY a\n", `line 2: COPY requires at least two arguments, but only one was provided`},
	{"FROM busybox\nCOPY --nosuch=1 a b\n", `line 2: unknown flag: --nosuch`},
	{"FROM busybox\n\nENV A\n", `ENV must have two arguments \(as in NAME=VALUE\)`},
	{"FROM busybox\nLABEL a\n", `LABEL must have two arguments \(as in NAME=VALUE\)`},
	{"FROM busybox\nENV A=\"x\n", `\(a quote is not closed\)`},
	{"FROM busybox\nEXPOSE nosuch\n", `invalid containerPort: nosuch \(as in 80`},
	{"FROM busybox\nHEALTHCHECK --interval=x CMD true\n", `line 2: time: invalid duration "x" \(as in 30s`},
	{"FROM busybox\nUSER\n", `line 2: USER requires exactly one argument`},
	{"FROM busybox\nWORKDIR\n", `line 2: WORKDIR requires exactly one argument`},
	{"FROM busybox\nVOLUME\n", `line 2: VOLUME requires at least one argument`},
	{"FROM busybox\nONBUILD FROM x\n", `line 2: FROM isn't allowed as an ONBUILD trigger`},
	{"FROM busybox\nSHELL /bin/sh\n", `line 2: SHELL requires the arguments to be in JSON form \(as in \["/bin/bash", "-c"\]`},
	{"FROM busybox\nSTOPSIGNAL NOPE\n", `invalid signal: NOPE \(as in SIGTERM`},
	{"FROM busybox\nRUN --mount=type=nosuch true\n", `unsupported mount type "nosuch" \(it is bind, cache`},
	{"FROM busybox\nRUN --network=nosuch true\n", `line 2: invalid network mode "nosuch" \(it is default`},
	{"FROM busybox\nCOPY --chmod=zz a /b\n", `invalid syntax \(a number is not one; that of --chmod is octal`},
	{"FROM busybox\nADD --checksum=x http://x.test/y /\n", `invalid checksum digest format \(as in sha256`},
}

// placeless are those for which no line can be told: the whole file is wrong, or
// its head.
var placeless = regexp.MustCompile(`^(RUN ls|\n|#)|^ARG X|^FROM Busy`)

// Each error of a Dockerfile tells the line, and what to do, through both builders.
func TestBuildSyntaxErrors(t *testing.T) {
	begin(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "Dockerfile")
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	line2 := regexp.MustCompile(`Dockerfile:[23]\b|line [23]\b`)
	for _, c := range syntaxErrors {
		if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"build", "-q", dir}, {"build", "--progress", "plain", dir}} {
			cmd := exec.CommandContext(t.Context(), daemon.Program("porthole"), args...)
			cmd.Env = append(os.Environ(), "DOCKER_HOST="+daemon.Host(), "HOME="+dir)
			out, err := cmd.CombinedOutput()
			if err == nil || cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("%q by %q: %v", c.text, args[1], err)
			}
			if !regexp.MustCompile(c.want).Match(out) {
				t.Errorf("%q by %q: the error does not match %s:\n%s", c.text, args[1], c.want, out)
			}
			if !placeless.MatchString(c.text) && !regexp.MustCompile(`line 1\b`).MatchString(c.want) && !line2.Match(out) {
				t.Errorf("%q by %q: no line is told:\n%s", c.text, args[1], out)
			}
		}
	}
}

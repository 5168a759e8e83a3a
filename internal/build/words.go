package build

import (
	"regexp"
	"strings"
)

// reworded makes an error of BuildKit fit to be read, and to be sent: a gRPC
// message has to be UTF-8, which a Dockerfile that is none need not be. What the
// error is stays as it is.
func reworded(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	better := strings.Map(printable, strings.ToValidUTF8(text, "\uFFFD"))
	// BuildKit prints its own structure with the verb %s.
	better = brokenMismatch.ReplaceAllString(better, "${1}it is $2 ")
	better = bareMismatch.ReplaceAllString(better, "digest mismatch: it is $1 (expected: $2)")
	better = strings.Replace(better, "mount options is too long", "max depth exceeded: COPY and ADD mount no more layers than one page has room to name", 1)
	for _, h := range buildHints {
		if h.of.MatchString(better) {
			better += " (" + h.hint + ")"
			break
		}
	}
	if better == text {
		return err
	}
	return &wordedError{error: err, text: better}
}

// printable replaces what would change a terminal.
func printable(r rune) rune {
	if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
		return '\uFFFD'
	}
	return r
}

// wordedError is an error in other words.
type wordedError struct {
	error
	text string
}

func (e *wordedError) Error() string { return e.text }
func (e *wordedError) Unwrap() error { return e.error }

var brokenMismatch = regexp.MustCompile(`(digest mismatch for \S+: )&\{\{(\S+)[^(]*?%!s\([^)]*\)\} \w+\} `)

var bareMismatch = regexp.MustCompile(`digest mismatch (sha256:\S+): (sha256:\S+)`)

// buildHints say what to do about errors that do not tell it. They are part of
// the text: BuildKit's clients show nothing else.
var buildHints = []struct {
	of   *regexp.Regexp
	hint string
}{
	{regexp.MustCompile(`buildkit-syft-scanner\S*: .*failed to do request`), "the scanner of --sbom is an image, from Docker Hub unless named: --sbom generator=IMAGE"},
	{regexp.MustCompile(`max depth exceeded: `), "join instructions, or start another stage and COPY --from it; Docker runs images of up to 125 layers"},
	{regexp.MustCompile(`repository does not contain ref `), "git ls-remote shows which there are"},
	{regexp.MustCompile(`no SSH key "\S*" forwarded from the client`), "give the build an agent: --ssh default"},
	{regexp.MustCompile(`unset ssh forward key `), "give the build an agent: --ssh default"},
	{regexp.MustCompile(`unknown instruction: .*\x{FFFD}`), "the Dockerfile is not text"},
	{regexp.MustCompile(`unterminated heredoc`), "a line with the word behind << alone has to end it"},
	{regexp.MustCompile(`file with no instructions|no build stage in current context`), "a Dockerfile begins with FROM IMAGE; only ARG and comments may stand before"},
	{regexp.MustCompile(`(ENV|LABEL) must have two arguments`), "as in NAME=VALUE"},
	{regexp.MustCompile(`base name \(.*\) should not be blank`), "give the variable by --build-arg, or a value to its ARG before the first FROM"},
	{regexp.MustCompile(`invalid containerPort: `), "as in 80, 53/udp or 8000-8010/tcp"},
	{regexp.MustCompile(`time: (invalid duration|missing unit|unknown unit)`), "as in 30s or 1m30s"},
	{regexp.MustCompile(`requires the arguments to be in JSON form`), `as in ["/bin/bash", "-c"], with double quotes`},
	{regexp.MustCompile(`looking for matching (double|single)-quote`), "a quote is not closed"},
	{regexp.MustCompile(`unsupported mount type `), "it is bind, cache, tmpfs, secret or ssh"},
	{regexp.MustCompile(`invalid network mode `), "it is default, none or host"},
	{regexp.MustCompile(`invalid security mode `), "it is sandbox or insecure"},
	{regexp.MustCompile(`invalid checksum digest format`), "as in sha256: and 64 hexadecimal digits"},
	{regexp.MustCompile(`^(.*: )?invalid syntax$`), "a number is not one; that of --chmod is octal, as in 0755"},
	{regexp.MustCompile(`invalid signal: `), "as in SIGTERM, TERM or 15"},
	{regexp.MustCompile(`failed to resolve source metadata for docker\.io/library/`), "if a stage of the Dockerfile is meant: its name is the one behind AS of its FROM"},
}

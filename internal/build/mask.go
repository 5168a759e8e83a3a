package build

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/util/urlutil"
)

// hidden stands for what may not be kept.
const hidden = "***"

// secretWords are what the names of secrets are made of, as BuildKit's check
// SecretsUsedInArgOrEnv has them.
var secretWords = []string{"apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"}

func isSecret(name string) bool {
	words := strings.FieldsFunc(strings.ToLower(name), func(c rune) bool { return c == '_' || c == '-' || c == '.' })
	return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(secretWords, w) }) && !slices.Contains(words, "public")
}

// argument is the value of a build argument as it may be kept.
func argument(name, value string) string {
	if isSecret(name) {
		return hidden
	}
	return urlutil.RedactCredentials(value)
}

const (
	buildArgPrefix = "build-arg:"
	// shortestSecret is the shortest value that is looked for in texts. Others are
	// no secret, and part of everything.
	shortestSecret = 4
)

// A masker makes texts about a build such as may be kept. Values of variables are
// part of them: BuildKit puts them into the names of steps.
type masker struct{ values *strings.Replacer }

// newMasker makes one for a build with these attributes.
func newMasker(attrs map[string]string) masker {
	var values []string
	for key, value := range attrs {
		name, isArg := strings.CutPrefix(key, buildArgPrefix)
		if isArg && len(value) >= shortestSecret && isSecret(name) {
			values = append(values, value)
		}
	}
	// Of two that begin alike the longer goes first.
	slices.SortFunc(values, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	var pairs []string
	for _, v := range values {
		pairs = append(pairs, v, hidden)
	}
	return masker{strings.NewReplacer(pairs...)}
}

// inURL is who opens a URL, and the password.
var inURL = regexp.MustCompile(`(\b[a-z][a-z0-9+.-]*://)[^\s/?#@"']+@`)

// text is a text without secrets.
func (m masker) text(s string) string {
	if m.values != nil {
		s = m.values.Replace(s)
	}
	return inURL.ReplaceAllString(s, "${1}xxxxx@")
}

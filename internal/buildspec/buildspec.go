// Package buildspec has what `porthole build` asks for when it builds by
// BuildKit's API. It stands apart so that the command line need not know
// BuildKit: that is linked into porthole-build alone, which the command line
// becomes for such a build.
package buildspec

import (
	"fmt"
	"strings"

	mobyclient "github.com/moby/moby/client"
)

// Request is one build, in the words of the command line.
type Request struct {
	// The options that Docker's classic build has as well. Of these Dockerfile,
	// Platforms, CacheFrom, RemoteContext and AuthConfigs do not count.
	mobyclient.ImageBuildOptions

	Context string // a directory, a URL, or "-" for standard input
	File    string // of --file: a path from here, "-", or empty

	// These are as they stand behind their flags.
	Secrets, SSH, Outputs, CacheFrom, CacheTo, BuildContexts, Attests []string

	Platforms     []string // "os/arch[/variant]"; empty: this machine's
	NoCacheFilter []string // names of stages
	Push, Load    bool
	Progress      string // auto, plain, tty, rawjson or quiet; empty: auto
	MetadataFile  string
	IIDFile       string
}

// Failure is a build that failed by its own fault. Code is the exit status of
// its RUN step, or 1.
type Failure struct {
	Code int
	Err  error
}

func (f *Failure) Error() string { return fmt.Sprintf("failed to build: %v", f.Err) }
func (f *Failure) Unwrap() error { return f.Err }

// IsURL tells contexts that the daemon fetches from paths of this machine.
func IsURL(where string) bool {
	for _, scheme := range []string{"http://", "https://", "git@", "git://", "ssh://"} {
		if strings.HasPrefix(where, scheme) {
			return true
		}
	}
	return false
}

// IsArchive tells a tar stream, or one packed by a common program, from text, by
// its first 512 bytes.
func IsArchive(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b", "BZh", "\xfd7zXZ", "\x28\xb5\x2f\xfd"} {
		if strings.HasPrefix(string(head), magic) {
			return true
		}
	}
	return len(head) > 262 && string(head[257:262]) == "ustar"
}

package server

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// The range of API versions that this server speaks. Raise MaxVersion when all
// that a newer version added is honoured.
const (
	MinVersion = "1.40"
	MaxVersion = "1.51"
)

// version is an API version as major*1000 + minor, so that versions compare as
// numbers.
type version int

var (
	minVersion = mustVersion(MinVersion)
	maxVersion = mustVersion(MaxVersion)
)

// v returns version 1.minor.
func v(minor int) version { return version(1000 + minor) }

// parseVersion reads "1.51". What follows a second dot does not count.
func parseVersion(text string) (version, error) {
	major, rest, _ := strings.Cut(text, ".")
	minor, _, _ := strings.Cut(rest, ".")
	if minor == "" {
		minor = "0"
	}
	a, err := strconv.ParseUint(major, 10, 16)
	if err != nil {
		return 0, badVersion(text)
	}
	b, err := strconv.ParseUint(minor, 10, 16)
	if err != nil || b > 999 {
		return 0, badVersion(text)
	}
	return version(a*1000 + b), nil
}

func badVersion(text string) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid API version %q", text))
}

func mustVersion(text string) version {
	out, err := parseVersion(text)
	if err != nil {
		panic(err)
	}
	return out
}

// checkVersion refuses what is outside of the range, in Docker's words.
func checkVersion(text string, v version) error {
	switch {
	case v < minVersion:
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", text, MinVersion))
	case v > maxVersion:
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"client version %s is too new. Maximum supported API version is %s", text, MaxVersion))
	}
	return nil
}

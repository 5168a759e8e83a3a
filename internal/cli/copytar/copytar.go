// Package copytar moves files between a container and the local machine as
// tar archives, in the way of "cp": what is copied, and under which name,
// depends on both ends. [Place] decides that; [Pack] makes an archive of a
// local path and [Unpack] makes files of an archive.
//
// Archives that come from a container are not trusted: nothing is ever
// written outside the directory that they are unpacked in.
package copytar

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Errors of copies that make no sense.
var (
	ErrNotDirectory  = errors.New("not a directory")
	ErrNoDirectory   = errors.New("no such directory")
	ErrCopyDirectory = errors.New("cannot copy directory")
)

// End is one end of a copy.
type End struct {
	// Path with slashes. Its ending counts: "x/" must be a directory, and
	// "x/." stands for what is in it.
	Path string
	// Exists and IsDir tell what is there now.
	Exists, IsDir bool
}

// Place says where a source comes to lie: in which directory, and under which
// name there. The name "." stands for the directory itself, whose contents
// then are merged into dir.
func Place(src, dst End) (dir, name string, err error) {
	_, srcName := Split(src.Path)
	dstDir, dstName := Split(dst.Path)
	switch {
	case !src.IsDir && mustBeDir(src.Path):
		return "", "", fmt.Errorf("%q: %w", src.Path, ErrNotDirectory)
	case dst.Exists && dst.IsDir:
		return dst.Path, srcName, nil
	case dst.Exists && mustBeDir(dst.Path):
		return "", "", fmt.Errorf("%q: %w", dst.Path, ErrNotDirectory)
	case dst.Exists && src.IsDir:
		return "", "", ErrCopyDirectory
	case !dst.Exists && !src.IsDir && mustBeDir(dst.Path):
		return "", "", ErrNoDirectory
	}
	return dstDir, dstName, nil
}

// Split returns the directory and the last element of a path: of "a/b/." that
// is "a/b" and ".".
func Split(p string) (dir, name string) {
	if p == "." || strings.HasSuffix(p, "/.") {
		return path.Clean(p), "."
	}
	clean := path.Clean(p)
	return path.Dir(clean), path.Base(clean)
}

// KeepEnding returns clean with the ending of original that has a meaning and
// that cleaning has taken away.
func KeepEnding(clean, original string) string {
	switch {
	case original == "." || strings.HasSuffix(original, "/."):
		if strings.HasSuffix(clean, "/") {
			return clean + "."
		}
		return clean + "/."
	case strings.HasSuffix(original, "/") && !strings.HasSuffix(clean, "/"):
		return clean + "/"
	}
	return clean
}

func mustBeDir(p string) bool {
	return p == "." || strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.")
}

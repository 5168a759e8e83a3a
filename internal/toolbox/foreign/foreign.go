// Package foreign starts programs of a root filesystem that is mounted somewhere
// below that of the process: those of the image that a debug session was given as
// its tools. What such a program needs to start (its ELF interpreter, its
// libraries, the interpreter of a script, the targets of its symbolic links) has
// absolute paths, which lead elsewhere or nowhere in the root that the process has.
package foreign

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// Variable is the environment variable with the [Root]; unset: there is none.
const Variable = "PORTHOLE_TOOLBOX"

// Root is the directory where the root filesystem is; empty: there is none, and
// nothing is in it.
type Root string

// Has tells whether a path is in the root.
func (r Root) Has(path string) bool {
	return r != "" && strings.HasPrefix(filepath.Clean(path), string(r)+"/")
}

// resolve follows symbolic links as a process does whose root it is.
func (r Root) resolve(path string) (string, error) {
	return securejoin.SecureJoin(string(r), strings.TrimPrefix(path, string(r)))
}

// Find looks for a program of the root in those directories of a PATH that are in
// it. Empty: there is none.
func (r Root) Find(path, name string) string {
	if r == "" || strings.Contains(name, "/") {
		return ""
	}
	for _, dir := range filepath.SplitList(path) {
		if !r.Has(dir) {
			continue
		}
		file, err := r.resolve(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return filepath.Join(dir, name)
		}
	}
	return ""
}

// longestLine bounds what is read of the first line of a script, as the kernel
// does (BINPRM_BUF_SIZE).
const longestLine = 256

// Command is what has to be executed so that the program at path, of which args
// are the arguments with its name, runs with what belongs to it. Paths that are
// not in the root stay as they are.
func (r Root) Command(path string, args []string) (file string, argv []string, err error) {
	return r.command(path, args, 0)
}

func (r Root) command(path string, args []string, depth int) (string, []string, error) {
	const deepest = 4 // the kernel's
	if !r.Has(path) || len(args) == 0 {
		return path, args, nil
	}
	if depth > deepest {
		return "", nil, fmt.Errorf("%s: too many interpreters", path)
	}
	file, err := r.resolve(path)
	if err != nil {
		return "", nil, err
	}
	f, err := os.Open(file)
	if errors.Is(err, os.ErrPermission) {
		return file, args, nil // it may be executed, not read
	}
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	head, err := bufio.NewReader(io.LimitReader(f, longestLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", nil, err
	}
	if line, ok := strings.CutPrefix(head, "#!"); ok {
		line = strings.Trim(line, " \t\n")
		end := strings.IndexAny(line+" ", " \t")
		name, option := line[:end], strings.Trim(line[end:], " \t")
		if name == "" {
			return file, args, nil // the kernel will tell
		}
		argv := []string{name}
		if option != "" {
			argv = append(argv, option)
		}
		// Rooted before it is joined, so that no ".." leads out.
		return r.command(filepath.Join(string(r), filepath.Join("/", name)), append(append(argv, file), args[1:]...), depth+1)
	}
	loader, err := r.loader(f)
	if err != nil || loader == "" {
		return file, args, err
	}
	argv := []string{loader, "--library-path", strings.Join(r.libraries(), ":"), "--argv0", args[0], file}
	return loader, append(argv, args[1:]...), nil
}

// loader is the ELF interpreter of a program; empty: it has none.
func (r Root) loader(f *os.File) (string, error) {
	e, err := elf.NewFile(f)
	if err != nil {
		return "", nil //nolint:nilerr // not ELF: the kernel will tell
	}
	for _, p := range e.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		const longest = 4096 // a path
		name, err := io.ReadAll(io.LimitReader(p.Open(), longest))
		if err != nil {
			return "", err
		}
		loader, err := r.resolve("/" + strings.TrimRight(string(name), "\x00"))
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(loader); err != nil {
			return "", err
		}
		return loader, nil
	}
	return "", nil
}

// libraries are the directories in which distributions have libraries, as far as
// the root has them.
func (r Root) libraries() []string {
	var list []string
	for _, pattern := range []string{
		"usr/local/lib", "lib/*-linux-*", "usr/lib/*-linux-*", "lib64", "usr/lib64", "lib", "usr/lib",
	} {
		dirs, err := filepath.Glob(filepath.Join(string(r), pattern))
		if err != nil {
			continue // the pattern is right
		}
		for _, dir := range dirs {
			if real, err := r.resolve(dir); err == nil {
				list = append(list, real)
			}
		}
	}
	return list
}

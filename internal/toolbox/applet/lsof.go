package applet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// lsofCommand lists the files that processes have open: all, with -p those of
// some, and with paths only those who have one of these, or something below it.
func lsofCommand(std IO, args []string) error {
	o, err := parse(args, "nPt", "p", nil)
	if err != nil {
		return err
	}
	var only []string
	for _, v := range o.values['p'] {
		only = append(only, strings.Split(v, ",")...)
	}
	list, err := processes()
	if err != nil {
		return err
	}
	rows := [][]string{{"COMMAND", "PID", "USER", "FD", "NAME"}}
	for _, p := range list {
		pid := strconv.Itoa(p.pid)
		if len(only) > 0 && !slices.Contains(only, pid) {
			continue
		}
		name, _, _ := strings.Cut(p.command, " ")
		for _, f := range openFiles(pid) {
			if !asked(f[1], o.args) {
				continue
			}
			rows = append(rows, []string{filepath.Base(name), pid, idName("/etc/passwd", p.uid), f[0], f[1]})
		}
	}
	if len(rows) == 1 {
		return exitStatus(1)
	}
	printTable(std, rows)
	return nil
}

// openFiles are what a process has open, as far as it may be looked into: what
// as, and the name.
func openFiles(pid string) [][2]string {
	var list [][2]string
	add := func(as, link string) {
		if to, err := os.Readlink(filepath.Join("/proc", pid, link)); err == nil {
			list = append(list, [2]string{as, to})
		}
	}
	add("cwd", "cwd")
	add("rtd", "root")
	add("txt", "exe")
	fds, err := os.ReadDir(filepath.Join("/proc", pid, "fd"))
	if errors.Is(err, fs.ErrPermission) {
		list = append(list, [2]string{"fd", fmt.Sprintf("/proc/%s/fd: permission denied", pid)})
	}
	slices.SortFunc(fds, func(a, b fs.DirEntry) int {
		x, _ := strconv.Atoi(a.Name())
		y, _ := strconv.Atoi(b.Name())
		return x - y
	})
	for _, fd := range fds {
		add(fd.Name(), "fd/"+fd.Name())
	}
	return list
}

// asked tells whether a file is one of the paths or below one; none are all.
func asked(file string, paths []string) bool {
	return len(paths) == 0 || slices.ContainsFunc(paths, func(p string) bool {
		p = filepath.Clean(p)
		return file == p || strings.HasPrefix(file, strings.TrimSuffix(p, "/")+"/")
	})
}

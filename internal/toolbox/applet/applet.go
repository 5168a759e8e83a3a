// Package applet holds the commands of the toolbox image. Those that u-root has
// as libraries are u-root's; the others are here, as small as people's habits
// allow.
package applet

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/core"
	"github.com/u-root/u-root/pkg/core/base64"
	"github.com/u-root/u-root/pkg/core/cat"
	"github.com/u-root/u-root/pkg/core/chmod"
	"github.com/u-root/u-root/pkg/core/cp"
	"github.com/u-root/u-root/pkg/core/find"
	"github.com/u-root/u-root/pkg/core/gzip"
	"github.com/u-root/u-root/pkg/core/mkdir"
	"github.com/u-root/u-root/pkg/core/mktemp"
	"github.com/u-root/u-root/pkg/core/mv"
	"github.com/u-root/u-root/pkg/core/rm"
	"github.com/u-root/u-root/pkg/core/shasum"
	"github.com/u-root/u-root/pkg/core/tar"
	"github.com/u-root/u-root/pkg/core/touch"
	"github.com/u-root/u-root/pkg/core/xargs"
	"golang.org/x/term"

	"github.com/portholehq/porthole/internal/toolbox/curl"
	"github.com/portholehq/porthole/internal/toolbox/dig"
	"github.com/portholehq/porthole/internal/toolbox/pager"
	"github.com/portholehq/porthole/internal/toolbox/screen"
	"github.com/portholehq/porthole/internal/toolbox/vi"
)

// IO is where a command reads and writes.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
}

// command runs with the arguments after its name. An error is printed after
// the name and gives status 1; an exitStatus is not printed.
type command func(std IO, args []string) error

// exitStatus ends a command without a message.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a wrong call: status 2.
type usageError string

func (e usageError) Error() string { return string(e) }

// Names lists all commands, sorted.
func Names() []string {
	var names []string
	for name := range table() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Has tells whether there is a command of that name.
func Has(name string) bool {
	_, ok := table()[name]
	return ok
}

// Run runs a command and returns its exit status: 127 when there is none of
// that name.
func Run(name string, args []string, std IO) int {
	cmd, ok := table()[name]
	if !ok {
		fmt.Fprintf(std.Err, "%s: not found\n", name)
		return 127
	}
	std, flush := printingNames(name, std)
	err := cmd(std, args)
	if flushErr := flush(); err == nil {
		err = flushErr
	}
	var status exitStatus
	var usage usageError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &usage):
		fmt.Fprintf(std.Err, "%s: %v\n", name, err)
		return 2
	default:
		fmt.Fprintf(std.Err, "%s: %v\n", name, plain(err))
		return 1
	}
}

// namesOnly are the commands whose output is names of files and facts about them.
var namesOnly = []string{
	"basename", "df", "dirname", "du", "find", "md5sum", "mount", "readlink", "realpath", "sha1sum", "sha256sum", "sha512sum", "shasum", "stat", "wc", "which",
}

// printingNames has a command print to a terminal so that the names of a target's
// files do nothing to it.
func printingNames(name string, std IO) (IO, func() error) {
	f, ok := std.Out.(*os.File)
	if !ok || !slices.Contains(namesOnly, name) || !term.IsTerminal(int(f.Fd())) {
		return std, func() error { return nil }
	}
	lines := screen.NewLines(f)
	std.Out = lines
	return std, lines.Flush
}

// plain takes the name of the system call out of a message: people know
// "x: no such file or directory".
func plain(err error) error {
	if path, ok := err.(*os.PathError); ok { //nolint:errorlint // a wrapped one is part of a longer message
		return fmt.Errorf("%s: %w", path.Path, path.Err)
	}
	return err
}

func table() map[string]command {
	return map[string]command{
		"curl":    program(curl.Main),
		"dig":     program(dig.Main),
		"less":    program(pager.Main),
		"more":    program(pager.Main),
		"vi":      program(vi.Main),
		"view":    program(vi.View),
		"base64":  uroot(base64.New),
		"cat":     uroot(cat.New),
		"chmod":   uroot(chmod.New),
		"cp":      uroot(cp.New),
		"find":    uroot(find.New),
		"gunzip":  uroot(func() core.Command { return gzip.New("gunzip") }),
		"gzcat":   uroot(func() core.Command { return gzip.New("gzcat") }),
		"gzip":    uroot(func() core.Command { return gzip.New("gzip") }),
		"ls":      lsCommand,
		"mkdir":   uroot(mkdir.New),
		"mktemp":  uroot(mktemp.New),
		"mv":      uroot(mv.New),
		"rm":      uroot(rm.New),
		"shasum":  uroot(shasum.New),
		"tar":     tarCommand,
		"touch":   uroot(touch.New),
		"xargs":   uroot(xargs.New),
		"zcat":    uroot(func() core.Command { return gzip.New("gzcat") }),
		"md5sum":  sumCommand,
		"sha1sum": shaCommand("1"), "sha256sum": shaCommand("256"), "sha512sum": shaCommand("512"),

		"basename": basenameCommand, "chown": chownCommand, "clear": clearCommand, "cut": cutCommand,
		"date": dateCommand, "dd": ddCommand, "df": dfCommand, "dirname": dirnameCommand,
		"dmesg": dmesgCommand, "du": duCommand, "env": envCommand, "expr": exprCommand, "file": fileCommand, "free": freeCommand,
		"grep": grepCommand, "head": headCommand, "hexdump": hexdumpCommand, "hostname": hostnameCommand,
		"id": idCommand, "ip": ipCommand, "kill": killCommand, "ln": lnCommand, "lsof": lsofCommand, "mkfifo": mkfifoCommand,
		"mknod": mknodCommand, "mount": mountCommand, "nc": ncCommand, "nohup": nohupCommand,
		"nproc": nprocCommand, "nslookup": nslookupCommand, "printenv": printenvCommand, "ps": psCommand,
		"readlink": readlinkCommand, "realpath": realpathCommand, "rmdir": rmdirCommand, "sed": sedCommand,
		"seq": seqCommand, "sleep": sleepCommand, "sort": sortCommand, "ss": ssCommand, "netstat": ssCommand, "stat": statCommand, "strings": stringsCommand, "strace": straceCommand, "stty": sttyCommand,
		"sync": syncCommand, "tcpdump": tcpdumpCommand, "tail": tailCommand, "tee": teeCommand, "timeout": timeoutCommand, "top": topCommand, "tr": trCommand,
		"tty": ttyCommand, "umount": umountCommand, "uname": unameCommand, "uniq": uniqCommand,
		"uptime": uptimeCommand, "wc": wcCommand, "wget": wgetCommand, "which": whichCommand,
		"whoami": whoamiCommand, "yes": yesCommand,
	}
}

// program runs a command that has a package of its own.
func program(run func(in io.Reader, out, stderr io.Writer, args []string) int) command {
	return func(std IO, args []string) error {
		if status := run(std.In, std.Out, std.Err, args); status != 0 {
			return exitStatus(status)
		}
		return nil
	}
}

// uroot runs a command of u-root's library.
func uroot(make func() core.Command) command {
	return func(std IO, args []string) error {
		c := make()
		c.SetIO(std.In, std.Out, std.Err)
		return c.Run(args...)
	}
}

// tarCommand takes tar's old way of giving options, without a dash and with
// the directory after them, to u-root's tar.
func tarCommand(std IO, args []string) error {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		args = append([]string{"-" + args[0]}, args[1:]...)
	}
	dir := ""
	var rest []string
	extract := false
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-C" && i+1 < len(args):
			dir = args[i+1]
			i++
			continue
		case strings.HasPrefix(args[i], "-") && !strings.HasPrefix(args[i], "--") && strings.Contains(args[i], "x"):
			extract = true
		}
		rest = append(rest, args[i])
	}
	if extract {
		if dir == "" {
			dir = "."
		}
		rest = append(rest, dir)
	} else if dir != "" {
		if err := os.Chdir(dir); err != nil {
			return err
		}
	}
	c := tar.New()
	c.SetIO(std.In, std.Out, std.Err)
	return c.Run(rest...)
}

func shaCommand(bits string) command {
	return func(std IO, args []string) error {
		c := shasum.New()
		c.SetIO(std.In, std.Out, std.Err)
		return c.Run(append([]string{"-a", bits}, args...)...)
	}
}

// options is the result of parse.
type options struct {
	set    map[byte]bool
	values map[byte][]string
	args   []string
}

func (o options) has(c byte) bool { return o.set[c] }

// value is the last value of an option, or other when it was not given.
func (o options) value(c byte, other string) string {
	if v := o.values[c]; len(v) > 0 {
		return v[len(v)-1]
	}
	return other
}

// parse reads short options in POSIX's way: flags can be joined, those in
// valued take the rest of the word or the next one. long names stand for short
// ones.
func parse(args []string, flags, valued string, long map[string]byte) (options, error) {
	o := options{set: map[byte]bool{}, values: map[byte][]string{}}
	for len(args) > 0 {
		arg := args[0]
		if arg == "--" {
			o.args = append(o.args, args[1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			o.args = append(o.args, arg)
			args = args[1:]
			continue
		}
		args = args[1:]
		if name, isLong := strings.CutPrefix(arg, "--"); isLong {
			name, value, valued := strings.Cut(name, "=")
			c, ok := long[name]
			if !ok {
				return o, usageError("unrecognized option: --" + name)
			}
			o.set[c] = true
			if valued {
				o.values[c] = append(o.values[c], value)
			}
			continue
		}
		for i := 1; i < len(arg); i++ {
			c := arg[i]
			switch {
			case strings.IndexByte(flags, c) >= 0:
				o.set[c] = true
			case strings.IndexByte(valued, c) >= 0:
				value := arg[i+1:]
				if value == "" {
					if len(args) == 0 {
						return o, usageError(fmt.Sprintf("option requires an argument: -%c", c))
					}
					value, args = args[0], args[1:]
				}
				o.set[c] = true
				o.values[c] = append(o.values[c], value)
				i = len(arg)
			default:
				return o, usageError(fmt.Sprintf("invalid option: -%c", c))
			}
		}
	}
	return o, nil
}

// eachFile calls fn for each file, or for the input when there are none.
// A file that cannot be read is reported and the others are still done.
func eachFile(std IO, name string, files []string, fn func(file string, r io.Reader) error) error {
	if len(files) == 0 {
		return fn("-", std.In)
	}
	failed := false
	for _, f := range files {
		if err := withFile(std, f, fn); err != nil {
			var status exitStatus
			if errors.As(err, &status) {
				return err
			}
			fmt.Fprintf(std.Err, "%s: %v\n", name, plain(err))
			failed = true
		}
	}
	if failed {
		return exitStatus(1)
	}
	return nil
}

func withFile(std IO, file string, fn func(string, io.Reader) error) error {
	if file == "-" {
		return fn(file, std.In)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return fn(file, f)
}

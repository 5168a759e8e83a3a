package applet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	mobysignal "github.com/moby/sys/signal"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// idName is the name of a number in /etc/passwd or /etc/group, or the number.
func idName(file string, id int) string {
	name := strconv.Itoa(id)
	eachEntry(file, func(f []string) bool {
		if len(f) > 2 && f[2] == strconv.Itoa(id) {
			name = f[0]
			return false
		}
		return true
	})
	return name
}

func nameID(file, name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	id := -1
	eachEntry(file, func(f []string) bool {
		if len(f) > 2 && f[0] == name {
			if n, err := strconv.Atoi(f[2]); err == nil {
				id = n
			}
			return false
		}
		return true
	})
	if id < 0 {
		return 0, fmt.Errorf("unknown name %q", name)
	}
	return id, nil
}

func eachEntry(file string, fn func(fields []string) bool) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if !fn(strings.Split(in.Text(), ":")) {
			return
		}
	}
}

func idCommand(std IO, args []string) error {
	o, err := parse(args, "ugGnr", "", nil)
	if err != nil {
		return err
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if o.has('r') {
		uid, gid = os.Getuid(), os.Getgid()
	}
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	if len(o.args) > 0 {
		if uid, gid, groups, err = userIDs(o.args[0]); err != nil {
			return err
		}
	}
	if !slices.Contains(groups, gid) {
		groups = append([]int{gid}, groups...)
	}
	show := func(file string, id int) string {
		if o.has('n') {
			return idName(file, id)
		}
		return strconv.Itoa(id)
	}
	switch {
	case o.has('u'):
		fmt.Fprintln(std.Out, show("/etc/passwd", uid))
	case o.has('g'):
		fmt.Fprintln(std.Out, show("/etc/group", gid))
	case o.has('G'):
		var list []string
		for _, g := range groups {
			list = append(list, show("/etc/group", g))
		}
		fmt.Fprintln(std.Out, strings.Join(list, " "))
	default:
		var list []string
		for _, g := range groups {
			list = append(list, numberName("/etc/group", g))
		}
		fmt.Fprintf(std.Out, "uid=%s gid=%s groups=%s\n", numberName("/etc/passwd", uid), numberName("/etc/group", gid), strings.Join(list, ","))
	}
	return nil
}

func numberName(file string, id int) string {
	n := strconv.Itoa(id)
	if name := idName(file, id); name != n {
		return n + "(" + name + ")"
	}
	return n
}

func userIDs(name string) (uid, gid int, groups []int, err error) {
	uid = -1
	eachEntry("/etc/passwd", func(f []string) bool {
		if len(f) > 3 && (f[0] == name || f[2] == name) {
			name = f[0]
			uid, _ = strconv.Atoi(f[2])
			gid, _ = strconv.Atoi(f[3])
			return false
		}
		return true
	})
	if uid < 0 {
		return 0, 0, nil, fmt.Errorf("%s: no such user", name)
	}
	eachEntry("/etc/group", func(f []string) bool {
		if len(f) > 3 && slices.Contains(strings.Split(f[3], ","), name) {
			if g, err := strconv.Atoi(f[2]); err == nil {
				groups = append(groups, g)
			}
		}
		return true
	})
	return uid, gid, groups, nil
}

func whoamiCommand(std IO, _ []string) error {
	fmt.Fprintln(std.Out, idName("/etc/passwd", os.Geteuid()))
	return nil
}

func envCommand(std IO, args []string) error {
	env := os.Environ()
	for len(args) > 0 {
		switch {
		case args[0] == "-i" || args[0] == "-":
			env = nil
		case args[0] == "-u" && len(args) > 1:
			env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, args[1]+"=") })
			args = args[1:]
		case strings.Contains(args[0], "="):
			name, _, _ := strings.Cut(args[0], "=")
			env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
			env = append(env, args[0])
		default:
			return replaceProcess(args, env)
		}
		args = args[1:]
	}
	for _, e := range env {
		fmt.Fprintln(std.Out, e)
	}
	return nil
}

// replaceProcess executes a program in place of this one.
func replaceProcess(args, env []string) error {
	path, err := exec.LookPath(args[0])
	if err == nil {
		err = unix.Exec(path, args, env)
	}
	status := exitStatus(126)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		status = 127
		err = errors.New("not found")
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", args[0], err)
	return status
}

func printenvCommand(std IO, args []string) error {
	if len(args) == 0 {
		return envCommand(std, nil)
	}
	missing := false
	for _, name := range args {
		if v, ok := os.LookupEnv(name); ok {
			fmt.Fprintln(std.Out, v)
		} else {
			missing = true
		}
	}
	if missing {
		return exitStatus(1)
	}
	return nil
}

func hostnameCommand(std IO, args []string) error {
	o, err := parse(args, "sfdiI", "", nil)
	if err != nil {
		return err
	}
	if len(o.args) > 0 {
		return unix.Sethostname([]byte(o.args[0]))
	}
	if o.has('i') || o.has('I') {
		return addresses(std)
	}
	name, err := os.Hostname()
	if o.has('s') {
		name, _, _ = strings.Cut(name, ".")
	}
	fmt.Fprintln(std.Out, name)
	return err
}

func unameCommand(std IO, args []string) error {
	o, err := parse(args, "asnrvmpio", "", nil)
	if err != nil {
		return err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	text := func(b [65]byte) string { return unix.ByteSliceToString(b[:]) }
	all := map[byte]string{'s': text(u.Sysname), 'n': text(u.Nodename), 'r': text(u.Release), 'v': text(u.Version), 'm': text(u.Machine), 'o': "GNU/Linux"}
	var out []string
	for _, c := range []byte("snrvmo") {
		if o.has(c) || o.has('a') {
			out = append(out, all[c])
		}
	}
	if o.has('p') || o.has('i') {
		out = append(out, all['m'])
	}
	if len(out) == 0 {
		out = []string{all['s']}
	}
	fmt.Fprintln(std.Out, strings.Join(out, " "))
	return nil
}

func sleepCommand(_ IO, args []string) error {
	if len(args) == 0 {
		return usageError("a time is missing")
	}
	var total time.Duration
	for _, a := range args {
		if a == "infinity" || a == "inf" {
			<-time.After(math.MaxInt64) // a program that waits for nothing at all counts as stuck
		}
		d, err := seconds(a)
		if err != nil {
			return usageError("invalid time: " + a)
		}
		total += d
	}
	<-time.After(total)
	return nil
}

// seconds reads a number with an optional s, m, h or d.
func seconds(text string) (time.Duration, error) {
	unit := time.Second
	if n := len(text); n > 0 {
		units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
		if u, ok := units[text[n-1]]; ok {
			unit, text = u, text[:n-1]
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 0 {
		return 0, errors.New("invalid time")
	}
	return time.Duration(f * float64(unit)), nil
}

func killCommand(std IO, args []string) error {
	s := syscall.SIGTERM
	if len(args) > 0 && args[0] == "-l" {
		return listSignals(std, args[1:])
	}
	if len(args) > 1 && (args[0] == "-s" || args[0] == "-n") {
		args = append([]string{"-" + args[1]}, args[2:]...)
	}
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && args[0] != "--" {
		name := args[0][1:]
		args = args[1:]
		if name == "0" {
			s = 0
		} else {
			var err error
			if s, err = mobysignal.ParseSignal(name); err != nil {
				return usageError(err.Error())
			}
		}
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return usageError("a process is missing")
	}
	return eachPath(std, "kill", args, func(text string) error {
		pid, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%s: arguments must be process IDs", text)
		}
		if err := sendSignal(pid, s); err != nil {
			return fmt.Errorf("(%d): %w", pid, err)
		}
		return nil
	})
}

func listSignals(std IO, args []string) error {
	for _, a := range args {
		n, err := strconv.Atoi(a)
		if err != nil {
			return usageError("invalid signal: " + a)
		}
		fmt.Fprintln(std.Out, strings.TrimPrefix(unix.SignalName(syscall.Signal(n&0x7f)), "SIG"))
	}
	for n := 1; len(args) == 0 && n < 32; n++ {
		fmt.Fprintf(std.Out, "%2d) %s\n", n, strings.TrimPrefix(unix.SignalName(syscall.Signal(n)), "SIG"))
	}
	return nil
}

func timeoutCommand(_ IO, args []string) error {
	s := syscall.SIGTERM
	for len(args) > 1 && args[0] == "-s" {
		var err error
		if s, err = mobysignal.ParseSignal(args[1]); err != nil {
			return usageError(err.Error())
		}
		args = args[2:]
	}
	if len(args) > 1 && args[0] == "-t" {
		args = args[1:]
	}
	if len(args) < 2 {
		return usageError("timeout [-s SIGNAL] SECONDS COMMAND [ARG...]")
	}
	limit, err := seconds(args[0])
	if err != nil {
		return usageError("invalid time: " + args[0])
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[1], args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(s) }
	err = cmd.Run()
	if ctx.Err() != nil {
		return exitStatus(124)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
			return exitStatus(128 + int(st.Signal()))
		}
		return exitStatus(exit.ExitCode())
	}
	return err
}

func nohupCommand(_ IO, args []string) error {
	if len(args) == 0 {
		return usageError("a command is missing")
	}
	signal.Ignore(syscall.SIGHUP)
	return replaceProcess(args, os.Environ())
}

func nprocCommand(std IO, _ []string) error {
	fmt.Fprintln(std.Out, runtime.NumCPU())
	return nil
}

func ttyCommand(std IO, _ []string) error {
	name, err := terminalName(0)
	if err != nil || !term.IsTerminal(0) {
		fmt.Fprintln(std.Out, "not a tty")
		return exitStatus(1)
	}
	fmt.Fprintln(std.Out, name)
	return nil
}

func sttyCommand(std IO, args []string) error {
	w, h, err := term.GetSize(0)
	if err != nil {
		return errors.New("standard input is not a terminal")
	}
	if len(args) == 1 && args[0] == "size" {
		fmt.Fprintln(std.Out, h, w)
		return nil
	}
	if len(args) > 0 {
		return usageError("only size can be asked for")
	}
	fmt.Fprintf(std.Out, "rows %d; columns %d;\n", h, w)
	return nil
}

func clearCommand(std IO, _ []string) error {
	_, err := std.Out.Write([]byte("\x1b[H\x1b[2J\x1b[3J"))
	return err
}

func mountCommand(std IO, args []string) error {
	if len(args) > 0 {
		return usageError("only listing is supported")
	}
	data, err := mountTable()
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 3 {
			fmt.Fprintf(std.Out, "%s on %s type %s (%s)\n", f[0], f[1], f[2], f[3])
		}
	}
	return nil
}

func umountCommand(std IO, args []string) error {
	o, err := parse(args, "lf", "", nil)
	if err != nil {
		return err
	}
	flags := 0
	if o.has('l') {
		flags |= unix.MNT_DETACH
	}
	return eachPath(std, "umount", o.args, func(path string) error {
		if err := unix.Unmount(path, flags); err != nil {
			return &os.PathError{Op: "umount", Path: path, Err: err}
		}
		return nil
	})
}

func dmesgCommand(std IO, _ []string) error {
	buf := make([]byte, 1<<20)
	const readAll = 3 // SYSLOG_ACTION_READ_ALL, syslog(2)
	n, err := unix.Klogctl(readAll, buf)
	if err != nil {
		return err
	}
	_, err = std.Out.Write(buf[:n])
	return err
}

func uptimeCommand(std IO, _ []string) error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	up := time.Duration(info.Uptime) * time.Second
	load := func(i int) float64 { return float64(info.Loads[i]) / 65536 }
	fmt.Fprintf(std.Out, " %s up %s, load average: %.2f, %.2f, %.2f\n", time.Now().Format("15:04:05"), up, load(0), load(1), load(2))
	return nil
}

func freeCommand(std IO, args []string) error {
	o, err := parse(args, "hmkbg", "", nil)
	if err != nil {
		return err
	}
	kb := meminfo()
	show := func(k uint64) string {
		switch {
		case o.has('h'):
			return human(k * 1024)
		case o.has('m'):
			return strconv.FormatUint(k/1024, 10)
		case o.has('g'):
			return strconv.FormatUint(k>>20, 10)
		case o.has('b'):
			return strconv.FormatUint(k*1024, 10)
		}
		return strconv.FormatUint(k, 10)
	}
	cache := kb["Buffers"] + kb["Cached"] + kb["SReclaimable"]
	fmt.Fprintf(std.Out, "%-6s %12s %12s %12s %12s %12s %12s\n", "", "total", "used", "free", "shared", "buff/cache", "available")
	fmt.Fprintf(std.Out, "%-6s %12s %12s %12s %12s %12s %12s\n", "Mem:", show(kb["MemTotal"]), show(kb["MemTotal"]-kb["MemFree"]-cache), show(kb["MemFree"]), show(kb["Shmem"]), show(cache), show(kb["MemAvailable"]))
	fmt.Fprintf(std.Out, "%-6s %12s %12s %12s\n", "Swap:", show(kb["SwapTotal"]), show(kb["SwapTotal"]-kb["SwapFree"]), show(kb["SwapFree"]))
	return nil
}

func exprCommand(std IO, args []string) error {
	if len(args) == 1 {
		fmt.Fprintln(std.Out, args[0])
		return nil
	}
	if len(args) != 3 {
		return usageError("expr A OPERATOR B")
	}
	a, errA := strconv.ParseInt(args[0], 10, 64)
	b, errB := strconv.ParseInt(args[2], 10, 64)
	cmp := strings.Compare(args[0], args[2])
	if errA == nil && errB == nil {
		cmp = int(max(-1, min(1, a-b)))
	}
	truth := map[string]bool{"=": cmp == 0, "==": cmp == 0, "!=": cmp != 0, "<": cmp < 0, "<=": cmp <= 0, ">": cmp > 0, ">=": cmp >= 0}
	result := int64(0)
	if t, ok := truth[args[1]]; ok {
		if t {
			result = 1
		}
	} else {
		if errA != nil || errB != nil {
			return usageError("non-integer argument")
		}
		switch args[1] {
		case "+":
			result = a + b
		case "-":
			result = a - b
		case "*":
			result = a * b
		case "/", "%":
			if b == 0 {
				return usageError("division by zero")
			}
			result = a / b
			if args[1] == "%" {
				result = a % b
			}
		default:
			return usageError("unknown operator: " + args[1])
		}
	}
	fmt.Fprintln(std.Out, result)
	if result == 0 {
		return exitStatus(1)
	}
	return nil
}

func dateCommand(std IO, args []string) error {
	o, err := parse(args, "uIR", "d", map[string]byte{"utc": 'u'})
	if err != nil {
		return err
	}
	now := time.Now()
	if d := o.value('d', ""); d != "" {
		if now, err = parseDate(d); err != nil {
			return usageError(err.Error())
		}
	}
	if o.has('u') {
		now = now.UTC()
	}
	format := "%a %b %e %H:%M:%S %Z %Y"
	switch {
	case o.has('I'):
		format = "%Y-%m-%d"
	case o.has('R'):
		format = "%a, %d %b %Y %H:%M:%S %z"
	case len(o.args) > 0 && strings.HasPrefix(o.args[0], "+"):
		format = o.args[0][1:]
	case len(o.args) > 0:
		return usageError("the clock is not set from in here")
	}
	fmt.Fprintln(std.Out, strftime(format, now))
	return nil
}

func parseDate(text string) (time.Time, error) {
	if at, ok := strings.CutPrefix(text, "@"); ok {
		if n, err := strconv.ParseInt(at, 10, 64); err == nil {
			return time.Unix(n, 0), nil
		}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("invalid date %q", text)
}

func strftime(format string, t time.Time) string {
	layouts := map[byte]string{
		'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'I': "03", 'p': "PM", 'y': "06",
		'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'h': "Jan", 'e': "_2", 'Z': "MST", 'z': "-0700",
		'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06", 'c': "Mon Jan _2 15:04:05 2006", 'j': "002",
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		switch c := format[i]; c {
		case 's':
			b.WriteString(strconv.FormatInt(t.Unix(), 10))
		case 'N':
			fmt.Fprintf(&b, "%09d", t.Nanosecond())
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case '%':
			b.WriteByte('%')
		default:
			if layout, ok := layouts[c]; ok {
				b.WriteString(t.Format(layout))
			} else {
				b.WriteString(format[i-1 : i+1])
			}
		}
	}
	return b.String()
}

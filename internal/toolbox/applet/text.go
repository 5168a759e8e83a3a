package applet

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/portholehq/porthole/internal/toolbox/bre"
)

// lines calls fn with each line, its newline included; fn stops by io.EOF.
func lines(r io.Reader, fn func(line []byte) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			if e := fn(line); errors.Is(e, io.EOF) {
				return nil
			} else if e != nil {
				return e
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// countArg makes head -5 and tail -5 options with a value.
func countArg(args []string) []string {
	args = slices.Clone(args)
	for i, a := range args {
		if i > 0 && (args[i-1] == "-n" || args[i-1] == "-c") {
			continue
		}
		if len(a) > 1 && (a[0] == '-' || a[0] == '+') && strings.Trim(a[1:], "0123456789") == "" {
			if a[0] == '+' {
				args[i] = "-n" + a
			} else {
				args[i] = "-n" + a[1:]
			}
		}
		if a == "--" {
			break
		}
	}
	return args
}

func headCommand(std IO, args []string) error {
	o, err := parse(countArg(args), "qv", "nc", nil)
	if err != nil {
		return err
	}
	first := true
	n, err := strconv.ParseInt(o.value('n', "10"), 10, 64)
	if err != nil {
		return usageError("invalid number: " + o.value('n', ""))
	}
	bytesWanted := int64(-1)
	if o.has('c') {
		if bytesWanted, err = strconv.ParseInt(o.value('c', ""), 10, 64); err != nil {
			return usageError("invalid number: " + o.value('c', ""))
		}
	}
	return eachFile(std, "head", o.args, func(name string, r io.Reader) error {
		title(std, o, name, &first)
		if bytesWanted >= 0 {
			_, err := io.Copy(std.Out, io.LimitReader(r, bytesWanted))
			return err
		}
		left := n
		if left <= 0 {
			return nil
		}
		return lines(r, func(line []byte) error {
			if _, err := std.Out.Write(line); err != nil {
				return err
			}
			if left--; left <= 0 {
				return io.EOF
			}
			return nil
		})
	})
}

func title(std IO, o options, name string, first *bool) {
	if (len(o.args) > 1 || o.has('v')) && !o.has('q') {
		if !*first {
			fmt.Fprintln(std.Out)
		}
		fmt.Fprintf(std.Out, "==> %s <==\n", name)
	}
	*first = false
}

func tailCommand(std IO, args []string) error {
	o, err := parse(countArg(args), "fFqv", "nc", nil)
	if err != nil {
		return err
	}
	first := true
	spec := o.value('n', "10")
	fromStart := strings.HasPrefix(spec, "+")
	n, err := strconv.ParseInt(strings.TrimLeft(spec, "+-"), 10, 64)
	if err != nil {
		return usageError("invalid number: " + spec)
	}
	return eachFile(std, "tail", o.args, func(name string, r io.Reader) error {
		title(std, o, name, &first)
		if err := tailOf(std.Out, r, n, fromStart, o); err != nil {
			return err
		}
		if o.has('f') || o.has('F') {
			return follow(std.Out, r)
		}
		return nil
	})
}

func tailOf(w io.Writer, r io.Reader, n int64, fromStart bool, o options) error {
	if o.has('c') {
		size, err := strconv.Atoi(strings.TrimLeft(o.value('c', ""), "-"))
		if err != nil {
			return usageError("invalid number: " + o.value('c', ""))
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		_, err = w.Write(data[max(0, len(data)-size):])
		return err
	}
	if fromStart {
		at := int64(0)
		return lines(r, func(line []byte) error {
			if at++; at < n {
				return nil
			}
			_, err := w.Write(line)
			return err
		})
	}
	var last [][]byte
	err := lines(r, func(line []byte) error {
		last = append(last, line)
		if int64(len(last)) > n {
			last = last[1:]
		}
		return nil
	})
	for _, l := range last {
		if _, e := w.Write(l); e != nil {
			return e
		}
	}
	return err
}

// follow copies what is appended, until it is killed.
func follow(w io.Writer, r io.Reader) error {
	for {
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
		<-time.After(200 * time.Millisecond)
	}
}

func wcCommand(std IO, args []string) error {
	o, err := parse(args, "lwcm", "", nil)
	if err != nil {
		return err
	}
	all := !o.has('l') && !o.has('w') && !o.has('c') && !o.has('m')
	var total [4]int
	show := func(c [4]int, name string) {
		var cols []string
		for i, flag := range []byte("lwcm") {
			if o.has(flag) || all && flag != 'm' {
				cols = append(cols, fmt.Sprintf("%7d", c[i]))
			}
		}
		text := strings.Join(cols, " ")
		if len(cols) == 1 {
			text = strings.TrimSpace(text)
		}
		if name != "-" {
			text += " " + name
		}
		fmt.Fprintln(std.Out, text)
	}
	err = eachFile(std, "wc", o.args, func(name string, r io.Reader) error {
		var c [4]int
		err := lines(r, func(line []byte) error {
			if line[len(line)-1] == '\n' {
				c[0]++
			}
			c[1] += len(bytes.Fields(line))
			c[2] += len(line)
			c[3] += utf8.RuneCount(line)
			return nil
		})
		show(c, name)
		for i := range c {
			total[i] += c[i]
		}
		return err
	})
	if len(o.args) > 1 {
		show(total, "total")
	}
	return err
}

func sortCommand(std IO, args []string) error {
	o, err := parse(args, "nrufbhV", "kt", nil)
	if err != nil {
		return err
	}
	var all []string
	err = eachFile(std, "sort", o.args, func(_ string, r io.Reader) error {
		return lines(r, func(line []byte) error {
			all = append(all, strings.TrimSuffix(string(line), "\n"))
			return nil
		})
	})
	if err != nil {
		return err
	}
	key, err := sortKey(o)
	if err != nil {
		return err
	}
	less := func(a, b string) int {
		ka, kb := key(a), key(b)
		c := strings.Compare(ka, kb)
		if o.has('n') || o.has('h') {
			na, nb := number(ka), number(kb)
			c = 0
			if na < nb {
				c = -1
			} else if na > nb {
				c = 1
			}
		}
		if c == 0 && !o.has('u') {
			c = strings.Compare(a, b)
		}
		if o.has('r') {
			c = -c
		}
		return c
	}
	slices.SortStableFunc(all, less)
	if o.has('u') {
		all = slices.CompactFunc(all, func(a, b string) bool { return less(a, b) == 0 })
	}
	w := bufio.NewWriter(std.Out)
	for _, l := range all {
		fmt.Fprintln(w, l)
	}
	return w.Flush()
}

// sortKey is the part of a line that -k names.
func sortKey(o options) (func(string) string, error) {
	fold := func(s string) string { return s }
	if o.has('f') {
		fold = strings.ToLower
	}
	if !o.has('k') {
		return fold, nil
	}
	from, _, _ := strings.Cut(o.value('k', ""), ",")
	from, _, _ = strings.Cut(from, ".")
	for _, c := range strings.TrimLeft(from, "0123456789") {
		o.set[byte(c)] = true
	}
	n, err := strconv.Atoi(strings.TrimRight(from, "nrfbhV"))
	if err != nil || n < 1 {
		return nil, usageError("invalid key: " + o.value('k', ""))
	}
	return func(line string) string {
		var fields []string
		if t := o.value('t', ""); t != "" {
			fields = strings.Split(line, t)
		} else {
			fields = strings.Fields(line)
		}
		if n > len(fields) {
			return ""
		}
		return fold(strings.Join(fields[n-1:], " "))
	}, nil
}

// number is the number that a text begins with, a unit included.
func number(s string) float64 {
	s = strings.TrimSpace(s)
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '.' || end == 0 && (s[end] == '-' || s[end] == '+')) {
		end++
	}
	f, err := strconv.ParseFloat(s[:end], 64)
	if err != nil {
		return 0
	}
	if end < len(s) {
		if i := strings.IndexByte("KMGTPE", s[end]&^0x20); i >= 0 {
			for range i + 1 {
				f *= 1024
			}
		}
	}
	return f
}

func uniqCommand(std IO, args []string) error {
	o, err := parse(args, "cdui", "", nil)
	if err != nil {
		return err
	}
	var last string
	count := 0
	flush := func() {
		if count == 0 || o.has('d') && count < 2 || o.has('u') && count > 1 {
			return
		}
		if o.has('c') {
			fmt.Fprintf(std.Out, "%7d ", count)
		}
		fmt.Fprintln(std.Out, last)
	}
	err = eachFile(std, "uniq", o.args[:min(1, len(o.args))], func(_ string, r io.Reader) error {
		return lines(r, func(line []byte) error {
			text := strings.TrimSuffix(string(line), "\n")
			if count > 0 && (text == last || o.has('i') && strings.EqualFold(text, last)) {
				count++
				return nil
			}
			flush()
			last, count = text, 1
			return nil
		})
	})
	flush()
	return err
}

func grepCommand(std IO, args []string) error {
	o, err := parse(args, "EFGHcilnoqrRsvwxh", "emABC", map[string]byte{"color": 0, "ignore-case": 'i', "invert-match": 'v', "count": 'c', "quiet": 'q'})
	if err != nil {
		return err
	}
	patterns := o.values['e']
	if len(patterns) == 0 {
		if len(o.args) == 0 {
			return usageError("a pattern is missing")
		}
		patterns, o.args = strings.Split(o.args[0], "\n"), o.args[1:]
	}
	re, err := grepPattern(patterns, o)
	if err != nil {
		return usageError(err.Error())
	}
	files := o.args
	if o.has('r') || o.has('R') {
		if files, err = allFiles(files); err != nil {
			return err
		}
	}
	g := grep{std: std, o: o, re: re, names: len(files) > 1 && !o.has('h') || o.has('H')}
	if g.max, err = strconv.Atoi(o.value('m', "-1")); err != nil {
		return usageError("invalid number: " + o.value('m', ""))
	}
	context := o.value('C', "0")
	if g.before, err = strconv.Atoi(o.value('B', context)); err != nil {
		return usageError("invalid number")
	}
	if g.after, err = strconv.Atoi(o.value('A', context)); err != nil {
		return usageError("invalid number")
	}
	err = eachFile(std, "grep", files, g.file)
	if g.found && (err == nil || o.has('q')) {
		return nil
	}
	if err != nil {
		return exitStatus(2)
	}
	return exitStatus(1)
}

// grepPattern makes one expression of all patterns. Basic expressions become
// extended ones.
func grepPattern(patterns []string, o options) (*regexp.Regexp, error) {
	var parts []string
	for _, p := range patterns {
		switch {
		case o.has('F'):
			p = regexp.QuoteMeta(p)
		case !o.has('E'):
			p = bre.Extended(p)
		}
		parts = append(parts, p)
	}
	text := "(?:" + strings.Join(parts, "|") + ")"
	if o.has('w') {
		text = `\b` + text + `\b`
	}
	if o.has('x') {
		text = "^" + text + "$"
	}
	if o.has('i') {
		text = "(?i)" + text
	}
	return regexp.Compile(text)
}

type grep struct {
	std           IO
	o             options
	re            *regexp.Regexp
	names         bool
	max           int
	before, after int
	found         bool
}

func (g *grep) file(name string, r io.Reader) error {
	if name == "-" {
		name = "(standard input)"
	}
	prefix := ""
	if g.names {
		prefix = name + ":"
	}
	n, matches, trailing := 0, 0, 0
	var previous []string
	err := lines(r, func(raw []byte) error {
		n++
		line := strings.TrimSuffix(string(raw), "\n")
		if g.re.MatchString(line) == g.o.has('v') {
			if trailing > 0 {
				trailing--
				g.print(prefix, n, line, '-')
			} else if g.before > 0 {
				previous = append(previous, line)
				previous = previous[max(0, len(previous)-g.before):]
			}
			return nil
		}
		g.found = true
		matches++
		if g.o.has('q') || g.o.has('l') {
			return io.EOF
		}
		if !g.o.has('c') {
			for i, p := range previous {
				g.print(prefix, n-len(previous)+i, p, '-')
			}
			g.match(prefix, n, line)
		}
		previous, trailing = nil, g.after
		if g.max > 0 && matches >= g.max {
			return io.EOF
		}
		return nil
	})
	switch {
	case g.o.has('l') && matches > 0:
		fmt.Fprintln(g.std.Out, name)
	case g.o.has('c'):
		fmt.Fprintf(g.std.Out, "%s%d\n", prefix, matches)
	}
	return err
}

func (g *grep) match(prefix string, n int, line string) {
	if !g.o.has('o') {
		g.print(prefix, n, line, ':')
		return
	}
	for _, m := range g.re.FindAllString(line, -1) {
		g.print(prefix, n, m, ':')
	}
}

func (g *grep) print(prefix string, n int, line string, sep byte) {
	if sep == '-' && prefix != "" {
		prefix = prefix[:len(prefix)-1] + "-"
	}
	if g.o.has('n') {
		prefix += strconv.Itoa(n) + string(sep)
	}
	fmt.Fprintln(g.std.Out, prefix+line)
}

func cutCommand(std IO, args []string) error {
	o, err := parse(args, "s", "dfcb", nil)
	if err != nil {
		return err
	}
	spec := o.value('f', o.value('c', o.value('b', "")))
	ranges, err := cutRanges(spec)
	if err != nil {
		return err
	}
	delimiter := o.value('d', "\t")
	return eachFile(std, "cut", o.args, func(_ string, r io.Reader) error {
		return lines(r, func(raw []byte) error {
			line := strings.TrimSuffix(string(raw), "\n")
			var parts []string
			sep := ""
			switch {
			case o.has('f') && !strings.Contains(line, delimiter):
				if !o.has('s') {
					fmt.Fprintln(std.Out, line)
				}
				return nil
			case o.has('f'):
				parts, sep = strings.Split(line, delimiter), delimiter
			default:
				parts = strings.Split(line, "")
			}
			var keep []string
			for i, p := range parts {
				if slices.ContainsFunc(ranges, func(r [2]int) bool { return i+1 >= r[0] && i+1 <= r[1] }) {
					keep = append(keep, p)
				}
			}
			fmt.Fprintln(std.Out, strings.Join(keep, sep))
			return nil
		})
	})
}

func cutRanges(spec string) ([][2]int, error) {
	var ranges [][2]int
	for part := range strings.SplitSeq(spec, ",") {
		from, to, ranged := strings.Cut(part, "-")
		r := [2]int{1, int(^uint(0) >> 1)}
		var err error
		if from != "" {
			if r[0], err = strconv.Atoi(from); err != nil || r[0] < 1 {
				return nil, usageError("invalid list: " + spec)
			}
		}
		switch {
		case !ranged && from != "":
			r[1] = r[0]
		case to != "":
			if r[1], err = strconv.Atoi(to); err != nil {
				return nil, usageError("invalid list: " + spec)
			}
		case !ranged:
			return nil, usageError("which fields (-f) or characters (-c)?")
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

func trCommand(std IO, args []string) error {
	o, err := parse(args, "dscC", "", nil)
	if err != nil {
		return err
	}
	if len(o.args) == 0 || len(o.args) == 1 && !o.has('d') && !o.has('s') {
		return usageError("two sets are needed")
	}
	from := trSet(o.args[0])
	var to []rune
	if len(o.args) > 1 {
		to = trSet(o.args[1])
	}
	squeeze := from
	if to != nil {
		squeeze = to
	}
	in, out := bufio.NewReader(std.In), bufio.NewWriter(std.Out)
	last := rune(-1)
	for {
		r, _, err := in.ReadRune()
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		if err != nil {
			return err
		}
		i := slices.Index(from, r)
		if o.has('c') || o.has('C') {
			if i < 0 {
				i = len(to)
			} else {
				i = -1
			}
		}
		if i >= 0 {
			if o.has('d') {
				continue
			}
			if len(to) > 0 {
				r = to[min(i, len(to)-1)]
			}
		}
		if o.has('s') && r == last && (slices.Contains(squeeze, r) || i >= 0) {
			continue
		}
		last = r
		if _, err := out.WriteRune(r); err != nil {
			return err
		}
		if r == '\n' {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
}

// trSet expands a-z, classes and escapes.
func trSet(text string) []rune {
	classes := map[string]string{
		"[:lower:]": "a-z", "[:upper:]": "A-Z", "[:digit:]": "0-9", "[:alpha:]": "A-Za-z",
		"[:alnum:]": "0-9A-Za-z", "[:space:]": " \t\n\v\f\r", "[:punct:]": "!-/:-@[-`{-~",
	}
	for name, set := range classes {
		text = strings.ReplaceAll(text, name, set)
	}
	if s, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`); err == nil {
		text = s
	}
	var set []rune
	runes := []rune(text)
	for i := 0; i < len(runes); i++ {
		if i+2 < len(runes) && runes[i+1] == '-' && runes[i+2] >= runes[i] {
			for r := runes[i]; r <= runes[i+2]; r++ {
				set = append(set, r)
			}
			i += 2
			continue
		}
		set = append(set, runes[i])
	}
	return set
}

func teeCommand(std IO, args []string) error {
	o, err := parse(args, "ai", "", nil)
	if err != nil {
		return err
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if o.has('a') {
		flags = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	}
	out := []io.Writer{std.Out}
	for _, name := range o.args {
		f, err := os.OpenFile(name, flags, 0o666)
		if err != nil {
			return err
		}
		defer f.Close()
		out = append(out, f)
	}
	_, err = io.Copy(io.MultiWriter(out...), std.In)
	return err
}

func seqCommand(std IO, args []string) error {
	// Negative numbers are no options, so there are only these two.
	width, sep := false, "\n"
	for len(args) > 0 {
		if args[0] == "-w" {
			width, args = true, args[1:]
		} else if args[0] == "-s" && len(args) > 1 {
			sep, args = args[1], args[2:]
		} else {
			break
		}
	}
	var n []float64
	decimals := 0
	for _, a := range args {
		f, err := strconv.ParseFloat(a, 64)
		if err != nil {
			return usageError("invalid number: " + a)
		}
		if _, frac, ok := strings.Cut(a, "."); ok {
			decimals = max(decimals, len(frac))
		}
		n = append(n, f)
	}
	first, step, last := 1.0, 1.0, 0.0
	switch len(n) {
	case 1:
		last = n[0]
	case 2:
		first, last = n[0], n[1]
	case 3:
		first, step, last = n[0], n[1], n[2]
	default:
		return usageError("one to three numbers are needed")
	}
	if step == 0 {
		return usageError("the step cannot be zero")
	}
	pad := 0
	if width {
		pad = max(len(strconv.FormatFloat(first, 'f', decimals, 64)), len(strconv.FormatFloat(last, 'f', decimals, 64)))
	}
	w := bufio.NewWriter(std.Out)
	for i := 0; ; i++ {
		v := first + float64(i)*step
		if step > 0 && v > last+1e-9 || step < 0 && v < last-1e-9 {
			if i > 0 {
				fmt.Fprintln(w)
			}
			return w.Flush()
		}
		if i > 0 {
			if _, err := w.WriteString(sep); err != nil {
				return err
			}
		}
		fmt.Fprintf(w, "%0*.*f", pad, decimals, v)
	}
}

func yesCommand(std IO, args []string) error {
	text := "y"
	if len(args) > 0 {
		text = strings.Join(args, " ")
	}
	block := []byte(strings.Repeat(text+"\n", 1+4096/(len(text)+1)))
	for {
		if _, err := std.Out.Write(block); err != nil {
			return exitStatus(1)
		}
	}
}

func sumCommand(std IO, args []string) error {
	return eachFile(std, "md5sum", args, func(name string, r io.Reader) error {
		h := md5.New()
		if _, err := io.Copy(h, r); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "%x  %s\n", h.Sum(nil), name)
		return nil
	})
}

func hexdumpCommand(std IO, args []string) error {
	o, err := parse(args, "C", "n", nil)
	if err != nil {
		return err
	}
	return eachFile(std, "hexdump", o.args, func(_ string, r io.Reader) error {
		in := bufio.NewReader(r)
		offset := 0
		for {
			var b [16]byte
			n, err := io.ReadFull(in, b[:])
			if n > 0 {
				fmt.Fprintf(std.Out, "%08x ", offset)
				for i := range b {
					if i%8 == 0 {
						fmt.Fprint(std.Out, " ")
					}
					if i < n {
						fmt.Fprintf(std.Out, "%02x ", b[i])
					} else {
						fmt.Fprint(std.Out, "   ")
					}
				}
				text := bytes.Map(func(r rune) rune {
					if r < 32 || r > 126 {
						return '.'
					}
					return r
				}, b[:n])
				fmt.Fprintf(std.Out, " |%s|\n", text)
				offset += n
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				fmt.Fprintf(std.Out, "%08x\n", offset)
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
}

// allFiles lists the regular files below the given ones, or below here.
func allFiles(roots []string) ([]string, error) {
	if len(roots) == 0 {
		roots = []string{"."}
	}
	var files []string
	for _, root := range roots {
		if err := walkFiles(root, &files); err != nil {
			return nil, err
		}
	}
	sort.Strings(files)
	return files, nil
}

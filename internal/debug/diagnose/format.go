package diagnose

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"github.com/portholehq/porthole/internal/linux/shellword"
)

// headBytes are read of a program: more than the kernel's 256 for a #! line.
const headBytes = 4096

// shebang is the rest of a #! line.
func shebang(head []byte) (string, bool) {
	rest, ok := bytes.CutPrefix(head, []byte("#!"))
	if !ok {
		return "", false
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(line), true
}

// format looks at what kind of program a file is.
func (x *explainer) format(p string, head []byte, through []string) {
	switch line, script := shebang(head); {
	case script:
		x.script(p, line, through)
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		x.elf(p)
	case len(head) == 0:
		x.add(Finding{Kind: EmptyFile, Path: p, Text: p + " is empty", Fix: "build or copy it again: an interrupted COPY or download leaves such files"})
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		x.add(Finding{
			Kind: ByteOrderMark, Path: p, Line: 1,
			Text: p + ", line 1: a byte order mark (EF BB BF) stands before the #!, so the kernel does not see it",
			Fix:  "save the file as UTF-8 without BOM",
		})
	default:
		x.add(Finding{Kind: NotAProgram, Path: p, Line: 1, Text: p + " is neither an ELF program nor a script with #! in line 1" + looksLike(head), Fix: "add a first line such as #!/bin/sh, or name the interpreter: sh " + shellword.Quote(p)})
	}
}

// looksLike names formats of other systems.
func looksLike(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("MZ")):
		return ": it is a program for Windows"
	case bytes.HasPrefix(head, []byte("\xcf\xfa\xed\xfe")), bytes.HasPrefix(head, []byte("\xca\xfe\xba\xbe")):
		return ": it is a program for macOS, or Java"
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return ": it is a zip or jar file"
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return ": it is compressed"
	case bytes.HasPrefix(head, []byte("version https://git-lfs")):
		return ": it is a pointer of Git LFS, not the file"
	}
	return ""
}

// script looks at the interpreter of a #! line.
func (x *explainer) script(p, line string, through []string) {
	text := strings.TrimLeft(line, " \t")
	interpreter := text
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		interpreter = text[:i]
	}
	if strings.HasSuffix(line, "\r") {
		x.add(Finding{
			Kind: CarriageRet, Path: p, Line: 1,
			Text: fmt.Sprintf("%s exists, but its line 1 ends in CR LF (as on Windows): the kernel looks for %s", p, quoted(interpreterWithCR(text, interpreter))),
			Fix:  fmt.Sprintf("convert it before COPY: sed -i 's/\\r$//' %s, and keep it so with \"* text eol=lf\" in .gitattributes", shellword.Quote(path.Base(p))),
		})
		return
	}
	if interpreter == "" {
		x.add(Finding{Kind: NoInterpreter, Path: p, Line: 1, Text: p + ", line 1: no interpreter is named behind #!", Fix: "name one, such as #!/bin/sh"})
		return
	}
	full := interpreter
	if !path.IsAbs(full) {
		full = path.Join(x.c.Dir, full)
	}
	if x.hidden(full) {
		return
	}
	if _, err := x.root.Stat(full); err != nil {
		x.add(Finding{
			Kind: NoInterpreter, Path: p, Line: 1,
			Text: fmt.Sprintf("%s exists, but the interpreter that its line 1 names, %s, does not", p, interpreter),
			Fix:  x.otherInterpreter(interpreter),
		})
		return
	}
	x.program(full, append(through, p))
	if path.Base(interpreter) == "env" {
		x.envCommand(p, text)
	}
}

// interpreterWithCR is what the kernel takes for the interpreter, or for its
// argument.
func interpreterWithCR(text, interpreter string) string {
	if strings.HasSuffix(interpreter, "\r") {
		return interpreter
	}
	return text
}

// otherInterpreter names one that the image has.
func (x *explainer) otherInterpreter(missing string) string {
	name := path.Base(missing)
	for _, d := range []string{"/bin", "/usr/bin", "/usr/local/bin", "/sbin", "/usr/sbin"} {
		if p := path.Join(d, name); p != missing && x.isFile(p) {
			return "there is " + p + ": change line 1 to #!" + p
		}
	}
	if name == "bash" && x.isFile("/bin/sh") {
		return "the image has /bin/sh only: install bash, or write the script for #!/bin/sh"
	}
	return "install it in the image, or name one that is there"
}

func (x *explainer) isFile(p string) bool {
	info, err := x.root.Stat(p)
	return err == nil && info.Mode.IsRegular()
}

// envCommand looks at what `#!/usr/bin/env NAME` will look for.
func (x *explainer) envCommand(p, text string) {
	for _, word := range strings.Fields(text)[1:] {
		if strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
			continue
		}
		if strings.Contains(word, "/") {
			return
		}
		for d := range strings.SplitSeq(envOf(x.c.Env, "PATH"), ":") {
			if q := path.Join(d, word); x.hidden(q) || x.isFile(q) {
				return
			}
		}
		x.add(Finding{
			Kind: NoInterpreter, Path: p, Line: 1,
			Text: fmt.Sprintf("%s exists, but its line 1 has env look for %s, which is in no directory of PATH", p, quoted(word)),
			Fix:  x.otherInterpreter("/usr/bin/" + word),
		})
		return
	}
}

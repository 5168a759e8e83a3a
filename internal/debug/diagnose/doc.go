// Package diagnose tells why a command cannot be executed in a root filesystem,
// by reading the files that the kernel has looked at.
//
// The kernel has one word for many things: ENOENT is a missing program, but also
// a missing interpreter, a missing ELF loader, and a carriage return at the end
// of a #! line. [Explain] follows the same way as execve(2) and names the file,
// the line and what to do about it.
//
// A root filesystem is a [Root]; [Dir] makes one of an open directory that no
// link in it leads out of. What is read of a file is bounded: it is the image's,
// which may hold anything. Nothing is executed and nothing written.
package diagnose

import (
	"fmt"
	"strings"
	"unicode"
)

// Kind is what is wrong, in one word.
type Kind string

// The kinds.
const (
	Missing       Kind = "missing-command"     // there is no such file
	NotExecutable Kind = "not-executable"      // the x bit is missing, or is for others
	Directory     Kind = "directory"           // it is a directory
	NoExecMount   Kind = "noexec-mount"        // it is on a mount with noexec
	CarriageRet   Kind = "crlf"                // the #! line ends in CR
	ByteOrderMark Kind = "byte-order-mark"     // something invisible stands before the #!
	NoInterpreter Kind = "missing-interpreter" // of the #! line
	NoLoader      Kind = "missing-loader"      // the ELF interpreter
	WrongArch     Kind = "wrong-architecture"  // for another processor
	NotAProgram   Kind = "not-a-program"       // neither ELF nor #!
	EmptyFile     Kind = "empty-file"
	BadUser       Kind = "unknown-user"
	BadGroup      Kind = "unknown-group"
	NoWorkdir     Kind = "missing-workdir"
	WorkdirDenied Kind = "bad-workdir" // it is no directory, or may not be entered
)

// Finding is one thing that is wrong.
type Finding struct {
	Kind Kind
	Path string // the file it is about, as seen inside; empty: none
	Line int    // in Path; 0: none
	Text string // what is wrong, in one line
	Fix  string // what to do about it, in one line
}

// Hint is all of it in one line.
func (f Finding) Hint() string { return f.Text + "; " + f.Fix }

// Command is what is to be executed.
type Command struct {
	Args []string
	Env  []string // for PATH
	Dir  string   // empty: /
	User string   // as the user gave it: "", "1000", "app", "app:staff"
	// Arch is the processor of the host, as GOARCH; empty: that of this program.
	Arch string
	// Hidden are mounts that are not in the root filesystem, such as a tmpfs: what
	// is below them is not known.
	Hidden []string
	// NoExec are those of them that nothing can be executed on.
	NoExec []string
	Denied bool // the kernel said EACCES
}

// quoted is something that a file says: with what cannot be seen made visible.
func quoted(s string) string { return fmt.Sprintf("%q", s) }

// printable is a line that does nothing to a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

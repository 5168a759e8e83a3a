package syscalls

import (
	"fmt"
	"strings"
)

// quote prints bytes as strace does: in quotes, with C's escapes, and dots
// behind where there are more.
func quote(b []byte, more bool) string {
	var s strings.Builder
	s.WriteByte('"')
	for i, c := range b {
		switch c {
		case '"', '\\':
			s.WriteByte('\\')
			s.WriteByte(c)
		case '\n':
			s.WriteString(`\n`)
		case '\t':
			s.WriteString(`\t`)
		case '\r':
			s.WriteString(`\r`)
		case '\v':
			s.WriteString(`\v`)
		case '\f':
			s.WriteString(`\f`)
		default:
			switch {
			case c >= ' ' && c < 0x7f:
				s.WriteByte(c)
			case i+1 < len(b) && b[i+1] >= '0' && b[i+1] <= '9':
				fmt.Fprintf(&s, `\%03o`, c) // a digit that follows must not become part of it
			default:
				fmt.Fprintf(&s, `\%o`, c)
			}
		}
	}
	s.WriteByte('"')
	if more {
		s.WriteString("...")
	}
	return s.String()
}

// pointer prints an address.
func pointer(addr uint64) string {
	if addr == 0 {
		return "NULL"
	}
	return fmt.Sprintf("%#x", addr)
}

// Package bre has the basic regular expressions of grep(1), sed(1) and vi(1), in
// terms of package regexp.
package bre

import "strings"

// Extended makes an expression of package regexp of a basic one: there ( ) { } + ? |
// have their meaning with a backslash only, a * in front is itself, and \< and \>
// are the ends of words.
func Extended(basic string) string {
	var b strings.Builder
	inClass := false
	for i := 0; i < len(basic); i++ {
		c := basic[i]
		switch {
		case inClass:
			inClass = c != ']'
			b.WriteByte(c)
		case c == '[':
			inClass = true
			b.WriteByte(c)
			for i+1 < len(basic) && (basic[i+1] == ']' || basic[i+1] == '^') {
				i++
				b.WriteByte(basic[i])
				if basic[i] == ']' {
					break
				}
			}
		case c == '\\' && i+1 < len(basic):
			i++
			switch c := basic[i]; {
			case c == '<' || c == '>':
				b.WriteString(`\b`)
			case strings.IndexByte("(){}+?|", c) >= 0:
				b.WriteByte(c)
			default:
				b.WriteByte('\\')
				b.WriteByte(c)
			}
		case strings.IndexByte("(){}+?|", c) >= 0, c == '*' && i == 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Expand writes the replacement of one match, whose indexes in line are as
// [regexp.Regexp.FindStringSubmatchIndex] has them: & is what matched, \0 to \9 are
// groups, and escapes what other characters behind a backslash stand for, if not
// for themselves.
func Expand(b *strings.Builder, replacement, line string, match []int, escapes map[byte]byte) {
	for i := 0; i < len(replacement); i++ {
		switch c := replacement[i]; {
		case c == '&':
			b.WriteString(line[match[0]:match[1]])
		case c == '\\' && i+1 < len(replacement):
			i++
			c := replacement[i]
			if c >= '0' && c <= '9' {
				if g := int(c-'0') * 2; g+1 < len(match) && match[g] >= 0 {
					b.WriteString(line[match[g]:match[g+1]])
				}
				continue
			}
			if e, ok := escapes[c]; ok {
				c = e
			}
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
}

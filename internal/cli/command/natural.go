package command

import (
	"cmp"
	"strings"
)

// CompareNatural orders names as people do: "net2" before "net10".
func CompareNatural(x, y string) int {
	whole := cmp.Compare(x, y)
	for x != "" && y != "" {
		if isDigit(x[0]) && isDigit(y[0]) {
			var n, m string
			n, x = cutDigits(x)
			m, y = cutDigits(y)
			if c := cmp.Or(cmp.Compare(len(n), len(m)), cmp.Compare(n, m)); c != 0 {
				return c
			}
			continue
		}
		if c := cmp.Compare(x[0], y[0]); c != 0 {
			return c
		}
		x, y = x[1:], y[1:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), whole)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// cutDigits cuts the leading number off, without its leading zeros.
func cutDigits(s string) (digits, rest string) {
	end := 0
	for end < len(s) && isDigit(s[end]) {
		end++
	}
	return strings.TrimLeft(s[:end], "0"), s[end:]
}

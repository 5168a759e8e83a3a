package magic

import (
	"bytes"
	"encoding/json"
	"path"
	"strings"
	"unicode/utf8"
)

// textKind describes text; ok is false for what is none.
func textKind(head []byte) (k Kind, ok bool) {
	charset, encoding, ok := charset(head)
	if !ok {
		return Kind{}, false
	}
	k = Kind{charset + " text", "text/plain", encoding}
	what, kind := language(head)
	if kind != "" {
		k.Type = kind
	}
	if what != "" {
		k.Text = what + ", " + k.Text
		if strings.HasSuffix(what, "script") {
			k.Text += " executable"
		}
	}
	k.Text += lines(head)
	return k, true
}

// charset tells how text is encoded.
func charset(head []byte) (name, encoding string, ok bool) {
	switch {
	case bytes.HasPrefix(head, []byte{0xef, 0xbb, 0xbf}):
		return "Unicode text, UTF-8 (with BOM)", "utf-8", true
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}):
		return "Unicode text, UTF-16, little-endian", "utf-16le", true
	case bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		return "Unicode text, UTF-16, big-endian", "utf-16be", true
	}
	ascii, high := true, false
	for _, c := range head {
		switch {
		case c >= 0x80:
			ascii = false
			high = high || c < 0xa0
		case c < ' ' && !strings.ContainsRune("\a\b\t\n\v\f\r\x1b", rune(c)), c == 0x7f:
			return "", "", false
		}
	}
	// The end may be in the middle of a character.
	whole := head
	if len(head) == headSize {
		for range utf8.UTFMax {
			if utf8.Valid(whole) {
				break
			}
			whole = whole[:len(whole)-1]
		}
	}
	switch {
	case ascii:
		return "ASCII", "us-ascii", true
	case utf8.Valid(whole):
		return "Unicode text, UTF-8", "utf-8", true
	case !high:
		return "ISO-8859", "iso-8859-1", true
	}
	return "Non-ISO extended-ASCII", "unknown-8bit", true
}

// interpreters are what scripts are called by the name of their program.
var interpreters = []struct{ prefix, text, kind string }{
	{"bash", "Bourne-Again shell script", "text/x-shellscript"},
	{"python", "Python script", "text/x-script.python"},
	{"perl", "Perl script", "text/x-perl"},
	{"ruby", "Ruby script", "text/x-ruby"},
	{"node", "Node.js script", "application/javascript"},
	{"php", "PHP script", "text/x-php"},
	{"awk", "awk script", "text/x-awk"},
	{"gawk", "awk script", "text/x-awk"},
	{"zsh", "Paul Falstad's zsh script", "text/x-shellscript"},
	{"tclsh", "Tcl script", "text/x-tcl"},
	{"lua", "Lua script", "text/x-lua"},
	{"dash", "POSIX shell script", "text/x-shellscript"},
	{"ash", "POSIX shell script", "text/x-shellscript"},
	{"sh", "POSIX shell script", "text/x-shellscript"},
}

// language tells what is written; empty: nothing that is known.
func language(head []byte) (text, kind string) {
	if rest, ok := bytes.CutPrefix(head, []byte("#!")); ok {
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		words := strings.Fields(string(line))
		if len(words) > 1 && path.Base(words[0]) == "env" {
			words = words[1:]
			for len(words) > 1 && strings.HasPrefix(words[0], "-") {
				words = words[1:]
			}
		}
		if len(words) == 0 {
			return "script", "text/plain"
		}
		for _, i := range interpreters {
			if strings.HasPrefix(path.Base(words[0]), i.prefix) {
				return i.text, i.kind
			}
		}
		return "a " + strings.Join(words, " ") + " script", "text/plain"
	}
	trimmed := bytes.TrimLeft(head, " \t\r\n\xef\xbb\xbf")
	for _, s := range []struct{ prefix, text, kind string }{
		{"-----BEGIN CERTIFICATE REQUEST-----", "PEM certificate request", ""},
		{"-----BEGIN CERTIFICATE-----", "PEM certificate", ""},
		{"-----BEGIN RSA PRIVATE KEY-----", "PEM RSA private key", ""},
		{"-----BEGIN EC PRIVATE KEY-----", "PEM EC private key", ""},
		{"-----BEGIN PRIVATE KEY-----", "PEM private key", ""},
		{"-----BEGIN OPENSSH PRIVATE KEY-----", "OpenSSH private key", ""},
		{"-----BEGIN PUBLIC KEY-----", "PEM public key", ""},
		{"-----BEGIN PGP ", "PGP message, key or signature", "application/pgp"},
		{"<?xml", "XML 1.0 document", "text/xml"},
		{"<?php", "PHP script", "text/x-php"},
	} {
		if bytes.HasPrefix(trimmed, []byte(s.prefix)) {
			return s.text, s.kind
		}
	}
	lower := bytes.ToLower(trimmed[:min(len(trimmed), 256)])
	switch {
	case bytes.HasPrefix(lower, []byte("<!doctype html")), bytes.HasPrefix(lower, []byte("<html")):
		return "HTML document", "text/html"
	case bytes.HasPrefix(lower, []byte("<svg")):
		return "SVG Scalable Vector Graphics image", "image/svg+xml"
	case len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') && isJSON(head):
		return "JSON text data", "application/json"
	}
	return "", ""
}

// isJSON tells whether text is JSON, or begins so.
func isJSON(head []byte) bool {
	if len(head) < headSize {
		return json.Valid(head)
	}
	dec := json.NewDecoder(bytes.NewReader(head))
	for n := 0; ; n++ {
		if _, err := dec.Token(); err != nil {
			return n > 100 // it ends in the middle
		}
	}
}

// lines tells what is odd about the ends of lines.
func lines(head []byte) string {
	text := ""
	longest := 0
	for line := range bytes.SplitSeq(head, []byte("\n")) {
		longest = max(longest, len(line))
	}
	const veryLong = 300
	if longest > veryLong {
		text += ", with very long lines"
	}
	crlf, lf, cr := bytes.Count(head, []byte("\r\n")), bytes.Count(head, []byte("\n")), bytes.Count(head, []byte("\r"))
	switch {
	case lf == 0 && cr == 0:
		text += ", with no line terminators"
	case crlf > 0 && crlf == lf:
		text += ", with CRLF line terminators"
	case crlf > 0:
		text += ", with CRLF, LF line terminators"
	case lf == 0:
		text += ", with CR line terminators"
	}
	if bytes.ContainsRune(head, 0x1b) {
		text += ", with escape sequences"
	}
	return text
}

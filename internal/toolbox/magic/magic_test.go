package magic

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestContent(t *testing.T) {
	tar := make([]byte, 512)
	copy(tar[257:], "ustar\x0000")
	tests := []struct{ name, content, text, kind string }{
		{"nothing", "", "empty", "inode/x-empty"},
		{"ASCII", "hello\nworld\n", "ASCII text", "text/plain"},
		{"no line end", "hello", "ASCII text, with no line terminators", "text/plain"},
		{"CRLF", "a\r\nb\r\n", "ASCII text, with CRLF line terminators", "text/plain"},
		{"both", "a\r\nb\n", "ASCII text, with CRLF, LF line terminators", "text/plain"},
		{"long", strings.Repeat("x", 400) + "\n", "ASCII text, with very long lines", "text/plain"},
		{"escapes", "\x1b[31mred\n", "ASCII text, with escape sequences", "text/plain"},
		{"UTF-8", "größe\n", "Unicode text, UTF-8 text", "text/plain"},
		{"UTF-8, cut in a character", strings.Repeat("\n", headSize-1) + "\xc3", "Unicode text, UTF-8 text", "text/plain"},
		{"Latin 1", "gr\xf6\xdfe\n", "ISO-8859 text", "text/plain"},
		{"shell", "#!/bin/sh\necho\n", "POSIX shell script, ASCII text executable", "text/x-shellscript"},
		{"bash by env", "#!/usr/bin/env -S bash -e\n", "Bourne-Again shell script, ASCII text executable", "text/x-shellscript"},
		{"python", "#!/usr/bin/python3\n", "Python script, ASCII text executable", "text/x-script.python"},
		{"other script", "#!/opt/x -y\n", "a /opt/x -y script, ASCII text executable", "text/plain"},
		{"JSON", "{\"a\": [1]}\n", "JSON text data, ASCII text", "application/json"},
		{"no JSON", "{a}\n", "ASCII text", "text/plain"},
		{"HTML", "<!DOCTYPE html>\n", "HTML document, ASCII text", "text/html"},
		{"certificate", "-----BEGIN CERTIFICATE-----\n", "PEM certificate, ASCII text", "text/plain"},
		{"key", "-----BEGIN PRIVATE KEY-----\n", "PEM private key, ASCII text", "text/plain"},
		{"gzip", "\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x03a.txt\x00", "gzip compressed data, was \"a.txt\"", "application/gzip"},
		{"zstd", "\x28\xb5\x2f\xfdx", "Zstandard compressed data (v0.8+)", "application/zstd"},
		{"tar", string(tar), "POSIX tar archive", "application/x-tar"},
		{"zip", "PK\x03\x04", "Zip archive data", "application/zip"},
		{"PNG", "\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x00\x20\x00\x00\x00\x10\x08\x06\x00\x00\x00", "PNG image data, 32 x 16, 8-bit RGBA", "image/png"},
		{"PNG, cut off", "\x89PNG\r\n\x1a\n", "PNG image data", "image/png"},
		{"GIF", "GIF89a\x10\x00\x08\x00", "GIF image data, version 89a, 16 x 8", "image/gif"},
		{"PDF", "%PDF-1.7\n", "PDF document, version 1.7", "application/pdf"},
		{"class", "\xca\xfe\xba\xbe\x00\x00\x00\x41", "compiled Java class data, version 65.0 (Java 21)", "application/x-java-applet"},
		{"wasm", "\x00asm\x01\x00\x00\x00", "WebAssembly (wasm) binary module version 0x1 (MVP)", "application/wasm"},
		{"deb", "!<arch>\ndebian-binary", "Debian binary package (format 2.0)", "application/vnd.debian.binary-package"},
		{"data", "\x00\x01\x02", "data", "application/octet-stream"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if k := Content([]byte(tt.content), nil); k.Text != tt.text || k.Type != tt.kind {
				t.Errorf("%q, %q; want %q, %q", k.Text, k.Type, tt.text, tt.kind)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Symlink("text", path("link")), os.Symlink("nowhere", path("broken")), os.WriteFile(path("text"), []byte("x\n"), 0o644),
		os.WriteFile(path("empty"), nil, 0o644), syscall.Mkfifo(path("fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", path("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tests := []struct {
		file   string
		follow bool
		want   string
	}{
		{path("text"), false, `^ASCII text$`},
		{path("link"), false, `^symbolic link to text$`},
		{path("link"), true, `^ASCII text$`},
		{path("broken"), true, `^broken symbolic link to nowhere$`},
		{path("empty"), false, `^empty$`},
		{path("fifo"), false, `^fifo \(named pipe\)$`}, // and does not hang
		{path("socket"), false, `^socket$`},
		{dir, false, `^directory$`},
		{"/dev/null", false, `^character special \(1/3\)$`},
		{"/proc/version", false, `^ASCII text`},
		{"/proc/self/exe", true, `^ELF (32|64)-bit [LM]SB (pie )?executable, \S.*, version 1 \(SYSV\), (statically|dynamically) linked.*, Go BuildID=\S+`},
	}
	for _, tt := range tests {
		k, err := Of(tt.file, tt.follow)
		if err != nil || !regexp.MustCompile(tt.want).MatchString(k.Text) {
			t.Errorf("%s: %q, %v; want %q", tt.file, k.Text, err, tt.want)
		}
	}
	if _, err := Of(path("missing"), false); !os.IsNotExist(err) {
		t.Errorf("missing: %v", err)
	}
}

// Whatever a file has, something is said of it.
func FuzzContent(f *testing.F) {
	for _, p := range patterns {
		f.Add([]byte(strings.Repeat("\x00", p.at) + p.bytes))
	}
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	if exe, err := os.ReadFile("/proc/self/exe"); err == nil {
		f.Add(exe[:4096])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if k := Content(data[:min(len(data), headSize)], nil); k.Text == "" || k.Type == "" {
			t.Errorf("%q says nothing", k)
		}
	})
}

package applet

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, content := range map[string]string{
		"fruit": "pear 3\napple 10\nfig 2\napple 10\n",
		"conf":  "# comment\nport=80\nhost=a\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name  string
		args  []string
		stdin string
		out   string
		code  int
	}{
		{name: "head", args: []string{"-n", "1", "fruit"}, out: "pear 3\n"},
		{name: "head", args: []string{"-2"}, stdin: "1\n2\n3\n", out: "1\n2\n"},
		{name: "head", args: []string{"-c", "3"}, stdin: "abcdef", out: "abc"},
		{name: "head", args: []string{"-n", "1", "fruit", "conf"}, out: "==> fruit <==\npear 3\n\n==> conf <==\n# comment\n"},
		{name: "tail", args: []string{"-1", "conf"}, out: "host=a\n"},
		{name: "tail", args: []string{"-n", "+3", "conf"}, out: "host=a\n"},
		{name: "tail", args: []string{"-c", "2"}, stdin: "abcdef", out: "ef"},
		{name: "tail", args: []string{"missing"}, code: 1},
		{name: "wc", args: []string{"-l"}, stdin: "a\nb\nc", out: "2\n"},
		{name: "wc", args: []string{"fruit"}, out: "      4       8      31 fruit\n"},
		{name: "sort", args: []string{"-k2", "-n", "-u", "fruit"}, out: "fig 2\npear 3\napple 10\n"},
		{name: "sort", args: []string{"-r"}, stdin: "a\nc\nb\n", out: "c\nb\na\n"},
		{name: "sort", args: []string{"-h"}, stdin: "1K\n10\n1M\n", out: "10\n1K\n1M\n"},
		{name: "uniq", args: []string{"-c"}, stdin: "a\na\nb\n", out: "      2 a\n      1 b\n"},
		{name: "uniq", args: []string{"-d"}, stdin: "a\na\nb\n", out: "a\n"},
		{name: "grep", args: []string{"-n", "apple", "fruit"}, out: "2:apple 10\n4:apple 10\n"},
		{name: "grep", args: []string{"-v", "apple", "fruit"}, out: "pear 3\nfig 2\n"},
		{name: "grep", args: []string{"-c", `a\|f`, "fruit"}, out: "4\n"},
		{name: "grep", args: []string{"-oE", "[0-9]+", "fruit"}, out: "3\n10\n2\n10\n"},
		{name: "grep", args: []string{"-A1", "pear", "fruit"}, out: "pear 3\napple 10\n"},
		{name: "grep", args: []string{"-B1", "-n", "fig", "fruit"}, out: "2-apple 10\n3:fig 2\n"},
		{name: "grep", args: []string{"-F", "a+b"}, stdin: "aab\na+b\n", out: "a+b\n"},
		{name: "grep", args: []string{"a+b"}, stdin: "aab\na+b\n", out: "a+b\n"},
		{name: "grep", args: []string{"-l", "port", "fruit", "conf"}, out: "conf\n"},
		{name: "grep", args: []string{"-q", "nothing", "fruit"}, code: 1},
		{name: "grep", args: []string{"-q", "x", "missing"}, code: 2},
		{name: "grep", args: []string{"(", "-E", "fruit"}, code: 2},
		{name: "cut", args: []string{"-d=", "-f2", "conf"}, out: "# comment\n80\na\n"},
		{name: "cut", args: []string{"-c2-3"}, stdin: "abcd\n", out: "bc\n"},
		{name: "tr", args: []string{"a-c", "A-C"}, stdin: "abcd", out: "ABCd"},
		{name: "tr", args: []string{"-d", `\n`}, stdin: "a\nb\n", out: "ab"},
		{name: "tr", args: []string{"-s", " "}, stdin: "a   b", out: "a b"},
		{name: "tr", args: []string{"[:lower:]", "[:upper:]"}, stdin: "abc", out: "ABC"},
		{name: "seq", args: []string{"2", "2", "6"}, out: "2\n4\n6\n"},
		{name: "seq", args: []string{"-s", ",", "3"}, out: "1,2,3\n"},
		{name: "seq", args: []string{"3", "-1", "1"}, out: "3\n2\n1\n"},
		{name: "seq", args: []string{"1", "0", "2"}, code: 2},
		{name: "sed", args: []string{"s/a/b/g"}, stdin: "aXa\n", out: "bXb\n"},
		{name: "sed", args: []string{"-n", "/port/p", "conf"}, out: "port=80\n"},
		{name: "sed", args: []string{"-E", `s/([a-z]+)=(.*)/\2=\1/`, "conf"}, out: "# comment\n80=port\na=host\n"},
		{name: "sed", args: []string{`s/\(o\)/[\1]/2`}, stdin: "foo\n", out: "fo[o]\n"},
		{name: "sed", args: []string{"2,3d", "fruit"}, out: "pear 3\napple 10\n"},
		{name: "sed", args: []string{"$!d", "fruit"}, out: "apple 10\n"},
		{name: "sed", args: []string{"-e", "1i top", "-e", "$a end"}, stdin: "x\n", out: "top\nx\nend\n"},
		{name: "sed", args: []string{"2q", "fruit"}, out: "pear 3\napple 10\n"},
		{name: "sed", args: []string{"y/ab/xy/"}, stdin: "cab\n", out: "cxy\n"},
		{name: "sed", args: []string{"k"}, code: 2},
		{name: "basename", args: []string{"/a/b.txt", ".txt"}, out: "b\n"},
		{name: "dirname", args: []string{"/a/b/"}, out: "/a\n"},
		{name: "expr", args: []string{"7", "*", "6"}, out: "42\n"},
		{name: "expr", args: []string{"1", "=", "2"}, out: "0\n", code: 1},
		{name: "date", args: []string{"-u", "-d", "@86400", "+%Y-%m-%d %H:%M:%S %s"}, out: "1970-01-02 00:00:00 86400\n"},
		{name: "md5sum", stdin: "", out: "d41d8cd98f00b204e9800998ecf8427e  -\n"},
		{name: "sha256sum", stdin: "", out: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 -\n"},
		{name: "hexdump", args: []string{"-C"}, stdin: "hi\n", out: "00000000  68 69 0a                                          |hi.|\n00000003\n"},
		{name: "cat", args: []string{"conf"}, out: "# comment\nport=80\nhost=a\n"},
		{name: "dd", args: []string{"bs=2", "count=2", "skip=1", "status=none"}, stdin: "abcdefgh", out: "cdef"},
		{name: "kill", args: []string{"-l", "15"}, out: "TERM\n"},
		{name: "kill", args: []string{"nobody"}, code: 1},
		{name: "wget", args: []string{"https://example.test/"}, code: 1},
		{name: "file", args: []string{"conf", "missing"}, out: "conf:    ASCII text\nmissing: cannot open `missing' (No such file or directory)\n", code: 1},
		{name: "file", args: []string{"-b", "--mime-type", "-"}, stdin: "{}", out: "application/json\n"},
		{name: "file", args: []string{"-Z", "conf"}, code: 2},
		{name: "nosuch", code: 127},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+strings.Join(tt.args, " "), func(t *testing.T) {
			var out, stderr bytes.Buffer
			code := Run(tt.name, tt.args, IO{In: strings.NewReader(tt.stdin), Out: &out, Err: &stderr})
			if diff := cmp.Diff([]any{tt.out, tt.code}, []any{out.String(), code}); diff != "" {
				t.Errorf("(-want +got)\n%s\n%s", diff, stderr.String())
			}
			if code != 0 && code != 1 && stderr.Len() == 0 {
				t.Errorf("status %d without a message", code)
			}
		})
	}
}

func TestTarRoundTrip(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("a/b/f", []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("out", 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		var stderr bytes.Buffer
		if code := Run("tar", args, IO{In: strings.NewReader(""), Out: io.Discard, Err: &stderr}); code != 0 {
			t.Fatalf("tar %v: status %d: %s", args, code, stderr.String())
		}
	}
	run("cf", "x.tar", "a")
	run("-x", "-f", "x.tar", "-C", "out")
	got, err := os.ReadFile(filepath.Join("out", "a/b/f"))
	if err != nil || string(got) != "text" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestProcesses(t *testing.T) {
	var out bytes.Buffer
	if code := Run("ps", []string{"-o", "pid,ppid,comm"}, IO{Out: &out, Err: &out}); code != 0 {
		t.Fatalf("status %d: %s", code, out.String())
	}
	self := fmt.Sprintf("%d ", os.Getpid())
	if !strings.Contains(out.String(), self) {
		t.Errorf("own process %s is not in\n%s", self, out.String())
	}
	if code := Run("ps", []string{"-o", "nonsense"}, IO{Out: io.Discard, Err: io.Discard}); code != 2 {
		t.Errorf("unknown column: status %d, want 2", code)
	}
}

// serve answers one connection after another with the given responses.
func serve(t *testing.T, responses ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for _, r := range responses {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			_, _ = c.Read(buf)
			_, _ = io.WriteString(c, r)
			c.Close()
		}
	}()
	return "http://" + l.Addr().String() + "/file"
}

func TestWget(t *testing.T) {
	tests := []struct {
		name      string
		responses []string
		out       string
		code      int
	}{
		{name: "length", responses: []string{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcIGNORED"}, out: "abc"},
		{name: "chunked", responses: []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n"}, out: "abc"},
		{name: "until end", responses: []string{"HTTP/1.0 200 OK\r\n\r\nabc"}, out: "abc"},
		{name: "redirect", responses: []string{"HTTP/1.1 302 Found\r\nLocation: /other\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nmoved"}, out: "moved"},
		{name: "not found", responses: []string{"HTTP/1.1 404 Not Found\r\n\r\n"}, code: 1},
		{name: "cut short", responses: []string{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"}, out: "abc", code: 1},
		{name: "no http", responses: []string{"SSH-2.0\r\n"}, code: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url := serve(t, tt.responses...)
			var out bytes.Buffer
			code := Run("wget", []string{"-q", "-O", "-", url}, IO{Out: &out, Err: io.Discard})
			if diff := cmp.Diff([]any{tt.out, tt.code}, []any{out.String(), code}); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

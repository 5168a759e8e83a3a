package ps

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/testenv"
)

func TestTitles(t *testing.T) {
	for _, tt := range []struct{ options, want string }{
		{"", "UID PID PPID C STIME TTY TIME CMD"},
		{"-ef", "UID PID PPID C STIME TTY TIME CMD"},
		{"-e -f", "UID PID PPID C STIME TTY TIME CMD"},
		{"-eF", "UID PID PPID C SZ RSS PSR STIME TTY TIME CMD"},
		{"-e", "PID TTY TIME CMD"},
		{"-eLf", "UID PID PPID LWP C NLWP STIME TTY TIME CMD"},
		{"-ej", "PID PGID SID TTY TIME CMD"},
		{"-el", "F S UID PID PPID C PRI NI ADDR SZ WCHAN TTY TIME CMD"},
		{"aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"},
		{"-aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"},
		{"auxww", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"},
		{"ax", "PID TTY STAT TIME COMMAND"},
		{"axl", "F UID PID PPID PRI NI VSZ RSS WCHAN STAT TTY TIME COMMAND"},
		{"-o pid,comm", "PID COMMAND"},
		{"-eo pid,user,args", "PID USER COMMAND"},
		{"axo pid,%mem", "PID %MEM"},
		{"-o pid -o etime", "PID ELAPSED"},
		{"-opid,pcpu", "PID %CPU"},
		{"-o user=WHO -o pid", "WHO PID"},
		{"-o pid=P,Q", "P,Q"},
		{"--format pid,ppid", "PID PPID"},
		{"-O rss", "PID RSS S TTY TIME COMMAND"},
		{"aux --sort=-rss --forest", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"},
	} {
		f, err := Parse(tt.options)
		if err != nil {
			t.Errorf("%q: %v", tt.options, err)
			continue
		}
		var got []string
		for _, c := range f.columns {
			got = append(got, c.title)
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%q: %s\nwant %s", tt.options, s, tt.want)
		}
		if f.HasPID() != strings.Contains(" "+tt.want+" ", " PID ") {
			t.Errorf("%q: HasPID %v", tt.options, f.HasPID())
		}
	}
}

func TestErrors(t *testing.T) {
	for options, want := range map[string]string{
		"-o nope":      `error: unknown user-defined format specifier "nope"`,
		"-eq":          "error: unsupported SysV option",
		"auxq":         "error: unsupported option (BSD syntax)",
		"--nope":       "error: unknown gnu long option",
		"--sort=nope":  "error: unknown sort specifier",
		"-o":           "error: format specification must follow -o",
		"-o pid,,args": `error: unknown user-defined format specifier ""`,
	} {
		if _, err := Parse(options); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", options, err, want)
		}
	}
}

// fakeProc makes a /proc with one process and its zombie child.
func fakeProc(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stat := "%d (%s) %c %d %d %d 34816 %d 4194304 5 0 1 0 6100 100 0 0 20 0 %d 0 50000 8192000 500 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
	write("stat", "cpu 1 2 3\nbtime 1767225600\n") // 2026-01-01T00:00:00Z
	write("100/stat", fmt.Sprintf(stat, 100, "a) b (c", 'S', 1, 100, 100, 100, 3))
	write("100/status", "Name:\tx\nUid:\t100000\t100000\t100000\t100000\nGid:\t100000\t100005\t0\t0\nVmLck:\t4 kB\nNSpid:\t100\t1\n")
	write("100/cmdline", "my prog\x00--flag\x00\x1b[31m\x00")
	write("200/stat", fmt.Sprintf(stat, 200, "sh", 'Z', 100, 100, 100, 100, 1))
	write("200/status", "Uid:\t100033\t100033\t0\t0\nGid:\t0\t0\t0\t0\n")
	write("200/cmdline", "")
	return dir
}

func source(t *testing.T) Source {
	return Source{
		Proc: fakeProc(t), Now: time.Date(2026, 1, 1, 0, 10, 20, 0, time.UTC), MemTotal: 20480000,
		Inside: func(id uint32) uint32 { return id - 100000 },
		User: func(id uint32) string {
			if id == 0 {
				return "root"
			}
			return ""
		},
	}
}

func TestRows(t *testing.T) {
	for _, tt := range []struct {
		options string
		want    []string
	}{
		{"-ef", []string{"root|100|1|50|00:08|pts/0|00:01:02|my prog --flag ?[31m", "33|200|100|50|00:08|pts/0|00:01:02|[sh] <defunct>"}},
		{"aux", []string{"root|100|51.7|10.0|8000|2000|pts/0|SLsl+|00:08|1:02|my prog --flag ?[31m", "33|200|51.7|10.0|8000|2000|pts/0|Z+|00:08|1:02|[sh] <defunct>"}},
		{"-o pid,comm,huid,nspid,etime,lstart,gid", []string{"100|a) b (c|100000|1|02:00|Thu Jan  1 00:08:20 2026|5", "200|sh <defunct>|100033|200|02:00|Thu Jan  1 00:08:20 2026|4294867296"}},
		{"-o pid --sort=-pid", []string{"200", "100"}},
		{"-eo pid,args --forest", []string{"100|my prog --flag ?[31m", `200| \_ [sh] <defunct>`}},
	} {
		f, err := Parse(tt.options)
		if err != nil {
			t.Fatal(err)
		}
		_, rows, err := f.List(source(t), []int{200, 100, 300})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range rows {
			got = append(got, strings.Join(r, "|"))
		}
		want := tt.want
		if tt.options == "-ef" {
			want = []string{strings.Replace(want[0], "|50|", "|51|", 1), strings.Replace(want[1], "|50|", "|51|", 1)}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.options, diff)
		}
	}
}

// TestAgainstProcps compares with the real ps, where there is one, what does not change from one moment to the next.
func TestAgainstProcps(t *testing.T) {
	const options = "-o pid,ppid,pgid,sid,tname,user,uid,group,ni,comm,args,nlwp,stime,cls"
	// ps cuts long command lines, so one that is short.
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = child.Process.Kill(), child.Wait() })
	pid := child.Process.Pid
	out, err := exec.Command("ps", append(strings.Fields(options), "-p", fmt.Sprint(pid))...).Output()
	if err != nil {
		testenv.Skip(t, "no ps of procps to compare with: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	f, err := Parse(options)
	if err != nil {
		t.Fatal(err)
	}
	root := func(id uint32) string {
		if id == 0 {
			return "root"
		}
		return ""
	}
	titles, rows, err := f.List(Source{MemTotal: 1, User: root, Group: root}, []int{pid})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Fields(lines[0]), titles); diff != "" {
		t.Errorf("titles (-ps +ours):\n%s", diff)
	}
	if diff := cmp.Diff(strings.Fields(lines[1]), strings.Fields(strings.Join(rows[0], " "))); diff != "" {
		t.Errorf("row (-ps +ours):\n%s", diff)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (init) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 17 1 0 0 1\n"))
	f.Add([]byte("1 (a) b) R"))
	f.Fuzz(func(_ *testing.T, b []byte) { _ = new(process).parseStat(b) })
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"-ef", "aux", "-eo pid=,x", "--sort=-", "k", "-O"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) { _, _ = Parse(s) })
}

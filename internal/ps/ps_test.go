package ps

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/linux/procfile"
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
		{"-o pid=P,comm=Q", "P Q"},
		{"-o pid=,comm", " COMMAND"},
		{"--format pid,ppid", "PID PPID"},
		{"-O rss", "PID RSS S TTY TIME COMMAND"},
		{"-ef --nspid", "UID PID NSPID PPID C STIME TTY TIME CMD"},
		{"-o pid,nspid --nspid", "PID NSPID"},
		{"aux --nspid", "USER PID NSPID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"},
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
		"-eN":          "error: unsupported SysV option",
		"auxX":         "error: unsupported option (BSD syntax)",
		"-eq":          "error: list of process IDs must follow -q",
		"-p x":         "error: process ID list syntax error",
		"-o user:x":    `error: unknown user-defined format specifier "user:x"`,
		"--nope":       "error: unknown gnu long option",
		"--sort=nope":  "error: unknown sort specifier",
		"-o":           "error: format specification must follow -o",
		"-o pid=P,Q":   `error: unknown user-defined format specifier "Q"`,
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

// tree starts a shell with two children and returns their pids.
func tree(t *testing.T) []int {
	t.Helper()
	cmd := exec.Command("sh", "-c", "sleep 1000 & sleep 1001 & echo; wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL), cmd.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	pids := []int{cmd.Process.Pid}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for {
		children := childrenOf("/proc", pids[0])
		asleep := 0
		for _, pid := range children {
			if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(comm) == "sleep\n" {
				asleep++
			}
		}
		if asleep == 2 {
			return append(pids, children...)
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the children did not start")
		}
	}
}

// asDocker makes of ps's output what Docker's daemon makes of it: words, and all that is left in the last column; of
// those processes alone that are the container's.
func asDocker(t *testing.T, out string, pids []int) (titles []string, rows [][]string) {
	t.Helper()
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	titles = strings.Fields(lines[0])
	at := slices.Index(titles, "PID")
	for _, line := range lines[1:] {
		words := strings.Fields(line)
		if pid, err := strconv.Atoi(words[at]); err != nil || !slices.Contains(pids, pid) {
			continue
		}
		last := len(titles) - 1
		rows = append(rows, append(words[:last:last], strings.Join(words[last:], " ")))
	}
	return titles, rows
}

// TestAgainstProcps compares with the real ps, which Docker's daemon runs, what does not change from one moment to the
// next.
func TestAgainstProcps(t *testing.T) {
	if out, err := exec.Command("ps", "--version").Output(); err != nil || !strings.Contains(string(out), "procps") {
		testenv.Skip(t, "no ps of procps to compare with: %v", err)
	}
	pids := tree(t)
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		t.Fatal(err)
	}
	names := func(id uint32) string {
		if id == 0 {
			return "root"
		}
		return ""
	}
	// ps cuts what these have to tell, or they differ from one moment to the next.
	varying := map[string]bool{"WCHAN": true, "PSR": true, "RSS": true, "RSZ": true}
	for _, options := range []string{
		"-ef", "aux", "-aux", "auxww", "axu", "-eF", "-el", "-elf", "-ely", "-ej", "-ejf", "-eLf", "-eL", "-eT", "ax", "axl", "axj", "axs", "axH",
		"axo pid,ppid,pgid,sid,tname,user,uid,group,ni,comm,nlwp,stime,cls,args", "-eo user,pid,ppid,pcpu,pmem,vsz,stat,start,time,command",
		"-eo pid,comm:3,args:7,user:2", "-eo pid=PID,comm", "-eo pid,suid,fuser,fgid,supgid,pending,blocked,ignored,caught,exe,label,oomadj,sched,fname",
		"-eo pid,mntns,pidns,userns,netns,cgroupns", "-eo pid,tgid,tid,lwp,pgrp,sess,tty,policy,thcount,rsz", "-eM", "axZ", "-ecf", "-elc",
		"--forest -fp PIDS", "ufp PIDS", "fp PIDS", "-HFp PIDS", "-eo pid,args --sort=-pid", "axk -pid", "-eo pid,comm --sort -comm,-pid", "-ef --width 500",
		"axc", "axe", "-eO ppid", "-C sleep -o pid,args", "-u root -f", "-U root", "--ppid " + strconv.Itoa(pids[0]) + " -f", "-fp " + strconv.Itoa(pids[1]),
		"p " + strconv.Itoa(pids[1]), "-elFy", "-eLF", "aux -L",
	} {
		t.Run(options, func(t *testing.T) {
			options := strings.ReplaceAll(options, "PIDS", fmt.Sprintf("%d,%d,%d", pids[0], pids[1], pids[2]))
			cmd := exec.Command("ps", strings.Fields(options)...)
			cmd.Env = append(os.Environ(), "LC_ALL=C", "COLUMNS=4000")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			f, err := Parse(options)
			if err != nil {
				t.Fatal(err)
			}
			titles, rows, err := f.List(Source{MemTotal: int64(info.Totalram), User: names, Group: names}, pids)
			if err != nil {
				t.Fatal(err)
			}
			wantTitles, want := asDocker(t, string(out), pids)
			if diff := cmp.Diff(wantTitles, titles); diff != "" {
				t.Fatalf("titles (-ps +ours):\n%s", diff)
			}
			for i := range min(len(want), len(rows)) {
				for n, title := range titles {
					if varying[title] {
						want[i][n], rows[i][n] = "", ""
					}
				}
				// A command that is not last looks like several columns.
				want[i] = strings.Fields(strings.Join(want[i], " "))
				rows[i] = strings.Fields(strings.Join(rows[i], " "))
			}
			if diff := cmp.Diff(want, rows); diff != "" {
				t.Errorf("rows (-ps +ours):\n%s", diff)
			}
		})
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

// A process says itself how long its command line and its environment are.
func TestBoundOfWhatProcessesSay(t *testing.T) {
	s := source(t)
	const size = 8 << 20
	for _, name := range []string{"cmdline", "environ"} {
		if err := os.WriteFile(filepath.Join(s.Proc, "100", name), []byte(strings.Repeat("x", size)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const tasks = 300
	for tid := 100; tid < 100+tasks; tid++ {
		task := filepath.Join(s.Proc, "100", "task", strconv.Itoa(tid))
		if err := os.MkdirAll(task, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"stat", "status", "cmdline", "environ"} {
			if err := os.Symlink(filepath.Join(s.Proc, "100", name), filepath.Join(task, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for options, most := range map[string]int{"-ef": procfile.Longest, "axe": 2 * procfile.Longest, "-eLf": textMost + tasks*textLeast, "axHe": textMost + 2*tasks*textLeast + procfile.Longest} {
		f, err := Parse(options)
		if err != nil {
			t.Fatal(err)
		}
		_, rows, err := f.List(s, []int{100})
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, row := range rows {
			text := row[len(row)-1]
			if !strings.HasPrefix(text, "xxx") {
				t.Errorf("%s: the command is %.20q", options, text)
			}
			got += len(text)
		}
		const titles = 10 << 10
		if got > most+titles {
			t.Errorf("%s: %d bytes of text, of which there should be %d at most", options, got, most)
		}
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain text": "plain text", "grüß": "grüß", "a\x1b[31m\nb\x7f": "a?[31m?b?", "\u009b31m\u0085": "?31m?", "bad\xff": "bad\ufffd",
	} {
		if got := printable(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	s := source(t)
	if err := os.WriteFile(filepath.Join(s.Proc, "100", "cgroup"), []byte("1:cpu:/a\x1b[2J\n0::/b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Parse("-o pid,cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, rows, err := f.List(s, []int{100})
	if err != nil || len(rows) != 1 || rows[0][1] != "1:cpu:/a?[2J,0::/b" {
		t.Errorf("%q, %v", rows, err)
	}
}

package applet

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTopBatch(t *testing.T) {
	var out, stderr bytes.Buffer
	pid := fmt.Sprint(os.Getpid())
	if code := Run("top", []string{"-b", "-n", "2", "-d", "0.1", "-c", "-p", pid}, IO{Out: &out, Err: &stderr}); code != 0 {
		t.Fatalf("status %d: %s", code, stderr.String())
	}
	row := regexp.MustCompile(`(?m)^ *` + pid + ` \S+ +(rt|-?\d+) +-?\d+ +\d+\S* +\d+\S* +\d+\S* [RSD] +\d+\.\d +\d+\.\d +\d+:\d\d\.\d\d .*applet`)
	if n := len(row.FindAllString(out.String(), -1)); n != 2 {
		t.Errorf("%d rows of this process, want 2 in\n%s", n, out.String())
	}
	for _, want := range []string{`(?m)^top - \d\d:\d\d:\d\d up .*,  load average: \d`, `(?m)^Tasks: +\d+ total`, `(?m)^%Cpu\(s\): +\d`, `(?m)^MiB Mem : +\d`, `(?m)^MiB Swap: +\d`} {
		if n := len(regexp.MustCompile(want).FindAllString(out.String(), -1)); n != 2 {
			t.Errorf("%q is there %d times, want 2", want, n)
		}
	}
}

func TestTopWrongUse(t *testing.T) {
	for _, args := range [][]string{{"-Z"}, {"-d", "soon"}, {"-d", "0"}, {"-n", "0"}, {"-p", "x"}, {"-u", "nobody-of-that-name"}, {"-o", "nonsense"}, {"x"}} {
		var out, stderr bytes.Buffer
		if code := Run("top", args, IO{Out: &out, Err: &stderr}); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: status %d, %q", args, code, stderr.String())
		}
	}
	var stderr bytes.Buffer
	if code := Run("top", nil, IO{In: strings.NewReader(""), Out: &stderr, Err: &stderr}); code != 1 || !strings.Contains(stderr.String(), "-b") {
		t.Errorf("without a terminal: status %d, %q", code, stderr.String())
	}
}

func TestTopRows(t *testing.T) {
	began := time.Now()
	list := []process{
		{pid: 1, start: 1, ticks: 100, rss: 1 << 20, command: "one", comm: "one"},
		{pid: 2, start: 2, ticks: 250, rss: 3 << 20, uid: 5, command: "a\x1b[31m b", comm: "a\x1b[31m"},
		{pid: 3, start: 3, ticks: 10, rss: 2 << 20, command: "new", comm: "new"},
	}
	v := &top{
		uid: -1, sortBy: "%CPU", idleToo: true, userName: map[int]string{0: "root", 5: "somebody-long"},
		last: topSample{at: began, ticks: map[topKey]uint64{{1, 1}: 100, {2, 2}: 200, {3, 1}: 900}},
		now:  topSample{at: began.Add(time.Second), processes: list},
	}
	order := func() (pids []int) {
		for _, r := range v.rows() {
			pids = append(pids, r.pid)
		}
		return pids
	}
	check := func(what string, want ...int) {
		t.Helper()
		if diff := cmp.Diff(want, order()); diff != "" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}
	check("by processor", 2, 3, 1)
	if got := v.rows()[0].cpu; got != 50 {
		t.Errorf("50 ticks in a second are %v percent", got)
	}
	if line := v.line(v.rows()[0]); strings.Contains(line, "\x1b") || !strings.Contains(line, "      2 somebod+ ") || !strings.HasSuffix(line, " a^[[31m") {
		t.Errorf("row %q", line)
	}
	v.idleToo = false
	check("without the idle", 2, 3)
	v.idleToo, v.sortBy = true, "%MEM"
	check("by memory", 2, 3, 1)
	v.sortBy, v.reverse = "PID", true
	check("by number, the other way round", 1, 2, 3)
	v.uid = 5
	check("of a user", 2)
}

func TestTopSize(t *testing.T) {
	for bytes, want := range map[uint64]string{0: "0", 1 << 20: "1024", 999999 << 10: "999999", 1 << 30: "1.0g", 20 << 30: "20.0g", 1 << 44: "16.0t"} {
		if got := topSize(bytes, 6); got != want {
			t.Errorf("%d is %q, want %q", bytes, got, want)
		}
	}
}

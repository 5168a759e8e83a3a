package applet

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// top shows what processes take, as procps's does: all that /proc has, which in
// a container are its own.
type top struct {
	std  IO
	o    options
	wait time.Duration
	left int // pictures yet to show; negative: no end
	pids map[int]bool
	uid  int // -1: all

	sortBy   string
	reverse  bool
	argsToo  bool // whole command lines
	idleToo  bool
	last     topSample
	now      topSample
	userName map[int]string
}

// topSample is what was read at a moment.
type topSample struct {
	at        time.Time
	cpu       [8]uint64 // ticks: user, nice, system, idle, iowait, irq, softirq, steal
	processes []process
	ticks     map[topKey]uint64
}

// topKey tells a process from a later one of the same number.
type topKey struct {
	pid   int
	start uint64
}

// topRow is a process as it is listed.
type topRow struct {
	process
	cpu, mem float64 // percent: of one processor, of the memory
}

// firstSample is the time that the first picture is about: what has happened
// since the start of the machine is of no use.
const firstSample = 300 * time.Millisecond

// topCommand shows processes again and again; -b for a file or a pipe, -n how
// often, -d SECONDS between, -p PIDS, -u USER, -o FIELD to sort by, -c whole command
// lines, -i without the idle.
func topCommand(std IO, args []string) error {
	o, err := parse(args, "bcihS", "dnpuo", nil)
	if err != nil {
		return err
	}
	if len(o.args) > 0 {
		return usageError("unknown argument: " + o.args[0])
	}
	if o.has('h') {
		fmt.Fprintln(std.Out, "Usage: top [-b] [-c] [-i] [-d SECONDS] [-n TIMES] [-o [+|-]FIELD] [-p PID,...] [-u USER]")
		return nil
	}
	t := &top{std: std, o: o, left: -1, uid: -1, sortBy: "%CPU", argsToo: o.has('c'), idleToo: !o.has('i'), userName: map[int]string{}}
	if err := t.configure(); err != nil {
		return err
	}
	t.now = t.sample()
	if o.has('b') {
		return t.batch()
	}
	return t.interactive()
}

func (t *top) configure() (err error) {
	o := t.o
	if t.wait, err = seconds(o.value('d', "3")); err != nil || t.wait < 100*time.Millisecond {
		return usageError("bad delay: " + o.value('d', ""))
	}
	if o.has('n') {
		if t.left, err = strconv.Atoi(o.value('n', "")); err != nil || t.left < 1 {
			return usageError("bad number of iterations: " + o.value('n', ""))
		}
	}
	for _, list := range o.values['p'] {
		for text := range strings.SplitSeq(list, ",") {
			pid, err := strconv.Atoi(text)
			if err != nil || pid < 1 {
				return usageError("bad pid: " + text)
			}
			if t.pids == nil {
				t.pids = map[int]bool{}
			}
			t.pids[pid] = true
		}
	}
	if name := o.value('u', ""); name != "" {
		if t.uid, err = strconv.Atoi(name); err != nil {
			if t.uid, err = nameID("/etc/passwd", name); err != nil {
				return usageError("invalid user: " + name)
			}
		}
	}
	if field := o.value('o', ""); field != "" {
		t.reverse = strings.HasPrefix(field, "-")
		t.sortBy = strings.ToUpper(strings.TrimLeft(field, "+-"))
		if topOrder[t.sortBy] == nil {
			return usageError("unrecognized field name: " + field)
		}
	}
	return nil
}

// topOrder are the fields to sort by; what is most comes first, or what comes
// first in the alphabet.
var topOrder = map[string]func(a, b topRow) int{
	"PID":     func(a, b topRow) int { return cmp.Compare(b.pid, a.pid) },
	"USER":    func(a, b topRow) int { return cmp.Compare(a.uid, b.uid) },
	"PR":      func(a, b topRow) int { return cmp.Compare(b.priority, a.priority) },
	"NI":      func(a, b topRow) int { return cmp.Compare(b.nice, a.nice) },
	"VIRT":    func(a, b topRow) int { return cmp.Compare(b.vsize, a.vsize) },
	"RES":     func(a, b topRow) int { return cmp.Compare(b.rss, a.rss) },
	"SHR":     func(a, b topRow) int { return cmp.Compare(b.shared, a.shared) },
	"S":       func(a, b topRow) int { return cmp.Compare(a.state, b.state) },
	"%CPU":    func(a, b topRow) int { return cmp.Compare(b.cpu, a.cpu) },
	"%MEM":    func(a, b topRow) int { return cmp.Compare(b.rss, a.rss) },
	"TIME+":   func(a, b topRow) int { return cmp.Compare(b.ticks, a.ticks) },
	"COMMAND": func(a, b topRow) int { return cmp.Compare(a.command, b.command) },
}

func (t *top) sample() topSample {
	s := topSample{at: time.Now(), cpu: cpuTicks(), ticks: map[topKey]uint64{}}
	list, err := processes()
	if err != nil {
		return s // all have gone, or /proc has: the picture says so
	}
	for _, p := range list {
		s.ticks[topKey{p.pid, p.start}] = p.ticks
	}
	s.processes = list
	return s
}

// cpuTicks reads the first line of /proc/stat, see proc_stat(5).
func cpuTicks() (ticks [8]uint64) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return ticks
	}
	line, _, _ := strings.Cut(string(data), "\n")
	f := strings.Fields(line)
	for i := range ticks {
		if i+1 < len(f) {
			ticks[i], _ = strconv.ParseUint(f[i+1], 10, 64)
		}
	}
	return ticks
}

// next takes another sample.
func (t *top) next() { t.last, t.now = t.now, t.sample() }

// batch prints whole pictures, one below the other.
func (t *top) batch() error {
	wait := firstSample
	for ; t.left != 0; t.left-- {
		<-time.After(wait)
		wait = t.wait
		t.next()
		lines := append(t.summary(), "", topTitles)
		for _, r := range t.rows() {
			lines = append(lines, t.line(r))
		}
		if _, err := fmt.Fprintln(t.std.Out, strings.Join(lines, "\n")); err != nil {
			return err
		}
		if t.left > 1 || t.left < 0 {
			fmt.Fprintln(t.std.Out)
		}
	}
	return nil
}

// rows are the processes that are asked for, in order.
func (t *top) rows() []topRow {
	total := float64(meminfo()["MemTotal"]) * 1024
	elapsed := t.now.at.Sub(t.last.at).Seconds() * ticksPerSecond
	var rows []topRow
	for _, p := range t.now.processes {
		if t.pids != nil && !t.pids[p.pid] || t.uid >= 0 && p.uid != t.uid {
			continue
		}
		r := topRow{process: p}
		// One that was not there before has had all its time since.
		if used := p.ticks - min(p.ticks, t.last.ticks[topKey{p.pid, p.start}]); elapsed > 0 {
			r.cpu = 100 * float64(used) / elapsed
		}
		if total > 0 {
			r.mem = 100 * float64(p.rss) / total
		}
		if !t.idleToo && r.cpu < 0.05 {
			continue
		}
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, func(a, b topRow) int {
		n := topOrder[t.sortBy](a, b)
		if t.reverse {
			n = -n
		}
		return cmp.Or(n, cmp.Compare(a.pid, b.pid))
	})
	return rows
}

const topTitles = "    PID USER      PR  NI    VIRT    RES    SHR S  %CPU  %MEM     TIME+ COMMAND"

// line is a row in procps's columns.
func (t *top) line(r topRow) string {
	user, known := t.userName[r.uid]
	if !known {
		user = screen.Visible(idName("/etc/passwd", r.uid))
		t.userName[r.uid] = user
	}
	if screen.Width(user) > 8 {
		user = screen.Cut(user, 7) + "+"
	}
	user += strings.Repeat(" ", 8-screen.Width(user))
	priority := strconv.Itoa(r.priority)
	if r.priority < -99 {
		priority = "rt"
	}
	name := r.command
	if !t.argsToo {
		name = r.comm
	}
	hundredths := r.ticks * 100 / ticksPerSecond
	return fmt.Sprintf("%7d %s %3s %3d %7s %6s %6s %s %5.1f %5.1f %6d:%02d.%02d %s", r.pid, user, priority, r.nice,
		topSize(r.vsize, 7), topSize(r.rss, 6), topSize(r.shared, 6), r.state, r.cpu, r.mem,
		hundredths/6000, hundredths/100%60, hundredths%100, screen.Visible(name))
}

// topSize is an amount of memory in KiB, or larger units if it has more digits.
func topSize(bytes uint64, digits int) string {
	text := strconv.FormatUint(bytes/1024, 10)
	f := float64(bytes) / 1024
	for _, unit := range []string{"m", "g", "t", "p"} {
		if len(text) <= digits {
			break
		}
		f /= 1024
		text = fmt.Sprintf("%.1f%s", f, unit)
	}
	return text
}

// meminfo is /proc/meminfo, in KiB.
func meminfo() map[string]uint64 {
	kb := map[string]uint64{}
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return kb
	}
	for line := range strings.Lines(string(data)) {
		name, rest, _ := strings.Cut(line, ":")
		if f := strings.Fields(rest); len(f) > 0 {
			kb[name], _ = strconv.ParseUint(f[0], 10, 64)
		}
	}
	return kb
}

// summary are the lines above the list. Processors and memory are the machine's.
func (t *top) summary() []string {
	up, load := "", ""
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		up = uptimeText(time.Duration(info.Uptime) * time.Second)
		load = fmt.Sprintf("%.2f, %.2f, %.2f", float64(info.Loads[0])/65536, float64(info.Loads[1])/65536, float64(info.Loads[2])/65536)
	}
	states := map[string]int{}
	for _, p := range t.now.processes {
		states[p.state]++
	}
	var cpu [8]float64
	var all uint64
	for i, v := range t.now.cpu {
		all += v - min(v, t.last.cpu[i])
	}
	for i, v := range t.now.cpu {
		if all > 0 {
			cpu[i] = 100 * float64(v-min(v, t.last.cpu[i])) / float64(all)
		}
	}
	kb := meminfo()
	mib := func(k uint64) float64 { return float64(k) / 1024 }
	cache := kb["Buffers"] + kb["Cached"] + kb["SReclaimable"]
	used := kb["MemTotal"] - min(kb["MemTotal"], kb["MemFree"]+cache)
	return []string{
		fmt.Sprintf("top - %s up %s,  load average: %s", t.now.at.Format("15:04:05"), up, load),
		fmt.Sprintf("Tasks: %3d total, %3d running, %3d sleeping, %3d stopped, %3d zombie", len(t.now.processes), states["R"],
			states["S"]+states["D"]+states["I"], states["T"]+states["t"], states["Z"]),
		fmt.Sprintf("%%Cpu(s): %4.1f us, %4.1f sy, %4.1f ni, %4.1f id, %4.1f wa, %4.1f hi, %4.1f si, %4.1f st", cpu[0], cpu[2], cpu[1], cpu[3], cpu[4], cpu[5], cpu[6], cpu[7]),
		fmt.Sprintf("MiB Mem : %8.1f total, %8.1f free, %8.1f used, %8.1f buff/cache", mib(kb["MemTotal"]), mib(kb["MemFree"]), mib(used), mib(cache)),
		fmt.Sprintf("MiB Swap: %8.1f total, %8.1f free, %8.1f used. %8.1f avail Mem", mib(kb["SwapTotal"]), mib(kb["SwapFree"]), mib(kb["SwapTotal"]-min(kb["SwapTotal"], kb["SwapFree"])), mib(kb["MemAvailable"])),
	}
}

func uptimeText(d time.Duration) string {
	minutes := int(d.Minutes())
	text := fmt.Sprintf("%2d:%02d", minutes/60%24, minutes%60)
	switch days := minutes / (24 * 60); {
	case days == 1:
		text = "1 day, " + text
	case days > 1:
		text = fmt.Sprintf("%d days, %s", days, text)
	}
	return text
}

// sharedMemory is the part of a process's memory that it shares, in bytes.
func sharedMemory(dir string) uint64 {
	data, err := os.ReadFile(filepath.Join(dir, "statm"))
	f := strings.Fields(string(data))
	if err != nil || len(f) < 3 {
		return 0
	}
	pages, _ := strconv.ParseUint(f[2], 10, 64)
	return pages * uint64(os.Getpagesize())
}

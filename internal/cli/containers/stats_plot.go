package containers

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/plot"
)

// point is what is drawn of one moment.
type point struct {
	at             time.Time
	cpu            float64 // percent of one processor
	memory         float64 // bytes
	read, write    float64 // bytes per second
	receive, sends float64
}

// maxPoints is more than any screen has dots.
const maxPoints = 4096

// points are in the order of time.
type points []point

func (p *points) append(n point) {
	if len(*p) > 0 && !n.at.After((*p)[len(*p)-1].at) {
		return // the daemon's last sample comes by both ways
	}
	*p = append((*p)[max(0, len(*p)-maxPoints+1):], n)
}

// add takes what an entry says; rates come from the one before.
func (p *points) add(before, now statsEntry) {
	if now.Invalid || now.Stopped || now.read.IsZero() {
		return
	}
	n := point{at: now.read, cpu: now.CPUPercent, memory: now.Memory}
	if seconds := now.read.Sub(before.read).Seconds(); !before.read.IsZero() && seconds > 0 {
		rate := func(a, b float64) float64 { return max(b-a, 0) / seconds }
		n.read, n.write = rate(before.BlockRead, now.BlockRead), rate(before.BlockWrite, now.BlockWrite)
		n.receive, n.sends = rate(before.NetworkRx, now.NetworkRx), rate(before.NetworkTx, now.NetworkTx)
	}
	p.append(n)
}

func (p *points) addSample(s *api.Sample) {
	n := point{at: s.Time}
	if s.Memory != nil {
		n.memory = float64(s.Memory.WorkingSet)
	}
	if r := s.Rate; r != nil {
		n.cpu, n.read, n.write, n.receive, n.sends = 100*r.CPU, r.ReadBytes, r.WriteBytes, r.RxBytes, r.TxBytes
	}
	p.append(n)
}

// curve is one of the graphs of a container.
type curve struct {
	name  string
	value func(point) float64
	title func(point) string // what is so at last
	unit  func(float64) string
	least float64
}

func amount(v float64) string { return units.HumanSizeWithPrecision(v, 3) }

var curves = []curve{
	{"CPU", func(p point) float64 { return p.cpu }, func(p point) string { return percentText(p.cpu) }, percentText, 10},
	{"MEM", func(p point) float64 { return p.memory }, func(p point) string { return units.BytesSize(p.memory) }, units.BytesSize, 1 << 20},
	{
		"BLOCK I/O", func(p point) float64 { return p.read + p.write },
		func(p point) string { return "read " + amount(p.read) + "/s, write " + amount(p.write) + "/s" }, amount, 1 << 10,
	},
	{
		"NET I/O", func(p point) float64 { return p.receive + p.sends },
		func(p point) string { return "in " + amount(p.receive) + "/s, out " + amount(p.sends) + "/s" }, amount, 1 << 10,
	},
}

func percentText(v float64) string { return fmt.Sprintf("%.3g%%", v) }

// block is a container in a plot.
type block struct {
	title  string
	points points
	over   bool // it does not run: nothing is so now
}

// layout divides a screen.
type layout struct {
	width   int // of the screen
	lanes   int // graphs beside each other
	rows    int // of dots
	visible int // blocks
}

// Of a graph that has room; and of the screen where there is none.
const (
	mostRows  = 8
	paperRows = 4
	paperWide = 80
)

// lay fits blocks into a screen; height 0 is paper without an end.
func lay(width, height, blocks int) layout {
	l := layout{width: width, lanes: 1, rows: paperRows, visible: blocks}
	switch {
	case width >= 160:
		l.lanes = 4
	case width >= 80:
		l.lanes = 2
	}
	if height == 0 || blocks == 0 {
		return l
	}
	bands := len(curves) / l.lanes
	room := max(height-2, 1) // the line of times, and the one that the cursor is in
	l.rows = min(max((room/blocks-1)/bands-1, 1), mostRows)
	l.visible = min(max(room/(1+bands*(1+l.rows)), 1), blocks)
	if l.visible < blocks {
		l.visible = min(max((room-1)/(1+bands*(1+l.rows)), 1), blocks) // a line tells of those that are missing
	}
	return l
}

// graphWidth is that of one lane, with two characters between them.
func (l layout) graphWidth() int { return (l.width - 2*(l.lanes-1)) / l.lanes }

// lines draws blocks for the time from..to.
func (l layout) lines(blocks []block, from, to time.Time) []string {
	var out []string
	for _, b := range blocks[:l.visible] {
		out = append(out, strings.TrimRight(plot.Fit(b.title, l.width), " "))
		for band := range slices.Chunk(curves, l.lanes) {
			var graphs [][]string
			for _, c := range band {
				graphs = append(graphs, c.draw(b, from, to, l.graphWidth(), l.rows))
			}
			out = append(out, plot.Beside(graphs...)...)
		}
	}
	if more := len(blocks) - l.visible; more > 0 {
		out = append(out, fmt.Sprintf("… and %d more containers: name those to see, or enlarge the window", more))
	}
	first, last := from.Local().Format(time.TimeOnly), to.Local().Format(time.TimeOnly)
	return append(out, plot.Fit(first, max(l.width-len(last), 0))+last)
}

func (c curve) draw(b block, from, to time.Time, width, rows int) []string {
	values := make([]float64, plot.Bars(width))
	for i := range values {
		values[i] = math.NaN()
	}
	title := c.name
	for _, p := range b.points {
		if p.at.Before(from) || !p.at.Before(to) {
			continue
		}
		at := int(float64(p.at.Sub(from)) / float64(to.Sub(from)) * float64(len(values)))
		if v := c.value(p); math.IsNaN(values[at]) || v > values[at] {
			values[at] = v
		}
		if !b.over {
			title = c.name + " " + c.title(p)
		}
	}
	g := plot.Graph{Title: title, Values: fill(values), Unit: c.unit, Min: c.least}
	return g.Draw(width, rows)
}

// fill closes the gaps between values that are as far apart as samples are when
// there are more dots than seconds. What is longer is a gap in what is known.
func fill(values []float64) []float64 {
	var gaps []int
	last := -1
	for i, v := range values {
		if math.IsNaN(v) {
			continue
		}
		if last >= 0 {
			gaps = append(gaps, i-last)
		}
		last = i
	}
	if len(gaps) == 0 {
		return values
	}
	slices.Sort(gaps)
	usual := gaps[len(gaps)/2]
	last = -1
	for i, v := range values {
		switch {
		case !math.IsNaN(v):
			last = i
		case last >= 0 && i-last <= usual:
			values[i] = values[last]
		}
	}
	return values
}

// paper is the screen of an output that is none.
func paper(a *command.App, blocks int) layout {
	_, width := a.Size()
	if width == 0 {
		width = paperWide
	}
	return lay(int(width), 0, blocks)
}

// printPlots draws what was sampled in a time that has passed.
func printPlots(a *command.App, list []*history, from, to time.Time) error {
	var blocks []block
	for _, h := range list {
		b := block{title: h.name + "  " + h.id[:min(12, len(h.id))]}
		for _, s := range h.samples {
			b.points.addSample(s)
		}
		blocks = append(blocks, b)
	}
	_, err := io.WriteString(a.Out, strings.Join(paper(a, len(blocks)).lines(blocks, from, to), "\n")+"\n")
	return err
}

// blocks are the containers as they are now.
func (w *watch) blocks() []block {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []block
	for _, s := range w.sources {
		list = append(list, s.block())
	}
	return list
}

func (s *source) block() block {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := &statsRow{e: s.entry, short: true}
	b := block{title: row.Name() + "  " + row.ID() + "  " + row.MemUsage(), points: slices.Clone(s.points)}
	if s.entry.Stopped {
		b.title = row.Name() + "  " + row.ID() + "  not running"
		b.over = true
	}
	return b
}

// recall takes what the daemon has sampled before, if it is one that does.
func (s *source) recall(ctx context.Context, c *client.Client) {
	var list points
	err := c.Samples(ctx, s.container, client.SamplesOptions{Last: maxPoints / 2}, func(sample *api.Sample) error {
		list.addSample(sample)
		return nil
	})
	if err != nil {
		return // of Docker's daemon the plot begins now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.points = list
}

// window is the time that fits into a layout at a second per column of dots. Its
// ends lie between two samples, which are taken at full seconds.
func (l layout) window(now time.Time) (from, to time.Time) {
	to = now.Truncate(time.Second).Add(time.Second / 2)
	return to.Add(-time.Duration(plot.Bars(l.graphWidth())) * time.Second), to
}

// plotOnce draws the last minutes.
func (w *watch) plotOnce(_ context.Context, a *command.App) error {
	blocks := w.blocks()
	l := paper(a, len(blocks))
	from, to := l.window(time.Now())
	_, err := io.WriteString(a.Out, strings.Join(l.lines(blocks, from, to), "\n")+"\n")
	return err
}

// plot draws until ctx ends, or until none is left of the containers that were
// named. It follows the size of the window.
func (w *watch) plot(ctx context.Context, a *command.App, follow bool) error {
	return w.frames(ctx, a, follow, func() (string, error) {
		blocks := w.blocks()
		height, width := a.Size()
		if width == 0 {
			width = paperWide
		}
		l := lay(int(width), int(height), len(blocks))
		from, to := l.window(time.Now())
		return strings.Join(l.lines(blocks, from, to), "\n"), nil
	})
}

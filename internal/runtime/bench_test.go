package runtime

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// BenchmarkStart is a container from the bundle to the program, with Docker's
// default profile of rights: what `run` waits for, without network and image.
func BenchmarkStart(b *testing.B) {
	w := newWorld(b)
	for _, kind := range []struct {
		name   string
		change func(*Bundle)
	}{{"own user namespace", func(*Bundle) {}}, {"host user namespace", onHost}} {
		b.Run(kind.name, func(b *testing.B) {
			w := *w
			w.t = b
			least := map[string]int64{}
			total := time.Hour
			var order []string
			for b.Loop() {
				b.StopTimer()
				bundle := w.bundle("true")
				kind.change(&bundle)
				ctx := b.Context()
				begin := time.Now()
				b.StartTimer()
				c, err := w.r.Create(ctx, bundle)
				if err != nil {
					b.Fatal(err)
				}
				if err := c.Start(ctx); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				total = min(total, time.Since(begin))
				<-c.Done()
				w.delete(c)
				for _, s := range c.Timings() {
					if _, ok := least[s.Name]; !ok {
						order = append(order, s.Name)
						least[s.Name] = s.Microseconds
					}
					least[s.Name] = min(least[s.Name], s.Microseconds)
				}
				b.StartTimer()
			}
			// On a busy machine the least is what can be compared.
			b.ReportMetric(float64(total.Microseconds()), "µs-least/op")
			var text strings.Builder
			for _, name := range order {
				if least[name] >= 30 {
					fmt.Fprintf(&text, "%6d µs %s\n", least[name], name)
				}
			}
			b.Log("\n" + text.String())
			if name := os.Getenv("PORTHOLE_BENCH_STEPS"); name != "" {
				w.must(os.WriteFile(name, []byte(text.String()), 0o644))
			}
		})
	}
}

// BenchmarkLife is the same to the end and its removal.
func BenchmarkLife(b *testing.B) {
	w := newWorld(b)
	for b.Loop() {
		b.StopTimer()
		bundle := w.bundle("true")
		b.StartTimer()
		c, err := w.r.Create(b.Context(), bundle)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		<-c.Done()
		w.delete(c)
	}
}

// BenchmarkExec is one more process in a container, to its end.
func BenchmarkExec(b *testing.B) {
	w := newWorld(b)
	c := w.start(w.bundle("sleep", "1000"))
	for b.Loop() {
		p, err := c.Exec(b.Context(), ExecOptions{ID: "x" + randomName(), Process: execProcess("true")})
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		<-p.Done()
	}
}

package sample

import "time"

// Rate is what a container did between two samples.
type Rate struct {
	CPU       float64 // processors kept busy: 0.5 is half of one
	Throttled float64 // share of the periods in which it was held back, 0 to 1

	Memory float64 // working set in bytes, at the end
	Pids   float64

	// Per second.
	ReadBytes, WriteBytes       float64
	RxBytes, TxBytes            float64
	PageFaults, MajorPageFaults float64

	// Shares of the time in which some task waited, 0 to 1.
	CPUPressure, MemoryPressure, IOPressure float64
}

// Rates compares two samples of the same run. ok is false when that says nothing:
// no time has passed between them, or the container was started anew.
func Rates(before, after *Sample) (r Rate, ok bool) {
	elapsed := after.Time.Sub(before.Time)
	if elapsed <= 0 || after.CPUUsage < before.CPUUsage {
		return Rate{}, false
	}
	share := func(a, b uint64) float64 { return grown(a, b) / float64(elapsed) }
	perSecond := func(a, b uint64) float64 { return grown(a, b) / elapsed.Seconds() }
	r = Rate{
		CPU:             share(before.CPUUsage, after.CPUUsage),
		Memory:          float64(after.WorkingSet()),
		Pids:            float64(after.Pids),
		ReadBytes:       perSecond(before.ReadBytes, after.ReadBytes),
		WriteBytes:      perSecond(before.WriteBytes, after.WriteBytes),
		RxBytes:         perSecond(before.RxBytes, after.RxBytes),
		TxBytes:         perSecond(before.TxBytes, after.TxBytes),
		PageFaults:      perSecond(before.PageFaults, after.PageFaults),
		MajorPageFaults: perSecond(before.MajorPageFaults, after.MajorPageFaults),
		CPUPressure:     share(before.CPUPressureSome, after.CPUPressureSome),
		MemoryPressure:  share(before.MemoryPressureSome, after.MemoryPressureSome),
		IOPressure:      share(before.IOPressureSome, after.IOPressureSome),
	}
	if periods := grown(before.CPUPeriods, after.CPUPeriods); periods > 0 {
		r.Throttled = grown(before.CPUThrottledPeriods, after.CPUThrottledPeriods) / periods
	}
	return r, true
}

// grown is by how much a counter grew. One that has shrunk was set back, such as
// that of an interface which was replaced.
func grown(before, after uint64) float64 {
	if after < before {
		return 0
	}
	return float64(after - before)
}

// Column is a part of the time of a plot.
type Column struct {
	From      time.Time
	Count     int // pairs of samples that it is made of; 0: nothing is known of this time
	Mean, Max Rate
}

// Downsample divides the time from..to into equal columns and tells of each what
// the samples, which must be in order, say about it. A pair of samples counts
// where the later one lies. Pairs further apart than gap tell nothing of the time
// between them, in which nobody looked; 0 means 5 seconds.
func Downsample(samples []Sample, from, to time.Time, columns int, gap time.Duration) []Column {
	if columns <= 0 || !to.After(from) {
		return nil
	}
	if gap <= 0 {
		gap = 5 * time.Second
	}
	width := to.Sub(from)
	list := make([]Column, columns)
	for i := range list {
		list[i].From = from.Add(time.Duration(float64(width) * float64(i) / float64(columns)))
	}
	for i := 1; i < len(samples); i++ {
		before, after := &samples[i-1], &samples[i]
		if after.Time.Before(from) || !after.Time.Before(to) || after.Time.Sub(before.Time) > gap {
			continue
		}
		if r, ok := Rates(before, after); ok {
			at := int(float64(after.Time.Sub(from)) / float64(width) * float64(columns))
			list[min(at, columns-1)].add(r)
		}
	}
	for i := range list {
		list[i].divide()
	}
	return list
}

// values are the numbers of a rate.
func (r *Rate) values() [13]*float64 {
	return [...]*float64{
		&r.CPU, &r.Throttled, &r.Memory, &r.Pids, &r.ReadBytes, &r.WriteBytes, &r.RxBytes, &r.TxBytes,
		&r.PageFaults, &r.MajorPageFaults, &r.CPUPressure, &r.MemoryPressure, &r.IOPressure,
	}
}

// add sums up in Mean what divide makes a mean of.
func (c *Column) add(r Rate) {
	c.Count++
	mean, highest := c.Mean.values(), c.Max.values()
	for i, v := range r.values() {
		*mean[i] += *v
		*highest[i] = max(*highest[i], *v)
	}
}

func (c *Column) divide() {
	for _, v := range c.Mean.values() {
		*v /= float64(max(c.Count, 1))
	}
}

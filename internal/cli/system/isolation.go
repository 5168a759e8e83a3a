package system

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

// isolationObject fetches how a container is kept apart.
func isolationObject(ctx context.Context, c *client.Client, name string) (command.Object, error) {
	iso, err := c.Isolation(ctx, name)
	if err != nil {
		return command.Object{}, err
	}
	raw, err := json.Marshal(iso)
	return command.Object{Value: command.Value(iso), Raw: raw}, err
}

// isolationText prints for people how containers are kept apart.
func isolationText(ctx context.Context, a *command.App, c *client.Client, names []string) error {
	var errs []error
	first := true
	for _, name := range names {
		iso, err := c.Isolation(ctx, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !first {
			_, _ = io.WriteString(a.Out, "\n")
		}
		first = false
		w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
		writeIsolation(w, name, &iso)
		errs = append(errs, w.Flush())
	}
	return errors.Join(errs...)
}

func writeIsolation(w *tabwriter.Writer, name string, iso *api.Isolation) {
	put := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	live := cmp.Or(iso.Live, iso.Expected)
	switch {
	case live == nil: // it has just ended, or the daemon is an older one
		put("%s does not run: only what is set for its next start is known.", command.Visible(name))
	case iso.Live != nil:
		put("%s is %s, pid %d on the host", command.Visible(live.Name), live.Status, live.HostPID)
	default:
		put("%s is %s: what follows is how it would be started", command.Visible(live.Name), live.Status)
	}
	if iso.NoStart != "" {
		put("It could not be started now: %s", command.Visible(iso.NoStart))
	}
	if live != nil && live.Privileged {
		put("It is privileged: it is hardly kept apart.")
	}
	put("\nUser ids")
	switch {
	case iso.IDs != nil:
		put("  0-%d inside\tare %d-%d on the host", iso.IDs.Size-1, iso.IDs.Host, iso.IDs.Host+iso.IDs.Size-1)
	case iso.UsernsNote != "":
		put("  the host's own: root inside is root outside\t(%s)", command.Visible(iso.UsernsNote))
	default:
		put("  the host's own: root inside is root outside")
	}
	if live != nil {
		writeLive(put, live)
	}
	writeSteps(put, iso.Steps)
	if iso.Expected != nil {
		writePlan(put, iso.Plan)
	}
	for _, text := range iso.Warnings {
		put("\nWarning: %s", command.Visible(text))
	}
	if live != nil {
		for _, text := range live.Unknown {
			put("\nNot known: %s", command.Visible(text))
		}
	}
}

func writeLive(put func(string, ...any), live *api.IsolationLive) {
	put("\nNamespaces")
	for _, n := range live.Namespaces {
		whose := "its own"
		switch {
		case n.Host:
			whose = "the host's"
		case len(n.SharedWith) > 0:
			whose = "shared with " + command.Visible(strings.Join(n.SharedWith, ", "))
		}
		number := "-" // it is not made yet
		if n.Inode != 0 {
			number = strconv.FormatUint(n.Inode, 10)
		}
		put("  %s\t%s\t%s", n.Kind, number, whose)
	}
	put("\nRights")
	put("  capabilities\t%s", capabilities(live.Capabilities.Effective))
	if len(live.Capabilities.Bounding) != len(live.Capabilities.Effective) {
		put("  at most\t%s", capabilities(live.Capabilities.Bounding))
	}
	put("  seccomp\t%s", seccompText(live.Seccomp))
	put("  no new privileges\t%s", yesNo(live.NoNewPrivs))
	if live.AppArmor != "" {
		put("  AppArmor\t%s", command.Visible(live.AppArmor))
	}
	put("  masked\t%s", paths(live.MaskedPaths))
	put("  read-only\t%s", paths(live.ReadonlyPaths))
	if live.ReadonlyRoot {
		put("  root filesystem\tread-only")
	}
	put("\nLimits\tlimit\tin use\tset by")
	for _, l := range live.Limits {
		from := l.From
		if l.Own {
			from = "the container"
		}
		put("  %s\t%s\t%s\t%s", l.Name, limitText(l.Name, l.Value, "none"), limitText(l.Name, l.Use, "-"), from)
	}
	put("  OOM score\t%+d", live.OOMScoreAdj)
	put("\nLimits of its first process\tsoft\thard")
	if len(live.Rlimits) == 0 {
		put("  as the daemon has them")
	}
	for _, l := range live.Rlimits {
		put("  %s\t%s\t%s\t%s", l.Name, l.Soft, l.Hard, l.Unit)
	}
	put("\nMounts\tkind\tmode\tsource")
	if len(live.Mounts) == 0 {
		put("  none but those that every container has")
	}
	for _, m := range live.Mounts {
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		state := ""
		if m.Trouble() {
			state = " (" + m.State + ")"
		}
		put("  %s\t%s\t%s\t%s%s", command.Visible(m.Destination), command.Visible(m.Kind), mode, command.Visible(m.Source), state)
	}
}

// writeSteps prints the start, step by step.
func writeSteps(put func(string, ...any), steps []api.Step) {
	if len(steps) == 0 {
		return
	}
	var sum int64
	put("\nHow it was started")
	for _, s := range steps {
		put("  %s\t%d µs", command.Visible(s.Name), s.Microseconds)
		sum += s.Microseconds
	}
	put("  all steps\t%d µs (some run side by side)", sum)
}

// writePlan prints the steps of a start that has not been.
func writePlan(put func(string, ...any), raw json.RawMessage) {
	var plan struct {
		Steps []struct{ Name string }
	}
	if err := json.Unmarshal(raw, &plan); err != nil || len(plan.Steps) == 0 {
		return
	}
	put("\nHow it would be started")
	for _, s := range plan.Steps {
		put("  %s", command.Visible(s.Name))
	}
}

// capabilities are names without the CAP_ that each has.
func capabilities(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	const perLine = 6
	short := make([]string, len(names))
	for i, n := range names {
		short[i] = strings.TrimPrefix(n, "CAP_")
	}
	return folded(short, perLine)
}

// folded puts so many words into a line, and all below the first.
func folded(words []string, perLine int) string {
	var lines []string
	for some := range slices.Chunk(words, perLine) {
		lines = append(lines, strings.Join(some, " "))
	}
	return strings.Join(lines, "\n  \t")
}

func seccompText(s api.IsolationSeccomp) string {
	text := s.Mode
	if s.Profile != "" {
		text += ", profile " + s.Profile
	}
	if s.Filters > 1 {
		text += ", " + strconv.Itoa(s.Filters) + " filters stacked"
	}
	return text
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func paths(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	const perLine = 4
	shown := make([]string, len(list))
	for i, p := range list {
		shown[i] = command.Visible(p)
	}
	return folded(shown, perLine)
}

// limitText shows a value of a limit by its kind; none is what nil is called.
func limitText(name string, v *uint64, none string) string {
	switch {
	case v == nil:
		return none
	case name == "cpu":
		return strconv.FormatFloat(float64(*v)/1000, 'g', 4, 64) + " processors"
	case name == "pids":
		return strconv.FormatUint(*v, 10)
	}
	return units.BytesSize(float64(min(*v, math.MaxInt64)))
}

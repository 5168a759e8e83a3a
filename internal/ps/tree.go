package ps

import "strings"

// descend visits processes, each before its children. Of several with one pid, as
// threads have it, the first has the children. lasts tells for a process and those
// above it, but the root, the highest first, whether it is the last child.
func descend[T any](list []T, pid, parent func(T) int, visit func(t T, lasts []bool)) {
	children, known := map[int][]T{}, map[int]bool{}
	for _, t := range list {
		known[pid(t)] = true
	}
	var roots []T
	for _, t := range list {
		if p := parent(t); known[p] && p != pid(t) {
			children[p] = append(children[p], t)
		} else {
			roots = append(roots, t)
		}
	}
	var walk func(t T, lasts []bool)
	walk = func(t T, lasts []bool) {
		visit(t, lasts)
		kids := children[pid(t)]
		delete(children, pid(t))
		for i, c := range kids {
			walk(c, append(lasts[:len(lasts):len(lasts)], i == len(kids)-1))
		}
	}
	for _, t := range roots {
		walk(t, nil)
	}
}

// lines are what stands in front of a process for those above it: a line down to
// a sibling that is still to come, or nothing.
func lines(lasts []bool, line, nothing string) string {
	var b strings.Builder
	for _, last := range lasts {
		if last {
			b.WriteString(nothing)
		} else {
			b.WriteString(line)
		}
	}
	return b.String()
}

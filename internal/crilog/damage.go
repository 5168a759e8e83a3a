package crilog

import (
	"fmt"
	"math"
)

// damage counts the lines that something which is no record stands for; it ends
// at the given offset. How many lines there were is known where the next mark
// is, so the records up to that are counted at once: the loss is then told once
// and whole. Where no mark follows, nothing is known but that there was one.
func (r *reader) damage(end int64) error {
	r.damaged = true
	if end <= r.counted {
		return nil
	}
	to, line, good, err := r.lookAhead(end)
	if err != nil {
		return err
	}
	lost := uint64(1)
	if to > 0 {
		r.counted = to
		lost = 0
		if line > r.line+good {
			lost = line - r.line - good
		}
	}
	err = r.endJoins()
	r.drop(lost)
	return err
}

// holed tells whether a record with NULs in it is two with a hole between them,
// as a crash of the machine leaves it, and not what a program wrote: then there
// are fewer lines up to the next mark than there should be.
func (r *reader) holed(rec record, end int64) (bool, error) {
	if end <= r.counted {
		return false, nil
	}
	to, line, good, err := r.lookAhead(end)
	if err != nil || to == 0 {
		return false, err
	}
	if !rec.partial {
		good++
	}
	if line > r.line+good {
		return true, nil
	}
	r.counted = to // no need to look again before
	return false, nil
}

// lookAhead finds the next place, at or after an offset of the current segment,
// before which the number of lines is known, and counts the lines that are left
// up to there. A zero place: there is none.
func (r *reader) lookAhead(from int64) (to int64, line, good uint64, err error) {
	if to, line, err = r.nextKnown(from); err != nil || to == 0 {
		return 0, 0, 0, err
	}
	var stamps stampReader
	err = eachRecord(r.src, from, to, func(rec record, _ []byte) {
		if _, ok := stamps.parse(rec.stamp); ok && !rec.partial {
			good++
		}
	})
	return to, line, good, err
}

func (r *reader) nextKnown(from int64) (offset int64, line uint64, err error) {
	marks := r.src.index.marks
	for _, m := range marks[min(r.mark, len(marks)):] {
		if m.offset >= from {
			return m.offset, m.line, nil
		}
	}
	list, err := listSegments(r.dir)
	if err != nil {
		return 0, 0, err
	}
	for _, s := range list {
		if s.n != r.src.n+1 {
			continue
		}
		ix, err := loadIndex(r.dir, s.n, math.MaxInt64)
		if err != nil || !ix.known {
			return 0, 0, err
		}
		size, err := r.src.size()
		if err != nil {
			return 0, 0, fmt.Errorf("read log: %w", err)
		}
		return size, ix.marks[0].line, nil
	}
	return 0, 0, nil
}

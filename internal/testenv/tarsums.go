package testenv

import (
	"bytes"
	"fmt"
	"strconv"
)

// TarSums returns an archive in which the checksums of headers are right. With
// wrong ones it would be refused at once, and fuzzing would not get any further.
func TarSums(data []byte) []byte {
	const block, sum, sumEnd, size, sizeEnd = 512, 148, 156, 124, 136
	out := bytes.Clone(data)
	for at := 0; at+block <= len(out); {
		head := out[at : at+block]
		at += block
		if bytes.Count(head, []byte{0}) == block {
			continue // the end, or what is between two archives
		}
		copy(head[sum:sumEnd], "        ")
		total := 0
		for _, b := range head {
			total += int(b)
		}
		copy(head[sum:sumEnd], fmt.Sprintf("%06o\x00 ", total))
		n, err := strconv.ParseUint(string(bytes.Trim(head[size:sizeEnd], " \x00")), 8, 32)
		if err == nil {
			at += int((n + block - 1) / block * block)
		}
	}
	return out
}

// Package crilog keeps the output of one container in the Kubernetes CRI log
// format and reads it back.
//
// A log is a directory of segments of bounded size, of which a bounded number
// is kept; the format of a line, of the index beside each segment and of
// compressed segments is drawn in docs/design/shim-protocol.md. Log shippers
// that know the format read the plain segments as they are.
//
// The shim writes: OpenWriter, then Write with each chunk of output as it came,
// and CompressRotated in a process of its own when Rotated says so. The daemon
// reads: Read hands out lines by tail, time window or following, while the log
// is written, rotated and compressed.
//
// What holds for both sides:
//
//   - All bytes come back as they were written, NULs and the missing newline of
//     the last line included. The order between the two streams is that of the
//     calls of Write.
//   - Nothing is lost in silence. Lines are numbered through all segments; a
//     jump in the numbers is told as Entry.Dropped.
//   - A damaged file costs what was damaged, and never the rest.
//   - Reading begins near what is wanted: the index leads there.
//
// It is a leaf package, because it is linked into every shim.
package crilog

package crilog

// Stream tells which of a process's two outputs a line came from. With a
// terminal everything is Stdout.
type Stream uint8

// The two streams, numbered as Docker's attach framing numbers them.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// String returns the name used in the CRI format.
func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// What applies where Options leaves a field zero.
const (
	DefaultMaxSize  = 20 << 20
	DefaultMaxFiles = 5
)

// Options bounds the log of one container. The zero value is
// DefaultMaxSize x DefaultMaxFiles, compressed; in any other value Compress
// says whether rotated segments are compressed.
type Options struct {
	// MaxSize is the size in bytes at which a segment is rotated; negative
	// means never.
	MaxSize int64 `json:"max_size,omitempty"`
	// MaxFiles is how many segments are kept, the active one included.
	MaxFiles int `json:"max_files,omitempty"`
	// Compress has rotated segments compressed with zstd.
	Compress bool `json:"compress,omitempty"`
	// Disabled keeps no log at all; the writer then drops everything.
	Disabled bool `json:"disabled,omitempty"`
	// Merge has both streams written by one pipe, as stdout: the one way to keep
	// their order exactly. Whoever makes the pipes heeds it.
	Merge bool `json:"merge,omitempty"`
	// Run is the number of the run whose output is written, so that readers can
	// ask for it; 0: nobody counts.
	Run int `json:"run,omitempty"`
}

// WithDefaults returns o with its zero fields filled in.
func (o Options) WithDefaults() Options {
	if o == (Options{Merge: o.Merge, Run: o.Run}) {
		o.Compress = true
	}
	if o.MaxSize == 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.MaxFiles <= 0 {
		o.MaxFiles = DefaultMaxFiles
	}
	return o
}

package plan

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// A plan travels in a form of its own. The stage lives for a millisecond: to
// learn by reflection how JSON fits these types would take it a good part of
// that. Encoding and decoding are one walk over all fields in the order in which
// code names them:
//
//	format     one byte in front of all
//	number     uvarint; a signed one zigzag
//	text       length uvarint, bytes
//	list       length uvarint, elements
//	pointer    0, or 1 and the value

// Format is the newest form of a plan. It goes up by one whenever a field is
// added, removed or moved. A stage reads its own and FormatJSON; its shim says
// which that is. So a daemon gets on with the shims of an older one, and the
// other way round.
const Format = 1

// FormatJSON is the form that every stage reads.
const FormatJSON = 0

// ErrMalformed is what Decode answers to bytes that Encode did not make.
var ErrMalformed = errors.New("malformed plan")

// Encode gives the plan the form in which it travels to a stage that reads
// format: it is JSON unless the two agree on something better.
func (p *Plan) Encode(format int) ([]byte, error) {
	if format != Format {
		b, err := json.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("encode plan: %w", err)
		}
		return b, nil
	}
	c := &coder{out: []byte{Format}}
	p.code(c)
	return c.out, nil
}

// Decode is the reverse of Encode, for either form. A nil and an empty list are
// the same to it.
func Decode(b []byte) (*Plan, error) {
	if len(b) > 0 && b[0] == '{' {
		p := &Plan{}
		if err := json.Unmarshal(b, p); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		return p, nil
	}
	if len(b) == 0 || b[0] != Format {
		return nil, ErrMalformed
	}
	c := &coder{in: string(b[1:]), reading: true}
	p := &Plan{}
	p.code(c)
	if c.bad || c.in != "" {
		return nil, ErrMalformed
	}
	return p, nil
}

// coder is one walk over a plan, reading into it or writing from it.
type coder struct {
	reading bool
	in      string // what is left to read
	bad     bool   // in was not what it should be
	out     []byte
}

func (p *Plan) code(c *coder) {
	text(c, &p.ID)
	text(c, &p.Mode)
	texts(c, &p.Files)
	list(c, &p.Steps, (*Step).code)
}

func (s *Step) code(c *coder) {
	text(c, &s.Name)
	text(c, &s.Op)
	text(c, &s.Path)
	text(c, &s.Value)
	unsigned(c, &s.Flags)
	signed(c, &s.File)
	signed(c, &s.Count)
	unsigned(c, &s.Rows)
	unsigned(c, &s.Columns)
	optional(c, &s.Mount, (*Mount).code)
	optional(c, &s.Node, (*Node).code)
	optional(c, &s.Rlimit, (*Rlimit).code)
	optional(c, &s.User, (*User).code)
	optional(c, &s.Capabilities, (*Capabilities).code)
	optional(c, &s.Seccomp, (*Seccomp).code)
	optional(c, &s.Exec, (*Exec).code)
}

func (m *Mount) code(c *coder) {
	text(c, &m.Target)
	text(c, &m.FS)
	text(c, &m.Source)
	texts(c, &m.Options)
	unsigned(c, &m.Attributes)
	unsigned(c, &m.Propagation)
	signed(c, &m.File)
	truth(c, &m.IsFile)
	text(c, &m.Describe)
}

func (n *Node) code(c *coder) {
	text(c, &n.Path)
	unsigned(c, &n.Mode)
	unsigned(c, &n.Major)
	unsigned(c, &n.Minor)
	unsigned(c, &n.UID)
	unsigned(c, &n.GID)
}

func (r *Rlimit) code(c *coder) {
	text(c, &r.Name)
	signed(c, &r.Resource)
	unsigned(c, &r.Soft)
	unsigned(c, &r.Hard)
}

func (u *User) code(c *coder) {
	text(c, &u.Spec)
	truth(c, &u.Lookup)
	unsigned(c, &u.UID)
	unsigned(c, &u.GID)
	texts(c, &u.Groups)
	truth(c, &u.OwnStdio)
}

func (s *Capabilities) code(c *coder) {
	unsigned(c, &s.Bounding)
	unsigned(c, &s.Effective)
	unsigned(c, &s.Permitted)
	unsigned(c, &s.Inheritable)
	unsigned(c, &s.Ambient)
}

func (s *Seccomp) code(c *coder) {
	blob(c, &s.Program)
	unsigned(c, &s.Flags)
}

func (x *Exec) code(c *coder) {
	texts(c, &x.Args)
	texts(c, &x.Env)
	optional(c, &x.Umask, func(v *uint32, c *coder) { unsigned(c, v) })
	truth(c, &x.Init)
	signed(c, &x.File)
}

// number reads or writes one uvarint. It must fit into bits.
func (c *coder) number(v uint64, bits int) uint64 {
	if !c.reading {
		c.out = binary.AppendUvarint(c.out, v)
		return v
	}
	var n uint64
	for i := 0; i < len(c.in) && i < binary.MaxVarintLen64; i++ {
		b := c.in[i]
		if i == binary.MaxVarintLen64-1 && b > 1 {
			break // beyond 64 bits
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			c.in = c.in[i+1:]
			c.bad = c.bad || bits < 64 && n>>bits != 0
			return n
		}
	}
	c.fail()
	return 0
}

// fail has nothing more read.
func (c *coder) fail() { c.bad, c.in = true, "" }

func unsigned[T uint16 | uint32 | uint64](c *coder, v *T) {
	bits := 64
	switch any(*v).(type) {
	case uint16:
		bits = 16
	case uint32:
		bits = 32
	}
	if n := c.number(uint64(*v), bits); c.reading { // what is written out is not written to: plans share parts
		*v = T(n)
	}
}

func signed(c *coder, v *int) {
	if n := c.number(uint64(*v)<<1^uint64(*v>>63), 64); c.reading {
		*v = int(n>>1) ^ -int(n&1)
	}
}

func truth(c *coder, v *bool) {
	n := uint64(0)
	if *v {
		n = 1
	}
	if n = c.number(n, 1); c.reading {
		*v = n == 1
	}
}

// length reads or writes the length of something whose parts take at least a byte
// each, so that a length beyond what is left is refused before it costs memory.
func (c *coder) length(n int) int {
	read := c.number(uint64(n), 63)
	if c.reading && read > uint64(len(c.in)) {
		c.fail()
		return 0
	}
	return int(read)
}

func text[T ~string](c *coder, v *T) {
	n := c.length(len(*v))
	if !c.reading {
		c.out = append(c.out, *v...)
		return
	}
	*v = T(c.in[:n])
	c.in = c.in[n:]
}

func blob(c *coder, v *[]byte) {
	n := c.length(len(*v))
	if !c.reading {
		c.out = append(c.out, *v...)
		return
	}
	*v = []byte(c.in[:n])
	c.in = c.in[n:]
}

func list[T any](c *coder, v *[]T, code func(*T, *coder)) {
	n := c.length(len(*v))
	if c.reading {
		*v = slices.Grow([]T(nil), n)[:n]
	}
	for i := range *v {
		code(&(*v)[i], c)
	}
}

func texts(c *coder, v *[]string) { list(c, v, func(s *string, c *coder) { text(c, s) }) }

func optional[T any](c *coder, v **T, code func(*T, *coder)) {
	there := *v != nil
	truth(c, &there)
	if !there {
		return
	}
	if c.reading {
		*v = new(T)
	}
	code(*v, c)
}

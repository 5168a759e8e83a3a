package pcap

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// longestBlock bounds what is read into memory at once.
const longestBlock = 1 << 20

// ErrFormat tells that something is no file of this form.
var ErrFormat = errors.New("not in the form pcapng")

// Reader reads a file block by block.
type Reader struct {
	r     *bufio.Reader
	order binary.ByteOrder
	buf   []byte

	interfaces []Interface
	units      []uint64 // of time, by interface: how many there are in a second
	stats      Statistics
}

// NewReader reads the beginning of a file.
func NewReader(r io.Reader) (*Reader, error) {
	in := &Reader{r: bufio.NewReaderSize(r, 64<<10)}
	if kind, _, err := in.block(); err != nil {
		return nil, err
	} else if kind != blockSection {
		return nil, ErrFormat
	}
	return in, nil
}

// Interfaces are those that were met so far.
func (r *Reader) Interfaces() []Interface { return r.interfaces }

// Statistics are the last ones that were met.
func (r *Reader) Statistics() Statistics { return r.stats }

// Block is the last block as it stands in the file; valid until the next call.
func (r *Reader) Block() []byte { return r.buf }

// Next reads the next block. packet is nil if it is none; its data is valid until
// the next call. It returns io.EOF at the end, and io.ErrUnexpectedEOF within a
// block.
func (r *Reader) Next() (packet *Packet, err error) {
	kind, body, err := r.block()
	if err != nil {
		return nil, err
	}
	switch kind {
	case blockInterface:
		return nil, r.addInterface(body)
	case blockStatistics:
		const fixed = 12
		if len(body) < fixed {
			return nil, ErrFormat
		}
		r.options(body[fixed:], func(code uint16, v []byte) {
			if len(v) != 8 {
				return
			}
			switch code {
			case optionReceived:
				r.stats.Received = r.order.Uint64(v)
			case optionDropped:
				r.stats.Dropped = r.order.Uint64(v)
			}
		})
		return nil, nil
	case blockPacket:
		return r.packet(body)
	}
	return nil, nil
}

// block reads a block and returns its body.
func (r *Reader) block() (kind uint32, body []byte, err error) {
	head, err := r.r.Peek(12)
	if err != nil {
		if len(head) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	if binary.LittleEndian.Uint32(head) == blockSection { // the same in both orders
		switch uint32(byteOrder) {
		case binary.LittleEndian.Uint32(head[8:]):
			r.order = binary.LittleEndian
		case binary.BigEndian.Uint32(head[8:]):
			r.order = binary.BigEndian
		default:
			return 0, nil, ErrFormat
		}
		r.interfaces, r.units = nil, nil
	}
	if r.order == nil {
		return 0, nil, ErrFormat
	}
	kind, length := r.order.Uint32(head), r.order.Uint32(head[4:])
	if length < 12 || length%4 != 0 || length > longestBlock {
		return 0, nil, fmt.Errorf("%w: a block of %d bytes", ErrFormat, length)
	}
	if cap(r.buf) < int(length) {
		r.buf = make([]byte, length)
	}
	r.buf = r.buf[:length]
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	if r.order.Uint32(r.buf[length-4:]) != length {
		return 0, nil, fmt.Errorf("%w: a block whose two lengths differ", ErrFormat)
	}
	return kind, r.buf[8 : length-4], nil
}

func (r *Reader) addInterface(body []byte) error {
	const fixed, microseconds = 8, 1_000_000
	if len(body) < fixed {
		return ErrFormat
	}
	i := Interface{LinkType: r.order.Uint16(body), SnapLen: r.order.Uint32(body[4:])}
	units := uint64(microseconds)
	r.options(body[fixed:], func(code uint16, v []byte) {
		switch {
		case code == optionName:
			i.Name = string(v)
		case code == optionResolution && len(v) == 1 && v[0] < 20:
			units = uint64(math.Pow10(int(v[0])))
		case code == optionResolution && len(v) == 1 && v[0] >= 0x80 && v[0] < 0x80+64:
			units = 1 << (v[0] & 0x7f)
		}
	})
	r.interfaces, r.units = append(r.interfaces, i), append(r.units, units)
	return nil
}

func (r *Reader) packet(body []byte) (*Packet, error) {
	const fixed = 20
	if len(body) < fixed {
		return nil, ErrFormat
	}
	p := &Packet{Interface: int(r.order.Uint32(body)), Length: int(r.order.Uint32(body[16:]))}
	length := int(r.order.Uint32(body[12:]))
	padded := (length + 3) &^ 3
	if p.Interface >= len(r.interfaces) || length < 0 || padded > len(body)-fixed {
		return nil, ErrFormat
	}
	units := r.units[p.Interface]
	n := uint64(r.order.Uint32(body[4:]))<<32 | uint64(r.order.Uint32(body[8:]))
	p.Time = time.Unix(int64(n/units), int64(float64(n%units)/float64(units)*1e9))
	if units == 1e9 {
		p.Time = time.Unix(int64(n/units), int64(n%units))
	}
	p.Data = body[fixed : fixed+length]
	r.options(body[fixed+padded:], func(code uint16, v []byte) {
		if code == optionFlags && len(v) == 4 {
			p.Outgoing = r.order.Uint32(v)&3 == outbound
		}
	})
	return p, nil
}

// options calls fn with each of a block's options. What is cut off ends them.
func (r *Reader) options(b []byte, fn func(code uint16, value []byte)) {
	for len(b) >= 4 {
		code, n := r.order.Uint16(b), int(r.order.Uint16(b[2:]))
		padded := (n + 3) &^ 3
		if code == optionEnd || padded > len(b)-4 {
			return
		}
		fn(code, b[4:4+n])
		b = b[4+padded:]
	}
}

// Package pcap writes and reads captured packets in the form that Wireshark and
// tcpdump read, pcapng, and tells of a packet in a line of text.
//
// A file is a sequence of blocks, in the byte order of the machine that wrote it:
//
//	Section Header     once: byte order, what wrote it
//	Interface          before the first packet of each: link type, name, unit of time
//	Enhanced Packet    interface, time, lengths, data, direction
//	Interface Statistics  at the end: how many packets there were, how many are missing
//
// See https://ietf-opsawg-wg.github.io/draft-ietf-opsawg-pcap/draft-ietf-opsawg-pcapng.html.
package pcap

import (
	"encoding/binary"
	"io"
	"time"
)

// Types of blocks.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6
)

// Options of blocks.
const (
	optionEnd = 0

	optionOS          = 3
	optionApplication = 4
	optionName        = 2 // of an interface
	optionResolution  = 9
	optionFlags       = 2 // of a packet
	optionReceived    = 4 // of statistics
	optionDropped     = 5
)

const byteOrder = 0x1a2b3c4d

// nanoseconds is the unit of time that we write: 10 to the power of -9.
const nanoseconds = 9

// Flags of a packet: its direction.
const (
	inbound  = 1
	outbound = 2
)

// Interface is one that packets are of.
type Interface struct {
	Name     string
	LinkType uint16 // LINKTYPE_*: 1 for Ethernet, 101 for IP without a link header
	SnapLen  uint32 // how much of a packet is kept
}

// Packet is one that was captured.
type Packet struct {
	Time      time.Time
	Interface int  // its number, from 0 in the order of the interfaces
	Outgoing  bool // from where it was captured
	Length    int  // of the whole packet
	Data      []byte
}

// Statistics tell what became of the packets of a capture.
type Statistics struct {
	Received uint64 // passed the filter
	Dropped  uint64 // were lost since nobody had read in time
}

// Writer writes a file. The first error is returned by all further calls.
type Writer struct {
	w    io.Writer
	buf  []byte
	next int
	err  error
}

// NewWriter begins a file with the name of the program that writes it.
func NewWriter(w io.Writer, application string) *Writer {
	out := &Writer{w: w}
	out.block(blockSection, func(b []byte) []byte {
		b = binary.NativeEndian.AppendUint32(b, byteOrder)
		b = binary.NativeEndian.AppendUint16(b, 1) // version 1.0
		b = binary.NativeEndian.AppendUint16(b, 0)
		b = binary.NativeEndian.AppendUint64(b, ^uint64(0)) // length of the section: not known
		b = option(b, optionOS, []byte("Linux"))
		b = option(b, optionApplication, []byte(application))
		return option(b, optionEnd, nil)
	})
	return out
}

// Err is the first error.
func (w *Writer) Err() error { return w.err }

// Interface adds an interface and returns its number.
func (w *Writer) Interface(i Interface) (int, error) {
	w.block(blockInterface, func(b []byte) []byte {
		b = binary.NativeEndian.AppendUint16(b, i.LinkType)
		b = binary.NativeEndian.AppendUint16(b, 0)
		b = binary.NativeEndian.AppendUint32(b, i.SnapLen)
		b = option(b, optionName, []byte(i.Name))
		b = option(b, optionResolution, []byte{nanoseconds})
		return option(b, optionEnd, nil)
	})
	w.next++
	return w.next - 1, w.err
}

// Packet writes a packet.
func (w *Writer) Packet(p Packet) error {
	w.block(blockPacket, func(b []byte) []byte {
		b = binary.NativeEndian.AppendUint32(b, uint32(p.Interface))
		b = moment(b, p.Time)
		b = binary.NativeEndian.AppendUint32(b, uint32(len(p.Data)))
		b = binary.NativeEndian.AppendUint32(b, uint32(p.Length))
		b = pad(append(b, p.Data...))
		direction := uint32(inbound)
		if p.Outgoing {
			direction = outbound
		}
		b = option(b, optionFlags, binary.NativeEndian.AppendUint32(nil, direction))
		return option(b, optionEnd, nil)
	})
	return w.err
}

// Statistics writes what became of the packets; of one interface, though it counts
// for all, since one socket has received them. There has to be an interface.
func (w *Writer) Statistics(at time.Time, s Statistics) error {
	w.block(blockStatistics, func(b []byte) []byte {
		b = binary.NativeEndian.AppendUint32(b, 0)
		b = moment(b, at)
		b = option(b, optionReceived, binary.NativeEndian.AppendUint64(nil, s.Received))
		b = option(b, optionDropped, binary.NativeEndian.AppendUint64(nil, s.Dropped))
		return option(b, optionEnd, nil)
	})
	return w.err
}

// block writes a block with what fill appends.
func (w *Writer) block(kind uint32, fill func([]byte) []byte) {
	if w.err != nil {
		return
	}
	b := binary.NativeEndian.AppendUint32(w.buf[:0], kind)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = fill(b)
	length := uint32(len(b) + 4)
	b = binary.NativeEndian.AppendUint32(b, length)
	binary.NativeEndian.PutUint32(b[4:], length)
	w.buf = b
	_, w.err = w.w.Write(b)
}

func moment(b []byte, t time.Time) []byte {
	n := uint64(t.UnixNano())
	b = binary.NativeEndian.AppendUint32(b, uint32(n>>32))
	return binary.NativeEndian.AppendUint32(b, uint32(n))
}

func option(b []byte, code uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, code)
	b = binary.NativeEndian.AppendUint16(b, uint16(len(value)))
	return pad(append(b, value...))
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

package core

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"
)

// FuzzExamine has a dump begin with anything. Only an ELF file that says it is a core
// is one, its size is none below zero, and the signal stands in its bytes.
func FuzzExamine(f *testing.F) {
	var b bytes.Buffer
	head := elf.Header64{Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2}
	copy(head.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	for _, part := range []any{
		head,
		elf.Prog64{Type: uint32(elf.PT_NOTE), Off: 64 + 2*56, Filesz: 34},
		elf.Prog64{Type: uint32(elf.PT_LOAD), Off: 1 << 62, Filesz: 1 << 61},
		[]uint32{5, 14, ntPRStatus},
		[]byte("CORE\x00\x00\x00\x00"),
		[3]uint32{},
		uint16(11),
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			f.Fatal(err)
		}
	}
	if sig, size, err := examine(b.Bytes()); err != nil || sig != 11 || size < 1<<62 {
		f.Fatalf("the first input is %d, %d, %v", sig, size, err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(elf.ELFMAG))
	f.Fuzz(func(t *testing.T, data []byte) {
		sig, size, err := examine(data)
		if err != nil && (sig != 0 || size != 0) {
			t.Errorf("%d, %d besides %v", sig, size, err)
		}
		if err == nil && (len(data) < 18 || string(data[:4]) != elf.ELFMAG || data[16] != byte(elf.ET_CORE)) {
			t.Errorf("%q is a core", data)
		}
		if size < 0 || sig < 0 || sig != 0 && !bytes.Contains(data, []byte{byte(sig), byte(sig >> 8)}) && !bytes.Contains(data, []byte{byte(sig >> 8), byte(sig)}) {
			t.Errorf("signal %d, %d bytes", sig, size)
		}
	})
}

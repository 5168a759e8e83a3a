package core

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"syscall"
)

// ntPRStatus is the type of the note about a thread; the kernel writes that of the
// thread that crashed first. See elf_prstatus in include/linux/elfcore.h: behind
// elf_siginfo, which are three numbers of 32 bits, stands the signal in 16.
const (
	ntPRStatus = 1
	noteHeader = 12 // sizes of name and description, and the type
	noteName   = 8  // "CORE" and its padding
	signalAt   = 12
)

// examine reads, from the beginning of an ELF file, the signal by which a process
// crashed, 0 if its note lies further behind, and how long the whole file is. An
// error says that it is no core.
func examine(head []byte) (sig syscall.Signal, size int64, err error) {
	const typeAt = elf.EI_NIDENT
	if len(head) < typeAt+2 || string(head[:len(elf.ELFMAG)]) != elf.ELFMAG {
		return 0, 0, errors.New("it is no core: it is no ELF file")
	}
	if binary.NativeEndian.Uint16(head[typeAt:]) != uint16(elf.ET_CORE) {
		return 0, 0, errors.New("it is an ELF file, but no core")
	}
	f, err := elf.NewFile(bytes.NewReader(head))
	if err != nil {
		return 0, 0, nil //nolint:nilerr // of more than 65,534 mappings the headers end beyond what is looked at
	}
	for _, p := range f.Progs {
		size = max(size, int64(min(p.Off, math.MaxInt64/2)+min(p.Filesz, math.MaxInt64/2)))
		var note [noteHeader + noteName + signalAt + 2]byte
		if p.Type != elf.PT_NOTE || sig != 0 {
			continue
		}
		if _, err := io.ReadFull(p.Open(), note[:]); err == nil && f.ByteOrder.Uint32(note[8:]) == ntPRStatus {
			sig = syscall.Signal(f.ByteOrder.Uint16(note[noteHeader+noteName+signalAt:]))
		}
	}
	return sig, size, nil
}

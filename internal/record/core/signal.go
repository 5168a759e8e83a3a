package core

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
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
	f, err := elf.NewFile(bytes.NewReader(head))
	if err != nil {
		return 0, 0, fmt.Errorf("it is no core: %w", err)
	}
	if f.Type != elf.ET_CORE {
		return 0, 0, errors.New("it is an ELF file, but no core")
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

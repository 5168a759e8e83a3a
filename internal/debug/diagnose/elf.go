package diagnose

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// program is what matters of an ELF file for executing it. Shared libraries do
// not: the kernel does not look at them, and no start is refused for want of one.
// It is read by program headers, as the kernel does: section headers may be
// missing, and their sizes are whatever the file says.
type program struct {
	class   elf.Class
	order   binary.ByteOrder
	machine elf.Machine
	interp  string // empty: static
}

// Limits of what an ELF file may make us read.
const (
	maxHeaders = 128
	maxInterp  = 4096
)

// segment is a program header.
type segment struct{ typ, off, size uint64 }

// readProgram reads an ELF file; what is cut off is left out.
func readProgram(r io.ReaderAt) (*program, error) {
	var ident [elf.EI_NIDENT]byte
	if _, err := r.ReadAt(ident[:], 0); err != nil {
		return nil, fmt.Errorf("read ELF header: %w", err)
	}
	p := &program{class: elf.Class(ident[elf.EI_CLASS]), order: binary.LittleEndian}
	if elf.Data(ident[elf.EI_DATA]) == elf.ELFDATA2MSB {
		p.order = binary.BigEndian
	}
	segments, err := p.headers(r)
	if err != nil {
		return p, err
	}
	for _, s := range segments {
		if elf.ProgType(s.typ) == elf.PT_INTERP {
			name, _, _ := bytes.Cut(readSome(r, s.off, min(s.size, maxInterp)), []byte{0})
			p.interp = string(name)
			break // the kernel takes the first
		}
	}
	return p, nil
}

func (p *program) headers(r io.ReaderAt) ([]segment, error) {
	const size32, size64 = 52, 64
	size := uint64(size64)
	if p.class == elf.ELFCLASS32 {
		size = size32
	}
	h := readSome(r, 0, size)
	if uint64(len(h)) < size {
		return nil, fmt.Errorf("read ELF header: %w", io.ErrUnexpectedEOF)
	}
	p.machine = elf.Machine(p.order.Uint16(h[18:]))
	var off, entry, count uint64
	if p.class == elf.ELFCLASS32 {
		off, entry, count = uint64(p.order.Uint32(h[28:])), uint64(p.order.Uint16(h[42:])), uint64(p.order.Uint16(h[44:]))
	} else {
		off, entry, count = p.order.Uint64(h[32:]), uint64(p.order.Uint16(h[54:])), uint64(p.order.Uint16(h[56:]))
	}
	const entry32, entry64 = 32, 56
	if p.class == elf.ELFCLASS32 && entry < entry32 || p.class != elf.ELFCLASS32 && entry < entry64 {
		return nil, nil // there are none, as in an object file
	}
	var list []segment
	for i := range min(count, maxHeaders) {
		b := readSome(r, off+i*entry, entry)
		if uint64(len(b)) < entry {
			break
		}
		if p.class == elf.ELFCLASS32 {
			list = append(list, segment{uint64(p.order.Uint32(b)), uint64(p.order.Uint32(b[4:])), uint64(p.order.Uint32(b[16:]))})
		} else {
			list = append(list, segment{uint64(p.order.Uint32(b)), p.order.Uint64(b[8:]), p.order.Uint64(b[32:])})
		}
	}
	return list, nil
}

// readSome reads up to n bytes; fewer at the end of the file.
func readSome(r io.ReaderAt, off, n uint64) []byte {
	if off > 1<<62 {
		return nil
	}
	b := make([]byte, n)
	got, _ := r.ReadAt(b, int64(off))
	return b[:got]
}

// machines are the processors that Go knows, by their names there.
var machines = map[elf.Machine][]string{
	elf.EM_X86_64: {"amd64"}, elf.EM_386: {"386", "amd64"}, elf.EM_AARCH64: {"arm64"}, elf.EM_ARM: {"arm", "arm64"},
	elf.EM_RISCV: {"riscv64"}, elf.EM_PPC64: {"ppc64le", "ppc64"}, elf.EM_S390: {"s390x"}, elf.EM_MIPS: {"mips64le", "mips64", "mipsle", "mips"},
	elf.EM_LOONGARCH: {"loong64"},
}

func (x *explainer) elf(p string) {
	f, err := x.root.Open(p)
	if err != nil {
		return
	}
	defer f.Close()
	prog, err := readProgram(f)
	if err != nil {
		x.add(Finding{Kind: NotAProgram, Path: p, Text: fmt.Sprintf("%s is a damaged ELF file: %v", p, err), Fix: "build or copy it again"})
		return
	}
	if archs := machines[prog.machine]; !slices.Contains(archs, x.c.Arch) {
		name := strings.TrimPrefix(prog.machine.String(), "EM_")
		if len(archs) > 0 {
			name = archs[0]
		}
		x.add(Finding{
			Kind: WrongArch, Path: p,
			Text: fmt.Sprintf("%s is a program for %s, this machine is %s", p, name, x.c.Arch),
			Fix:  fmt.Sprintf("build it for linux/%s (GOARCH, --platform), or use an image for this platform", x.c.Arch),
		})
		return
	}
	if prog.interp == "" || x.hidden(prog.interp) {
		return
	}
	if _, err := x.root.Stat(prog.interp); err != nil {
		x.add(Finding{
			Kind: NoLoader, Path: p,
			Text: fmt.Sprintf("%s exists and is dynamically linked, but its loader %s is not in the image", p, prog.interp),
			Fix:  loaderFix(prog.interp),
		})
	}
}

// loaderFix tells which library a loader belongs to.
func loaderFix(interp string) string {
	which := "the C library that it was linked with"
	switch {
	case strings.Contains(path.Base(interp), "ld-musl"):
		which = "musl (it was built on Alpine)"
	case strings.Contains(path.Base(interp), "ld-linux"):
		which = "glibc (it was built on Debian, Ubuntu, Fedora or the like)"
	}
	return "link it statically (Go: CGO_ENABLED=0), or use a base image with " + which
}

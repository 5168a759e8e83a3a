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

// program is what matters of an ELF file for loading it. It is read by program
// headers, as the kernel and the loader do: section headers may be missing, and
// their sizes are whatever the file says.
type program struct {
	class   elf.Class
	order   binary.ByteOrder
	machine elf.Machine
	interp  string   // empty: static
	needed  []string // shared libraries
	rpath   []string
}

// Limits of what an ELF file may make us read.
const (
	maxHeaders = 128
	maxInterp  = 4096
	maxDynamic = 64 << 10
	maxStrings = 4 << 20
)

// segment is a program header.
type segment struct{ typ, off, vaddr, size uint64 }

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
	var dynamic []byte
	for _, s := range segments {
		switch elf.ProgType(s.typ) { //nolint:exhaustive // the others do not matter for loading
		case elf.PT_INTERP:
			b := readSome(r, s.off, min(s.size, maxInterp))
			p.interp = string(cutNUL(b))
		case elf.PT_DYNAMIC:
			dynamic = readSome(r, s.off, min(s.size, maxDynamic))
		}
	}
	p.dynamic(r, dynamic, segments)
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
			list = append(list, segment{uint64(p.order.Uint32(b)), uint64(p.order.Uint32(b[4:])), uint64(p.order.Uint32(b[8:])), uint64(p.order.Uint32(b[16:]))})
		} else {
			list = append(list, segment{uint64(p.order.Uint32(b)), p.order.Uint64(b[8:]), p.order.Uint64(b[16:]), p.order.Uint64(b[32:])})
		}
	}
	return list, nil
}

// dynamic reads which libraries are needed, and where they are looked for.
func (p *program) dynamic(r io.ReaderAt, table []byte, segments []segment) {
	word := 8
	if p.class == elf.ELFCLASS32 {
		word = 4
	}
	number := func(b []byte) uint64 {
		if word == 4 {
			return uint64(p.order.Uint32(b))
		}
		return p.order.Uint64(b)
	}
	var needed, paths []uint64
	var at, size uint64
	for ; len(table) >= 2*word; table = table[2*word:] {
		value := number(table[word:])
		switch elf.DynTag(number(table)) { //nolint:exhaustive // the others do not tell of libraries
		case elf.DT_NEEDED:
			needed = append(needed, value)
		case elf.DT_RPATH, elf.DT_RUNPATH:
			paths = append(paths, value)
		case elf.DT_STRTAB:
			at = value
		case elf.DT_STRSZ:
			size = value
		}
	}
	i := slices.IndexFunc(segments, func(s segment) bool {
		return elf.ProgType(s.typ) == elf.PT_LOAD && at >= s.vaddr && at-s.vaddr < s.size
	})
	if i < 0 || size == 0 {
		return
	}
	text := readSome(r, segments[i].off+at-segments[i].vaddr, min(size, maxStrings))
	str := func(n uint64) string {
		if n >= uint64(len(text)) {
			return ""
		}
		return string(cutNUL(text[n:]))
	}
	for _, n := range needed {
		if name := str(n); name != "" {
			p.needed = append(p.needed, name)
		}
	}
	for _, n := range paths {
		p.rpath = append(p.rpath, strings.Split(str(n), ":")...)
	}
}

func cutNUL(b []byte) []byte {
	head, _, _ := bytes.Cut(b, []byte{0})
	return head
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
		return
	}
	x.libraries(p, prog)
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

// libraries looks for those that a program needs itself. The loader may know of
// more places than we do (its cache is not read): this finding alone is no proof,
// and comes after all that the kernel itself refuses.
func (x *explainer) libraries(p string, prog *program) {
	dirs := x.libraryDirs(p, prog)
	for _, name := range prog.needed {
		if strings.Contains(name, "/") || slices.ContainsFunc(dirs, func(d string) bool {
			q := path.Join(d, name)
			_, err := x.root.Stat(q)
			return err == nil || x.hidden(q)
		}) {
			continue
		}
		x.add(Finding{
			Kind: NoLibrary, Path: p,
			Text: fmt.Sprintf("%s needs the shared library %s, which is not in the image", p, name),
			Fix:  "install the package that has it, or copy it and set LD_LIBRARY_PATH",
		})
	}
}

func (x *explainer) libraryDirs(p string, prog *program) []string {
	var dirs []string
	for _, d := range append(prog.rpath, strings.Split(envOf(x.c.Env, "LD_LIBRARY_PATH"), ":")...) {
		d = strings.NewReplacer("$ORIGIN", path.Dir(p), "${ORIGIN}", path.Dir(p), "$LIB", "lib", "${LIB}", "lib").Replace(d)
		if path.IsAbs(d) {
			dirs = append(dirs, d)
		}
	}
	triplet := map[elf.Machine]string{elf.EM_X86_64: "x86_64-linux-gnu", elf.EM_AARCH64: "aarch64-linux-gnu", elf.EM_386: "i386-linux-gnu", elf.EM_ARM: "arm-linux-gnueabihf", elf.EM_RISCV: "riscv64-linux-gnu", elf.EM_PPC64: "powerpc64le-linux-gnu", elf.EM_S390: "s390x-linux-gnu"}[prog.machine]
	for _, d := range []string{"/lib", "/usr/lib", "/lib64", "/usr/lib64", "/lib32", "/usr/lib32", "/usr/local/lib", "/usr/local/lib64"} {
		dirs = append(dirs, d)
		if triplet != "" {
			dirs = append(dirs, path.Join(d, triplet))
		}
	}
	return append(append(dirs, path.Dir(prog.interp)), x.configured("/etc/ld.so.conf", "/etc/ld.so.conf.d/"+triplet+".conf", "/etc/ld.so.conf.d/libc.conf")...)
}

// configured are the directories of the loader's configuration.
func (x *explainer) configured(files ...string) []string {
	const maxConf = 64 << 10
	var dirs []string
	for _, name := range files {
		text, err := readHead(x.root, name, maxConf)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if d := strings.TrimSpace(line); path.IsAbs(d) {
				dirs = append(dirs, d)
			}
		}
	}
	return dirs
}

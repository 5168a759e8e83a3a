package magic

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// elfKind describes a program, library or object file.
func elfKind(whole io.ReaderAt) Kind {
	f, err := elf.NewFile(whole)
	if err != nil {
		return Kind{"ELF, damaged or cut off: " + err.Error(), "application/x-executable", "binary"}
	}
	defer f.Close()
	text := "ELF " + map[elf.Class]string{elf.ELFCLASS32: "32-bit", elf.ELFCLASS64: "64-bit"}[f.Class] + " " +
		map[elf.Data]string{elf.ELFDATA2LSB: "LSB", elf.ELFDATA2MSB: "MSB"}[f.Data] + " "
	interpreter := ""
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			data, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
			if err == nil {
				interpreter = string(bytes.TrimRight(data, "\x00"))
			}
		}
	}
	kind := "application/x-object"
	pie := isPIE(f)
	switch {
	case f.Type == elf.ET_EXEC:
		text, kind = text+"executable", "application/x-executable"
	case f.Type == elf.ET_DYN && pie:
		text, kind = text+"pie executable", "application/x-pie-executable"
	case f.Type == elf.ET_DYN:
		text, kind = text+"shared object", "application/x-sharedlib"
	case f.Type == elf.ET_REL:
		text += "relocatable"
	case f.Type == elf.ET_CORE:
		text, kind = text+"core file", "application/x-coredump"
	default:
		text += f.Type.String()
	}
	text += ", " + machine(f.Machine) + fmt.Sprintf(", version %d (%s)", f.Version, abi(f.OSABI))
	if f.Type == elf.ET_EXEC || f.Type == elf.ET_DYN {
		switch {
		case interpreter != "":
			text += ", dynamically linked, interpreter " + interpreter
		case f.Type == elf.ET_DYN && pie:
			text += ", static-pie linked"
		case f.Section(".dynamic") != nil || f.Type == elf.ET_DYN:
			text += ", dynamically linked"
		default:
			text += ", statically linked"
		}
	}
	text += notes(f)
	if f.Section(".debug_info") != nil || f.Section(".zdebug_info") != nil {
		text += ", with debug_info"
	}
	if f.Type != elf.ET_CORE {
		if f.Section(".symtab") != nil {
			text += ", not stripped"
		} else {
			text += ", stripped"
		}
	}
	return Kind{text, kind, "binary"}
}

// isPIE tells a program from a library: the linker marks it, or it names an
// interpreter.
func isPIE(f *elf.File) bool {
	flags, err := f.DynValue(elf.DT_FLAGS_1)
	if err == nil && len(flags) > 0 && flags[0]&uint64(elf.DF_1_PIE) != 0 {
		return true
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && f.Entry != 0 && f.Section(".init_array") == nil {
			return true
		}
	}
	return false
}

func machine(m elf.Machine) string {
	names := map[elf.Machine]string{
		elf.EM_X86_64: "x86-64", elf.EM_386: "Intel 80386", elf.EM_AARCH64: "ARM aarch64", elf.EM_ARM: "ARM", elf.EM_RISCV: "UCB RISC-V",
		elf.EM_PPC64: "64-bit PowerPC", elf.EM_S390: "IBM S/390", elf.EM_MIPS: "MIPS", elf.EM_LOONGARCH: "LoongArch", elf.EM_BPF: "eBPF",
	}
	if n, ok := names[m]; ok {
		return n
	}
	return strings.TrimPrefix(m.String(), "EM_")
}

func abi(a elf.OSABI) string {
	switch a {
	case elf.ELFOSABI_NONE:
		return "SYSV"
	case elf.ELFOSABI_LINUX:
		return "GNU/Linux"
	default:
		return strings.TrimPrefix(a.String(), "ELFOSABI_")
	}
}

// notes tells the build id, and that of Go.
func notes(f *elf.File) string {
	var text strings.Builder
	for _, s := range []struct{ section, owner, title string }{{".note.go.buildid", "Go", ", Go BuildID="}, {".note.gnu.build-id", "GNU", ", BuildID[sha1]="}} {
		section := f.Section(s.section)
		if section == nil || section.Size > 4096 {
			continue
		}
		data, err := section.Data()
		if err != nil || len(data) < 12 {
			continue
		}
		// Sizes of name and value, a type, then both, each filled up to four bytes: elf(5).
		name, size := int(f.ByteOrder.Uint32(data)), int(f.ByteOrder.Uint32(data[4:]))
		at := 12 + (name+3)/4*4
		if name < 0 || size < 0 || at > len(data) || size > len(data)-at || string(bytes.TrimRight(data[12:min(len(data), 12+name)], "\x00")) != s.owner {
			continue
		}
		value := data[at : at+size]
		if s.owner == "Go" {
			text.WriteString(s.title + string(value))
		} else {
			text.WriteString(s.title + hex.EncodeToString(value))
		}
	}
	return text.String()
}

package foreign

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// program is an ELF file that names its interpreter.
func program(t testing.TB, interpreter string) []byte {
	t.Helper()
	var b bytes.Buffer
	const header, segment = 64, 56
	head := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}, Type: uint16(elf.ET_DYN),
		Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Phoff: header, Ehsize: header, Phentsize: segment, Phnum: 1,
	}
	size := uint64(len(interpreter) + 1)
	for _, part := range []any{head, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: header + segment, Filesz: size, Memsz: size}, append([]byte(interpreter), 0)} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// FuzzCommand holds of a program of an image, whose interpreter may be a link of the
// image: what is executed is a file in the root, whatever its bytes name, and the
// program's own arguments come last and as they were.
func FuzzCommand(f *testing.F) {
	f.Add([]byte("#!/bin/interp -x\n"), "bin/interp")
	f.Add([]byte("#! ../../../../bin/sh  a b \nrest"), "../../../../../../bin/sh")
	f.Add([]byte("#!/program\n"), "/program")
	f.Add([]byte("#!/link"), "link")
	f.Add([]byte("#!\n"), "")
	f.Add([]byte("#!"+strings.Repeat("x", 300)), "/")
	f.Add(program(f, "/lib/loader"), "/proc/self/root/bin/sh")
	f.Add(program(f, "/link"), "lib/loader")
	f.Add(program(f, "../../../../../../bin/sh\x00x"), "")
	f.Add([]byte("\x7fELF"), "bin/interp")
	f.Fuzz(func(t *testing.T, data []byte, target string) {
		dir := t.TempDir()
		for name, text := range map[string][]byte{"program": data, "bin/interp": []byte("interpreter"), "lib/loader": []byte("loader")} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(target, filepath.Join(dir, "link")); err != nil {
			return // no target of one
		}
		r := Root(dir)
		for _, name := range []string{"program", "link"} {
			path := filepath.Join(dir, name)
			file, argv, err := r.Command(path, []string{"name", "", "#!"})
			if err != nil {
				continue
			}
			real, err := filepath.EvalSymlinks(file)
			if file == dir {
				continue // the root itself, which nobody can execute
			}
			if !r.Has(file) || err == nil && !r.Has(real) {
				t.Errorf("%q, with a link to %q: %s is executed, which is %s", data, target, file, real)
			}
			if len(argv) < 3 || !slices.Equal(argv[len(argv)-2:], []string{"", "#!"}) {
				t.Errorf("%q, with a link to %q: the arguments are %q", data, target, argv)
			}
		}
		if found := r.Find(filepath.Join(dir, "bin")+":"+dir+":/bin", "link"); found != "" && !r.Has(found) {
			t.Errorf("with a link to %q: %s is found", target, found)
		}
	})
}

package diagnose

import (
	"debug/elf"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes a root filesystem. A file whose name ends in "/" is a directory,
// one whose content begins with "-> " a link. Modes are 0755 but for names in plain.
func tree(t *testing.T, files map[string]string, plain ...string) Root {
	t.Helper()
	top := t.TempDir()
	for name, content := range files {
		p := filepath.Join(top, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(p, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(to, p)
		} else {
			err = os.WriteFile(p, []byte(content), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range plain {
		if err := os.Chmod(filepath.Join(top, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d, err := os.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return Dir(d, func(uint32) uint32 { return 0 })
}

// elfFile is a program of 64 bits for a processor, with a loader.
func elfFile(machine elf.Machine, interp string) string {
	const head, phdr = 64, 56
	le := binary.LittleEndian
	b := make([]byte, head+2*phdr)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], uint16(elf.ET_DYN))
	le.PutUint16(b[18:], uint16(machine))
	le.PutUint64(b[32:], head)
	le.PutUint16(b[54:], phdr)
	le.PutUint16(b[56:], 2)
	interpAt := uint64(len(b))
	b = append(b, interp+"\x00"...)
	put := func(i int, typ elf.ProgType, off, size uint64) {
		p := b[head+i*phdr:]
		le.PutUint32(p, uint32(typ))
		le.PutUint64(p[8:], off)
		le.PutUint64(p[16:], off)
		le.PutUint64(p[32:], size)
	}
	put(0, elf.PT_LOAD, 0, uint64(len(b)))
	if interp != "" {
		put(1, elf.PT_INTERP, interpAt, uint64(len(interp)+1))
	}
	return string(b)
}

func TestExplain(t *testing.T) {
	x86 := elfFile(elf.EM_X86_64, "")
	env := []string{"PATH=/usr/bin:/bin"}
	tests := []struct {
		name  string
		files map[string]string
		plain []string
		c     Command
		kind  Kind // empty: nothing is wrong
		path  string
		line  int
		text  string
	}{
		{"fine", map[string]string{"bin/sh": x86, "run": "#!/bin/sh\n"}, nil, Command{Args: []string{"/run"}}, "", "", 0, ""},
		{"found in PATH", map[string]string{"bin/sh": x86}, nil, Command{Args: []string{"sh"}}, "", "", 0, ""},
		{"not in PATH", map[string]string{"bin/sh": x86}, nil, Command{Args: []string{"bash"}}, Missing, "bash", 0, `no file "bash" is in any directory of PATH (/usr/bin:/bin)`},
		{"missing", map[string]string{"bin/sh": x86}, nil, Command{Args: []string{"/usr/local/bin/app"}}, Missing, "/usr/local/bin/app", 0, "there is no directory /usr"},
		{"dangling link", map[string]string{"app": "-> /nowhere"}, nil, Command{Args: []string{"/app"}}, Missing, "/app", 0, "does not exist"},
		{"not executable", map[string]string{"run": "#!/bin/sh\n", "bin/sh": x86}, []string{"run"}, Command{Args: []string{"/run"}}, NotExecutable, "/run", 0, "its mode is 0644"},
		{"not executable in PATH", map[string]string{"bin/app": x86}, []string{"bin/app"}, Command{Args: []string{"app"}}, NotExecutable, "/bin/app", 0, "0644"},
		{"directory", map[string]string{"app/": ""}, nil, Command{Args: []string{"/app"}}, Directory, "/app", 0, "is a directory"},
		{"CR", map[string]string{"run": "#!/bin/sh\r\necho\r\n", "bin/sh": x86}, nil, Command{Args: []string{"/run"}}, CarriageRet, "/run", 1, `the kernel looks for "/bin/sh\r"`},
		{"CR behind an argument", map[string]string{"run": "#!/bin/sh -e\r\n", "bin/sh": x86}, nil, Command{Args: []string{"/run"}}, CarriageRet, "/run", 1, `"/bin/sh -e\r"`},
		{"BOM", map[string]string{"run": "\xef\xbb\xbf#!/bin/sh\n"}, nil, Command{Args: []string{"/run"}}, ByteOrderMark, "/run", 1, "byte order mark"},
		{"no interpreter", map[string]string{"run": "#!/bin/bash\n", "usr/bin/bash": x86}, nil, Command{Args: []string{"/run"}}, NoInterpreter, "/run", 1, "names, /bin/bash, does not"},
		{"env finds nothing", map[string]string{"run": "#!/usr/bin/env python\n", "usr/bin/env": x86}, nil, Command{Args: []string{"/run"}}, NoInterpreter, "/run", 1, `env look for "python"`},
		{"script of a script", map[string]string{"run": "#!/bin/wrap\n", "bin/wrap": "#!/nowhere\n"}, nil, Command{Args: []string{"/run"}}, NoInterpreter, "/bin/wrap", 1, "/nowhere"},
		{"script without end", map[string]string{"run": "#!/run\n"}, nil, Command{Args: []string{"/run"}}, "", "", 0, ""},
		{"no loader", map[string]string{"app": elfFile(elf.EM_X86_64, "/lib64/ld-linux-x86-64.so.2")}, nil, Command{Args: []string{"/app"}}, NoLoader, "/app", 0, "its loader /lib64/ld-linux-x86-64.so.2 is not in the image"},
		{"loader is there", map[string]string{"app": elfFile(elf.EM_X86_64, "/lib/ld"), "lib/ld": x86}, nil, Command{Args: []string{"/app"}}, "", "", 0, ""},
		{"other processor", map[string]string{"app": elfFile(elf.EM_AARCH64, "")}, nil, Command{Args: []string{"/app"}}, WrongArch, "/app", 0, "for arm64, this machine is amd64"},
		{"cut off", map[string]string{"app": x86[:20]}, nil, Command{Args: []string{"/app"}}, NotAProgram, "/app", 0, "damaged"},
		{"text", map[string]string{"app": "echo hello\n"}, nil, Command{Args: []string{"/app"}}, NotAProgram, "/app", 1, "neither"},
		{"empty", map[string]string{"app": ""}, nil, Command{Args: []string{"/app"}}, EmptyFile, "/app", 0, "is empty"},
		{"unknown user", map[string]string{"app": x86, "etc/passwd": "root:x:0:0::/:\napp:x:7:7::/:\n"}, nil, Command{Args: []string{"/app"}, User: "App"}, BadUser, "/etc/passwd", 0, `no user "App"`},
		{"unknown group", map[string]string{"app": x86, "etc/group": "root:x:0:\n"}, nil, Command{Args: []string{"/app"}, User: "1:staff"}, BadGroup, "/etc/group", 0, `no group "staff"`},
		{"no workdir", map[string]string{"app": x86}, nil, Command{Args: []string{"/app"}, Dir: "/srv"}, NoWorkdir, "/srv", 0, "/srv does not exist"},
		{"workdir is a file", map[string]string{"app": x86}, nil, Command{Args: []string{"/app"}, Dir: "/app"}, WorkdirDenied, "/app", 0, "not a directory"},
		{"below a tmpfs", nil, nil, Command{Args: []string{"/tmp/app"}, Hidden: []string{"/tmp"}}, "", "", 0, ""},
		{"below a tmpfs without exec", nil, nil, Command{Args: []string{"/tmp/app"}, Hidden: []string{"/tmp"}, NoExec: []string{"/tmp"}, Denied: true}, NoExecMount, "/tmp/app", 0, "noexec"},
		{"missing below a tmpfs without exec", nil, nil, Command{Args: []string{"/tmp/app"}, Hidden: []string{"/tmp"}, NoExec: []string{"/tmp"}}, "", "", 0, ""},
		{"beside a tmpfs", nil, nil, Command{Args: []string{"/tmpapp"}, Hidden: []string{"/tmp"}}, Missing, "/tmpapp", 0, ""},
		{"link that would lead out", map[string]string{"app": "-> ../../../../../../../../etc/passwd"}, nil, Command{Args: []string{"/app"}}, Missing, "/app", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.Env, tt.c.Arch = env, "amd64"
			got := Explain(tree(t, tt.files, tt.plain...), tt.c)
			if tt.kind == "" {
				if len(got) > 0 {
					t.Fatalf("found %+v, want nothing", got)
				}
				return
			}
			if len(got) == 0 {
				t.Fatalf("found nothing, want %s", tt.kind)
			}
			f := got[0]
			if f.Kind != tt.kind || f.Path != tt.path || f.Line != tt.line || !strings.Contains(f.Text, tt.text) {
				t.Errorf("found %+v, want %s %s:%d %q", f, tt.kind, tt.path, tt.line, tt.text)
			}
			if f.Fix == "" {
				t.Error("no fix")
			}
		})
	}
}

func TestMay(t *testing.T) {
	file := func(mode fs.FileMode) Info { return Info{Mode: mode, UID: 1, GID: 2} }
	tests := []struct {
		name string
		id   Identity
		mode fs.FileMode
		a    Access
		want bool
	}{
		{"owner", Identity{UID: 1}, 0o700, Execute, true},
		{"owner's bits count for the owner", Identity{UID: 1}, 0o077, Execute, false},
		{"group", Identity{UID: 9, GID: 2}, 0o070, Write, true},
		{"further group", Identity{UID: 9, Groups: []uint32{2}}, 0o070, Write, true},
		{"others", Identity{UID: 9}, 0o770, Read, false},
		{"root writes", Identity{}, 0o000, Write, true},
		{"root does not execute what nobody may", Identity{}, 0o666, Execute, false},
		{"root searches", Identity{}, fs.ModeDir, Search, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.id.May(file(tt.mode), tt.a); got != tt.want {
				t.Errorf("May = %v, want %v", got, tt.want)
			}
		})
	}
}

// FuzzProgram holds that no ELF file makes the reader panic, or keep more than a
// path.
func FuzzProgram(f *testing.F) {
	f.Add([]byte(elfFile(elf.EM_X86_64, "/lib/ld")))
	f.Add([]byte("\x7fELF\x01\x02"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := readProgram(strings.NewReader(string(data)))
		if err == nil && len(p.interp) > maxInterp {
			t.Errorf("a loader's name of %d bytes", len(p.interp))
		}
	})
}

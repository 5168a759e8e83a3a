package diagnose

import (
	"debug/elf"
	"io/fs"
	"path"
	"strings"
	"testing"
)

// memoryRoot has files by absolute name, and the directories that they are in.
type memoryRoot map[string]string

type memoryFile struct{ *strings.Reader }

func (memoryFile) Close() error { return nil }

func (m memoryRoot) Stat(name string) (Info, error) {
	name = path.Clean(name)
	if text, ok := m[name]; ok {
		return Info{Mode: 0o750, UID: 1, Size: int64(len(text))}, nil
	}
	for file := range m {
		if strings.HasPrefix(file, strings.TrimSuffix(name, "/")+"/") {
			return Info{Mode: fs.ModeDir | 0o755}, nil
		}
	}
	return Info{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

func (m memoryRoot) Open(name string) (File, error) {
	if text, ok := m[path.Clean(name)]; ok {
		return memoryFile{strings.NewReader(text)}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// FuzzExplain looks at programs and a user database of somebody else. It ends, says the
// same again, and what it says does nothing to a terminal.
func FuzzExplain(f *testing.F) {
	f.Add("#!/bin/interp -x\r\n", "#!/usr/bin/env -S a b\n", "app:x:1:1::/:\n", "App", "/bin/prog", "PATH=/bin::x")
	f.Add(elfFile(elf.EM_X86_64, "/lib/ld"), elfFile(elf.EM_AARCH64, "\x1b[2J"), "", "1000:nobody", "prog", "PATH=")
	f.Add("#!/bin/prog\n", "#! \n", "\xff:::\n", "0", "interp", "")
	f.Add("\xef\xbb\xbf#!/bin/sh", "PK\x03\x04", "root:x:0:0::/:\n", "", "/bin/interp/x", "")
	f.Fuzz(func(t *testing.T, prog, interp, passwd, user, arg, env string) {
		r := memoryRoot{"/bin/prog": prog, "/bin/interp": interp, "/etc/passwd": passwd, "/usr/bin/env": elfFile(elf.EM_X86_64, "")}
		c := Command{Args: []string{arg}, Env: []string{env}, User: user, Arch: "amd64"}
		first := Explain(r, c)
		for i, again := range Explain(r, c) {
			if again != first[i] {
				t.Errorf("first %+v, then %+v", first[i], again)
			}
		}
		for _, found := range first {
			if hint := found.Hint(); printable(hint) != hint || found.Text == "" || len(hint) > 8*(len(prog)+len(interp)+len(arg)+len(env)+len(user)+maxDB/1024) {
				t.Errorf("%q of %d bytes", hint, len(hint))
			}
		}
		if id, err := LookUpUser(r, user); err == nil && id.UID == 1<<32-1 {
			t.Errorf("user %q is %v", user, id)
		}
	})
}

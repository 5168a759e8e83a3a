package runtime

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"runtime"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/seccomp"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/sys"
)

// filters remembers compiled profiles: most containers have the same one, and
// compiling it takes as long as all mounts together. The zero value is ready.
type filters struct {
	mu   sync.Mutex
	byID map[[sha256.Size]byte]*plan.Seccomp
}

// maxFilters bounds what is remembered; beyond it, all is forgotten.
const maxFilters = 32

// compile turns a profile into the kernel's program, which must not be changed.
// A profile that has somebody notified is refused: nobody would answer, and what
// waits for an answer fails with ENOSYS once the filter's descriptor is closed.
func (f *filters) compile(p *specs.LinuxSeccomp) (*plan.Seccomp, error) {
	if err := checkNotify(p); err != nil {
		return nil, err
	}
	id := profileID(p)
	f.mu.Lock()
	found := f.byID[id]
	f.mu.Unlock()
	if found != nil {
		return found, nil
	}
	filter, err := seccomp.Compile(p, runtime.GOARCH)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp profile: %w", err)
	}
	flags, err := seccomp.Flags(p)
	if err != nil {
		return nil, invalid("%v", err)
	}
	out := &plan.Seccomp{Program: sys.SeccompProgram(filter), Flags: flags}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byID == nil || len(f.byID) >= maxFilters {
		f.byID = map[[sha256.Size]byte]*plan.Seccomp{}
	}
	f.byID[id] = out
	return out, nil
}

// profileID is a digest of all that a profile says.
func profileID(p *specs.LinuxSeccomp) [sha256.Size]byte {
	w := digester{h: sha256.New()}
	w.text(string(p.DefaultAction))
	w.optional(p.DefaultErrnoRet)
	w.number(uint64(len(p.Architectures)))
	for _, a := range p.Architectures {
		w.text(string(a))
	}
	w.number(uint64(len(p.Flags)))
	for _, f := range p.Flags {
		w.text(string(f))
	}
	if p.Flags == nil {
		w.text("no flags") // which is not the same as none
	}
	for _, s := range p.Syscalls {
		w.number(uint64(len(s.Names)))
		for _, n := range s.Names {
			w.text(n)
		}
		w.text(string(s.Action))
		w.optional(s.ErrnoRet)
		w.number(uint64(len(s.Args)))
		for _, a := range s.Args {
			w.number(uint64(a.Index))
			w.number(a.Value)
			w.number(a.ValueTwo)
			w.text(string(a.Op))
		}
	}
	return [sha256.Size]byte(w.h.Sum(w.buf[:0]))
}

// digester writes values so that no two sequences of them look the same.
type digester struct {
	h   hash.Hash
	buf []byte
}

func (d *digester) number(n uint64) {
	d.buf = binary.LittleEndian.AppendUint64(d.buf[:0], n)
	d.h.Write(d.buf)
}

func (d *digester) text(s string) {
	d.number(uint64(len(s)))
	d.buf = append(d.buf[:0], s...)
	d.h.Write(d.buf)
}

func (d *digester) optional(n *uint) {
	if n == nil {
		d.number(0)
		return
	}
	d.number(1)
	d.number(uint64(*n))
}

func checkNotify(p *specs.LinuxSeccomp) error {
	if p.ListenerPath != "" || p.ListenerMetadata != "" {
		return unsupported("seccomp: a notification listener is not supported")
	}
	if p.DefaultAction == specs.ActNotify {
		return unsupported("seccomp: SCMP_ACT_NOTIFY is not supported as default action, because there is no listener")
	}
	for _, rule := range p.Syscalls {
		if rule.Action == specs.ActNotify {
			return unsupported("seccomp: SCMP_ACT_NOTIFY is not supported for %s, because there is no listener", strings.Join(rule.Names, ", "))
		}
	}
	return nil
}

package stage

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/shim/reaper"
	"github.com/portholehq/porthole/internal/shim/wire"
	"github.com/portholehq/porthole/internal/sys"
)

// appArmor has the profile take effect at exec. An image must not be able to take
// the profile's place by having something else on /proc.
func (s *stage) appArmor(profile string) error {
	return execProfile(profile, func(name string) (*os.File, error) {
		f, err := mount.OpenInRoot(s.root, name, unix.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		if ok, err := isFS(f, unix.PROC_SUPER_MAGIC); err != nil || !ok {
			f.Close()
			return nil, errors.New("/proc is not procfs")
		}
		return f, nil
	})
}

// execProfile writes a profile's name where the kernel looks at exec: the file is
// where Linux 5.8 put it for the case of several security modules, or else where
// it was.
func execProfile(profile string, open func(name string) (*os.File, error)) error {
	f, err := open("/proc/thread-self/attr/apparmor/exec")
	if errors.Is(err, unix.ENOENT) {
		f, err = open("/proc/thread-self/attr/exec")
	}
	if err != nil {
		return profileError(profile, err)
	}
	defer f.Close()
	// In one piece: each write is a request.
	if _, err := unix.Write(int(f.Fd()), []byte("exec "+profile)); err != nil {
		return profileError(profile, &os.PathError{Op: "write", Path: f.Name(), Err: err})
	}
	return nil
}

// profileError has Docker's words, and the profile's name.
func profileError(profile string, err error) error {
	return fmt.Errorf("unable to apply apparmor profile: apparmor failed to apply profile %q: %w", profile, err)
}

// limit sets the limits of steps. What is left to do after it needs little memory, and a
// collection makes room for that: where memory is limited, Go's heap cannot grow any more.
func (s *stage) limit(steps []plan.Step) error {
	if slices.ContainsFunc(steps, func(st plan.Step) bool { return st.Rlimit.OfMemory() }) {
		runtime.GC()
	}
	for i := range steps {
		s.step = &steps[i]
		r := steps[i].Rlimit
		if err := unix.Prlimit(0, r.Resource, &unix.Rlimit{Cur: r.Soft, Max: r.Hard}, nil); err != nil {
			return fmt.Errorf("set rlimit %s to %d:%d: %w", r.Name, r.Soft, r.Hard, err)
		}
	}
	return nil
}

// withoutInits parts limits into those that an init can live with and those that it has
// to set for its command.
func withoutInits(limits []plan.Step) (forInit []plan.Step, forCommand []reaper.Limit) {
	for _, st := range limits {
		if r := st.Rlimit; r.HurtsGo() {
			forCommand = append(forCommand, reaper.Limit{Resource: r.Resource, Soft: r.Soft, Hard: r.Hard})
		} else {
			forInit = append(forInit, st)
		}
	}
	return forInit, forCommand
}

// enterCgroups moves the thread that will execute the program. The files are
// open with the daemon's rights, which is what the kernel checks.
func (s *stage) enterCgroups(st *plan.Step) error {
	for _, f := range s.files[st.File : st.File+st.Count] {
		// 0 stands for the calling thread.
		if _, err := unix.Write(int(f.Fd()), []byte("0")); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
		f.Close()
	}
	return nil
}

// keyring joins a new session keyring, so that keys of whoever started the
// daemon are out of reach. Root in the container may search it. A kernel
// without keyrings has nothing to hide.
func keyring(name string) error {
	id, err := unix.KeyctlJoinSessionKeyring(name)
	if errors.Is(err, unix.ENOSYS) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("join session keyring %q: %w", name, err)
	}
	desc, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, id)
	if err != nil {
		return fmt.Errorf("describe session keyring: %w", err)
	}
	// type;uid;gid;perm;name
	fields := strings.SplitN(desc, ";", 5)
	if len(fields) < 5 {
		return fmt.Errorf("describe session keyring: unexpected answer %q", desc)
	}
	perm, err := strconv.ParseUint(fields[3], 16, 32)
	if err != nil {
		return fmt.Errorf("describe session keyring: %w", err)
	}
	const userSearch = 0x80000 // KEY_USR_SEARCH
	if err := unix.KeyctlSetperm(id, uint32(perm)|userSearch); err != nil {
		return fmt.Errorf("set permissions of session keyring: %w", err)
	}
	return nil
}

// workdir changes the working directory, and makes sure that the new one is in
// the container: a directory outside shows itself by a path that cannot be
// told from the root (CVE-2024-21626).
func workdir(name string) error {
	if err := unix.Chdir(name); err != nil {
		return fmt.Errorf("chdir to cwd (%q) set in config.json failed: %w", name, err)
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buf)
	if err != nil || n < 1 || buf[0] != '/' {
		return fmt.Errorf("current working directory is outside of container mount namespace root: %w", errOr(err, unix.EPERM))
	}
	return nil
}

func errOr(err error, other syscall.Errno) error {
	if err != nil {
		return err
	}
	return other
}

// boundCapabilities sets what does not get in the way of later steps: bounding
// and ambient set. The others are set by narrowCapabilities.
func (s *stage) boundCapabilities(c *plan.Capabilities) error {
	s.caps = c
	for n := range 64 {
		has, err := sys.BoundingSet(n)
		if err != nil {
			break // beyond the last capability of this kernel
		}
		if has && c.Bounding&(1<<n) == 0 {
			if err := sys.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil {
				return fmt.Errorf("drop capability %d from bounding set: %w", n, err)
			}
		}
	}
	have, err := sys.Capget()
	if err != nil {
		return os.NewSyscallError("capget", err)
	}
	have.Inheritable = c.Inheritable & have.Permitted
	if err := sys.Capset(have); err != nil {
		return fmt.Errorf("set inheritable capabilities: %w", err)
	}
	if err := sys.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	for n := range 64 {
		if c.Ambient&have.Inheritable&(1<<n) == 0 {
			continue
		}
		if err := sys.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n), 0, 0); err != nil {
			return fmt.Errorf("raise ambient capability %d: %w", n, err)
		}
	}
	return nil
}

// narrowCapabilities leaves what the program is to have.
func (s *stage) narrowCapabilities() error {
	if s.caps == nil {
		return nil
	}
	have, err := sys.Capget()
	if err != nil {
		return os.NewSyscallError("capget", err)
	}
	permitted := s.caps.Permitted & have.Permitted
	if s.user.uid != 0 {
		// What execve would leave to a user who is not root anyhow. Leaving
		// it earlier, the program has to be executable for the user.
		permitted &= s.caps.Ambient
	}
	err = sys.Capset(sys.CapSets{
		Permitted:   permitted,
		Effective:   s.caps.Effective & permitted,
		Inheritable: s.caps.Inheritable & have.Permitted,
	})
	if err != nil {
		return fmt.Errorf("apply caps: %w", err)
	}
	return nil
}

// finish does the last steps: limits, a seccomp filter, if there is one, and exec. What
// they might forbid (finding the program, telling the timings) comes
// first. A filter needs CAP_SYS_ADMIN or no_new_privs: with the latter the
// capabilities go before it, so that it may forbid capset.
func (s *stage) finish(steps []plan.Step) error {
	if steps[0].Op == plan.OpRendezvous {
		s.meeting = s.files[steps[0].File]
		if steps = steps[1:]; len(steps) == 0 {
			if err := s.rendezvous(); err != nil {
				return err
			}
			return errors.New("the container has no process to start")
		}
	}
	n := slices.IndexFunc(steps, func(st plan.Step) bool { return st.Op != plan.OpRlimit })
	if n < 0 {
		return errors.New("the plan ends with limits")
	}
	limits, steps := steps[:n], steps[n:]
	var filter *plan.Seccomp
	if steps[0].Op == plan.OpSeccomp {
		filter = steps[0].Seccomp
		steps = steps[1:]
	}
	if len(steps) != 1 || steps[0].Op != plan.OpExec {
		return errors.New("the plan has steps after the filter that are not exec")
	}
	last := &steps[0]
	x := last.Exec
	s.step = last
	begin := time.Now()
	var forCommand []reaper.Limit
	if x.Init {
		limits, forCommand = withoutInits(limits)
	}
	program, args, err := s.program(x, forCommand)
	if err != nil {
		return err
	}
	umask := 0o022
	if x.Umask != nil {
		umask = int(*x.Umask)
	}
	unix.Umask(umask)
	// From here on nothing but standard streams survives.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return os.NewSyscallError("close_range", err)
	}
	s.took("prepare exec", begin)
	if err := s.awaitGo(); err != nil {
		return err
	}
	if err := s.rendezvous(); err != nil {
		return err
	}
	if err := s.placeKept(); err != nil {
		return err
	}
	if err := s.conn.SendWord(wire.StageTimings, wire.AppendSteps(nil, s.timings)); err != nil {
		return err
	}
	env := s.environment(x.Env)
	if err := s.limit(limits); err != nil {
		return err
	}
	s.step = last
	if err := s.confine(filter); err != nil {
		return err
	}
	sys.DefaultSignals()
	err = syscall.Exec(program, args, env)
	return execError(x, program, err)
}

func (s *stage) confine(filter *plan.Seccomp) error {
	if filter == nil {
		return s.narrowCapabilities()
	}
	noNewPrivs, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if noNewPrivs == 1 {
		if err := s.narrowCapabilities(); err != nil {
			return err
		}
		return loadFilter(filter)
	}
	if err := loadFilter(filter); err != nil {
		return err
	}
	return s.narrowCapabilities()
}

func loadFilter(f *plan.Seccomp) error {
	if _, err := sys.Seccomp(f.Program, f.Flags); err != nil {
		return fmt.Errorf("load seccomp filter: %w", err)
	}
	return nil
}

// environment adds HOME where it is missing.
func (s *stage) environment(env []string) []string {
	if slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		return env
	}
	return append(slices.Clip(env), "HOME="+s.user.home)
}

// program finds what to execute and its arguments. An init sets the limits forCommand for
// its command.
func (s *stage) program(x *plan.Exec, forCommand []reaper.Limit) (string, []string, error) {
	if len(x.Args) == 0 || x.Args[0] == "" {
		return "", nil, errors.New("no command specified")
	}
	if x.Init {
		// Looked up all the same: a missing program is an error of the start,
		// not of the init.
		if _, err := lookPath(x.Args[0], x.Env); err != nil {
			return "", nil, err
		}
		args := reaper.Arguments("porthole-init", forCommand, x.Args)
		return "/proc/self/fd/" + strconv.Itoa(int(s.files[x.File].Fd())), args, nil
	}
	p, err := lookPath(x.Args[0], x.Env)
	return p, x.Args, err
}

// errNotFound has the words of os/exec, which everybody greps for.
var errNotFound = errors.New("executable file not found in $PATH")

// lookPath finds name as execvp(3) would, in the PATH of env.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if err := executable(name); err != nil {
			return "", &lookError{name, err}
		}
		return name, nil
	}
	for dir := range strings.SplitSeq(pathOf(env), ":") {
		if dir == "" {
			dir = "."
		}
		p := dir + "/" + name
		if executable(p) == nil {
			if dir[0] != '/' {
				p = "./" + strings.TrimPrefix(p, "./")
			}
			return p, nil
		}
	}
	return "", &lookError{name, errNotFound}
}

func pathOf(env []string) string {
	for _, e := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			return v
		}
	}
	return ""
}

func executable(p string) error {
	var st unix.Stat_t
	if err := unix.Stat(p, &st); err != nil {
		return &os.PathError{Op: "stat", Path: p, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.EISDIR
	}
	return unix.Faccessat(unix.AT_FDCWD, p, unix.X_OK, unix.AT_EACCESS)
}

// lookError reads as os/exec's: exec: "x": cause.
type lookError struct {
	name string
	err  error
}

func (e *lookError) Error() string { return fmt.Sprintf("exec: %q: %v", e.name, e.err) }

func (e *lookError) Unwrap() error {
	if errors.Is(e.err, errNotFound) {
		return unix.ENOENT
	}
	return e.err
}

// execError words a refusal of execve itself.
func execError(x *plan.Exec, program string, err error) error {
	if errors.Is(err, unix.EACCES) {
		return &lookError{x.Args[0], err}
	}
	return &os.PathError{Op: "exec", Path: program, Err: err}
}

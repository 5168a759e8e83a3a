package seccomp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/testenv"
)

// data is struct seccomp_data.
type data struct {
	number, arch uint32
	args         [6]uint64
}

// run does what the kernel does with a program. It fails the test on anything
// that the kernel's checker refuses.
func run(t testing.TB, program []unix.SockFilter, d data) uint32 {
	t.Helper()
	words := make([]uint32, 16)
	words[0], words[1] = d.number, d.arch
	for i, arg := range d.args {
		words[4+2*i], words[5+2*i] = uint32(arg), uint32(arg>>32)
	}
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		in := program[pc]
		branch := func(holds bool) {
			if holds {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = words[in.K/4]
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			branch(a == in.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			branch(a > in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			branch(a >= in.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			branch(a&in.K != 0)
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %d: code %#x", pc, in.Code)
		}
	}
	t.Fatalf("the program runs off its end for %+v", d)
	return 0
}

const (
	allow  = unix.SECCOMP_RET_ALLOW
	eperm  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	enosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

var facts = Facts{Arch: "amd64", Kernel: KernelVersion{Kernel: 6, Major: 1}, Capabilities: caps.Default()}

func compileDefault(t testing.TB, f Facts) []unix.SockFilter {
	t.Helper()
	profile, err := Default(f)
	if err != nil {
		t.Fatal(err)
	}
	program, err := Compile(profile, f.Arch)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func TestDefaultProfile(t *testing.T) {
	admin := facts
	admin.Capabilities = append(caps.Default(), "CAP_SYS_ADMIN")
	program, adminProgram := compileDefault(t, facts), compileDefault(t, admin)
	arm64Facts := facts
	arm64Facts.Arch = "arm64"
	armProgram := compileDefault(t, arm64Facts)
	t.Logf("instructions: amd64 %d, arm64 %d", len(program), len(armProgram))
	const x86, i386, aarch64 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64
	for _, test := range []struct {
		name    string
		program []unix.SockFilter
		data    data
		want    uint32
	}{
		{"read", program, data{0, x86, [6]uint64{}}, allow},
		{"mount", program, data{165, x86, [6]uint64{}}, eperm},
		{"mount with the capability", adminProgram, data{165, x86, [6]uint64{}}, allow},
		{"thread", program, data{56, x86, [6]uint64{0x3d0f00}}, allow},
		{"new user namespace", program, data{56, x86, [6]uint64{unix.CLONE_NEWUSER}}, eperm},
		{"clone3 falls back", program, data{435, x86, [6]uint64{}}, enosys},
		{"clone3 with the capability", adminProgram, data{435, x86, [6]uint64{}}, allow},
		{"personality query", program, data{135, x86, [6]uint64{0xffffffff}}, allow},
		{"personality of the upper half", program, data{135, x86, [6]uint64{0x1_00000000}}, eperm},
		{"socket of IPv4", program, data{41, x86, [6]uint64{unix.AF_INET}}, allow},
		{"socket of the crypto API", program, data{41, x86, [6]uint64{unix.AF_ALG}}, eperm},
		{"socket of virtual machines", program, data{41, x86, [6]uint64{unix.AF_VSOCK}}, eperm},
		{"a number of the future", program, data{9999, x86, [6]uint64{}}, enosys},
		{"no call at all", program, data{0xffffffff, x86, [6]uint64{}}, enosys},
		{"x32 read", program, data{0 | x32Bit, x86, [6]uint64{}}, allow},
		{"x32 mount", program, data{165 | x32Bit, x86, [6]uint64{}}, eperm},
		{"x32 of the future", program, data{9999 | x32Bit, x86, [6]uint64{}}, enosys},
		{"i386 read", program, data{3, i386, [6]uint64{}}, allow},
		{"i386 mount", program, data{21, i386, [6]uint64{}}, eperm},
		{"an ABI that is not listed", program, data{0, aarch64, [6]uint64{}}, unix.SECCOMP_RET_KILL_THREAD},
		{"arm64 read", armProgram, data{63, aarch64, [6]uint64{}}, allow},
		{"arm64 mount", armProgram, data{40, aarch64, [6]uint64{}}, eperm},
		{"arm64 of the future", armProgram, data{9999, aarch64, [6]uint64{}}, enosys},
	} {
		if got := run(t, test.program, test.data); got != test.want {
			t.Errorf("%s: %#x, want %#x", test.name, got, test.want)
		}
	}
	for _, p := range [][]unix.SockFilter{program, adminProgram, armProgram} {
		if len(p) > MaxInstructions/4 {
			t.Errorf("%d instructions", len(p))
		}
	}
}

// TestResolveAgreesWithMoby compares our selection of rules with the library's
// own, which asks the machine it runs on.
func TestResolveAgreesWithMoby(t *testing.T) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	here := Facts{Arch: runtime.GOARCH}
	if _, err := fmt.Sscanf(unix.ByteSliceToString(uts.Release[:]), "%d.%d", &here.Kernel.Kernel, &here.Kernel.Major); err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string][]string{"default": caps.Default(), "none": {}, "all": caps.UpTo(40).Names()} {
		t.Run(name, func(t *testing.T) {
			here.Capabilities = list
			got, err := Default(here)
			if err != nil {
				t.Fatal(err)
			}
			want, err := moby.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: list}}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	for _, test := range []struct{ name, text, err string }{
		{"empty", `{}`, ""},
		{"not JSON", `{`, "Decoding seccomp profile failed: unexpected end of JSON input"},
		{"both forms of architectures", `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}`, "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"},
		{"both forms of names", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"name":"read","names":["write"],"action":"SCMP_ACT_ALLOW"}]}`, "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"},
	} {
		got, err := Load([]byte(test.text), facts)
		if errText(err) != test.err {
			t.Errorf("%s: error %q, want %q", test.name, errText(err), test.err)
		}
		if got != nil {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
	got, err := Load([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
		"syscalls":[{"name":"read","action":"SCMP_ACT_ALLOW"},
		{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}},
		{"names":["old"],"action":"SCMP_ACT_ALLOW","excludes":{"minKernel":"5.0"}},
		{"names":["new"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"6.1"}},
		{"names":["newer"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"6.2"}}]}`), facts)
	if err != nil {
		t.Fatal(err)
	}
	want := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read"}, Action: specs.ActAllow},
			{Names: []string{"new"}, Action: specs.ActAllow},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefusedProfiles(t *testing.T) {
	one := func(r specs.LinuxSyscall) *specs.LinuxSeccomp {
		r.Names = []string{"read"}
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{r}}
	}
	for _, test := range []struct {
		name    string
		profile *specs.LinuxSeccomp
		arch    string
		err     string
	}{
		{"default action", &specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_NONSENSE"}, "amd64", `compile seccomp profile: default action: unknown action "SCMP_ACT_NONSENSE"`},
		{"action", one(specs.LinuxSyscall{Action: "no"}), "amd64", `compile seccomp profile: rule for [read]: unknown action "no"`},
		{"operator", one(specs.LinuxSyscall{Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: "<"}}}), "amd64", `compile seccomp profile: rule for [read]: unknown operator "<"`},
		{"argument", one(specs.LinuxSyscall{Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}), "amd64", "compile seccomp profile: rule for [read]: argument 6: system calls have 6 arguments, 0 to 5"},
		{"machine", one(specs.LinuxSyscall{Action: specs.ActAllow}), "vax", `compile seccomp profile: architecture "vax" is not supported`},
		{"architecture", &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{"SCMP_ARCH_VAX"}}, "amd64", `compile seccomp profile: unknown architecture "SCMP_ARCH_VAX"`},
		{"notify by default", &specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, "amd64", "compile seccomp profile: SCMP_ACT_NOTIFY cannot be used as default action"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Compile(test.profile, test.arch); errText(err) != test.err {
				t.Errorf("error %q, want %q", errText(err), test.err)
			}
		})
	}
	var many specs.LinuxSeccomp
	many.DefaultAction = specs.ActErrno
	for i := range 1200 {
		many.Syscalls = append(many.Syscalls, specs.LinuxSyscall{
			Names: []string{"ioctl"}, Action: specs.ActAllow,
			Args: []specs.LinuxSeccompArg{{Index: 1, Op: specs.OpMaskedEqual, Value: 0xff, ValueTwo: uint64(i)}},
		})
	}
	if _, err := Compile(&many, "amd64"); err == nil || !strings.Contains(err.Error(), "the kernel takes 4096") {
		t.Errorf("a program that is too long: %v", err)
	}
}

func TestComparisons(t *testing.T) {
	values := []uint64{0, 1, 5, 6, 0xffffffff, 1 << 32, 1<<32 + 5, 1<<32 + 6, 2 << 32, 2<<32 + 5, ^uint64(0)}
	holds := map[specs.LinuxSeccompOperator]func(a, v, two uint64) bool{
		specs.OpEqualTo:      func(a, v, _ uint64) bool { return a == v },
		specs.OpNotEqual:     func(a, v, _ uint64) bool { return a != v },
		specs.OpLessThan:     func(a, v, _ uint64) bool { return a < v },
		specs.OpLessEqual:    func(a, v, _ uint64) bool { return a <= v },
		specs.OpGreaterThan:  func(a, v, _ uint64) bool { return a > v },
		specs.OpGreaterEqual: func(a, v, _ uint64) bool { return a >= v },
		specs.OpMaskedEqual:  func(a, v, two uint64) bool { return a&v == two },
	}
	for op, expect := range holds {
		for _, v := range values {
			for _, two := range values {
				if op != specs.OpMaskedEqual && two != 0 {
					continue
				}
				program, err := Compile(&specs.LinuxSeccomp{
					DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86},
					Syscalls: []specs.LinuxSyscall{{Names: []string{"ioctl"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 2, Value: v, ValueTwo: two, Op: op}}}},
				}, "amd64")
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range values {
					got := run(t, program, data{number: 16, arch: unix.AUDIT_ARCH_X86_64, args: [6]uint64{2: a}}) == allow
					if want := expect(a, v, two); got != want {
						t.Errorf("%#x %s %#x (%#x): %v", a, op, v, two, got)
					}
					narrow := run(t, program, data{number: 54, arch: unix.AUDIT_ARCH_I386, args: [6]uint64{2: a & 0xffffffff}}) == allow
					if want := expect(a&0xffffffff, v&0xffffffff, two&0xffffffff); narrow != want {
						t.Errorf("i386: %#x %s %#x (%#x): %v", a, op, v, two, narrow)
					}
				}
			}
		}
	}
}

func TestSeveralRulesForACall(t *testing.T) {
	arg := func(index uint, op specs.LinuxSeccompOperator, v uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Op: op, Value: v}
	}
	call := func(action specs.LinuxSeccompAction, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: []string{"ioctl"}, Action: action, Args: args}
	}
	for _, test := range []struct {
		name  string
		rules []specs.LinuxSyscall
		args  [6]uint64
		want  uint32
	}{
		{"all conditions hold", []specs.LinuxSyscall{call(specs.ActAllow, arg(0, specs.OpEqualTo, 1), arg(1, specs.OpGreaterThan, 5))}, [6]uint64{1, 6}, allow},
		{"one of them does not", []specs.LinuxSyscall{call(specs.ActAllow, arg(0, specs.OpEqualTo, 1), arg(1, specs.OpGreaterThan, 5))}, [6]uint64{1, 5}, eperm},
		{"two about the same argument: either", []specs.LinuxSyscall{call(specs.ActAllow, arg(0, specs.OpEqualTo, 1), arg(0, specs.OpEqualTo, 2))}, [6]uint64{2}, allow},
		{"the first that matches", []specs.LinuxSyscall{call(specs.ActLog, arg(0, specs.OpEqualTo, 1)), call(specs.ActAllow, arg(1, specs.OpEqualTo, 1))}, [6]uint64{1, 1}, unix.SECCOMP_RET_LOG},
		{"the second if the first does not", []specs.LinuxSyscall{call(specs.ActLog, arg(0, specs.OpEqualTo, 1)), call(specs.ActAllow, arg(1, specs.OpEqualTo, 1))}, [6]uint64{0, 1}, allow},
		{"no conditions beats conditions", []specs.LinuxSyscall{call(specs.ActLog, arg(0, specs.OpEqualTo, 1)), call(specs.ActAllow)}, [6]uint64{1}, allow},
	} {
		t.Run(test.name, func(t *testing.T) {
			program, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: test.rules}, "amd64")
			if err != nil {
				t.Fatal(err)
			}
			if got := run(t, program, data{number: 16, arch: unix.AUDIT_ARCH_X86_64, args: test.args}); got != test.want {
				t.Errorf("%#x, want %#x", got, test.want)
			}
		})
	}
}

func TestActions(t *testing.T) {
	seven := uint(7)
	for action, want := range map[specs.LinuxSeccompAction]uint32{
		specs.ActKill: unix.SECCOMP_RET_KILL_THREAD, specs.ActKillThread: unix.SECCOMP_RET_KILL_THREAD,
		specs.ActKillProcess: unix.SECCOMP_RET_KILL_PROCESS, specs.ActTrap: unix.SECCOMP_RET_TRAP,
		specs.ActErrno: unix.SECCOMP_RET_ERRNO | 7, specs.ActTrace: unix.SECCOMP_RET_TRACE | 7,
		specs.ActLog: unix.SECCOMP_RET_LOG, specs.ActNotify: unix.SECCOMP_RET_USER_NOTIF,
	} {
		program, err := Compile(&specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow,
			Syscalls:      []specs.LinuxSyscall{{Names: []string{"mkdir"}, Action: action, ErrnoRet: &seven}},
		}, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, program, data{number: 83, arch: unix.AUDIT_ARCH_X86_64}); got != want {
			t.Errorf("%s: %#x, want %#x", action, got, want)
		}
		if got := run(t, program, data{number: 9999, arch: unix.AUDIT_ARCH_X86_64}); got != allow {
			t.Errorf("%s: with a permissive default, a number of the future gets %#x", action, got)
		}
		if got := run(t, program, data{number: 0 | x32Bit, arch: unix.AUDIT_ARCH_X86_64}); got != unix.SECCOMP_RET_KILL_THREAD {
			t.Errorf("%s: x32, which is not listed, gets %#x", action, got)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		flags []specs.LinuxSeccompFlag
		want  uint32
		err   string
	}{
		{nil, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, ""},
		{[]specs.LinuxSeccompFlag{}, 0, ""},
		{[]specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagLog}, unix.SECCOMP_FILTER_FLAG_LOG, ""},
		{[]specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_X"}, 0, "seccomp flag SECCOMP_FILTER_FLAG_X is not known"},
	} {
		got, err := Flags(&specs.LinuxSeccomp{Flags: test.flags})
		if got != test.want || errText(err) != test.err {
			t.Errorf("%v: %#x, %v", test.flags, got, err)
		}
	}
}

// TestKernelTakesIt has the kernel check and run the default program, in a
// child of this test.
func TestKernelTakesIt(t *testing.T) {
	if os.Getenv("SECCOMP_TEST_CHILD") == "1" {
		os.Exit(loadAndTry())
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestKernelTakesIt$")
	cmd.Env = append(os.Environ(), "SECCOMP_TEST_CHILD=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// loadAndTry loads the default filter into this thread and sees what it does.
func loadAndTry() int {
	runtime.LockOSThread()
	native := facts
	native.Arch = runtime.GOARCH
	profile, err := Default(native)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	program, err := Compile(profile, native.Arch)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := load1(program); err != nil {
		fmt.Println("load:", err)
		return 1
	}
	if _, err := unix.Getpgid(0); err != nil {
		fmt.Println("getpgid:", err)
		return 1
	}
	if err := unix.Unshare(unix.CLONE_NEWUTS); err != unix.EPERM {
		fmt.Println("unshare:", err)
		return 1
	}
	if _, _, errno := unix.RawSyscall(9999, 0, 0, 0); errno != unix.ENOSYS {
		fmt.Println("call 9999:", errno)
		return 1
	}
	if _, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0); err != unix.EPERM {
		fmt.Println("socket:", err)
		return 1
	}
	return 0
}

// libseccomp builds the program that asks the library, and returns its path.
func libseccomp(t testing.TB) string {
	t.Helper()
	compiler := testenv.NeedsProgram(t, "gcc")
	if _, err := os.Stat("/usr/include/seccomp.h"); err != nil {
		testenv.Skip(t, "needs the headers of libseccomp: %v", err)
	}
	path := filepath.Join(t.TempDir(), "libseccomp")
	if out, err := exec.Command(compiler, "-o", path, "testdata/libseccomp.c", "-lseccomp").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// tokens are libseccomp's names of architectures (SCMP_ARCH_*).
var tokens = map[specs.Arch]uint32{
	specs.ArchX86_64: unix.AUDIT_ARCH_X86_64, specs.ArchX32: unix.AUDIT_ARCH_X86_64 &^ 0x80000000, specs.ArchX86: unix.AUDIT_ARCH_I386,
	specs.ArchAARCH64: unix.AUDIT_ARCH_AARCH64, specs.ArchARM: unix.AUDIT_ARCH_ARM,
}

// libraryNumbers returns what libseccomp knows of our table.
func libraryNumbers(t testing.TB, program string) map[specs.Arch]map[string]int32 {
	t.Helper()
	args := []string{"names"}
	archs := map[string]specs.Arch{}
	for arch, token := range tokens {
		text := fmt.Sprintf("%x", token)
		args = append(args, text)
		archs[text] = arch
	}
	var names strings.Builder
	for _, c := range numbers {
		fmt.Fprintln(&names, c.name)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(names.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	table := map[specs.Arch]map[string]int32{}
	for line := range strings.Lines(string(out)) {
		var token, name string
		var n int32
		if _, err := fmt.Sscan(line, &token, &name, &n); err != nil {
			t.Fatal(err)
		}
		if table[archs[token]] == nil {
			table[archs[token]] = map[string]int32{}
		}
		table[archs[token]][name] = n
	}
	return table
}

func TestNumbersAgreeWithLibseccomp(t *testing.T) {
	table := libraryNumbers(t, libseccomp(t))
	for arch := range tokens {
		compared := 0
		for _, c := range numbers {
			theirs, known := table[arch][c.name]
			ours, ok := Number(arch, c.name)
			// Calls that the architecture lacks have negative numbers there.
			if !known || theirs < 0 && !ok {
				continue
			}
			if theirs < 0 {
				t.Logf("%s: %s is %d here, not in libseccomp", arch, c.name, ours)
				continue
			}
			compared++
			if !ok || ours != uint32(theirs) {
				t.Errorf("%s: %s is %d, %v; libseccomp has %d", arch, c.name, ours, ok, theirs)
			}
		}
		if compared < 250 {
			t.Errorf("%s: only %d compared", arch, compared)
		}
	}
}

// operatorNumbers are enum scmp_compare.
var operatorNumbers = map[specs.LinuxSeccompOperator]int{
	specs.OpNotEqual: 1, specs.OpLessThan: 2, specs.OpLessEqual: 3, specs.OpEqualTo: 4,
	specs.OpGreaterEqual: 5, specs.OpGreaterThan: 6, specs.OpMaskedEqual: 7,
}

// libraryProgram has libseccomp compile a profile, as the usual OCI runtime asks
// it to.
func libraryProgram(t testing.TB, path string, profile *specs.LinuxSeccomp) []unix.SockFilter {
	t.Helper()
	var in strings.Builder
	fallback, err := action(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&in, "default %x\n", fallback)
	for _, arch := range profile.Architectures {
		if arch != specs.ArchX86_64 {
			fmt.Fprintf(&in, "arch %x\n", tokens[arch])
		}
	}
	for _, entry := range profile.Syscalls {
		ret, err := action(entry.Action, entry.ErrnoRet)
		if err != nil {
			t.Fatal(err)
		}
		if ret == fallback {
			continue
		}
		for _, name := range entry.Names {
			fmt.Fprintf(&in, "rule %s %x", name, ret)
			for _, arg := range entry.Args {
				fmt.Fprintf(&in, " %x %x %x %x", arg.Index, operatorNumbers[arg.Op], arg.Value, arg.ValueTwo)
			}
			fmt.Fprintln(&in)
		}
	}
	cmd := exec.Command(path, "filter")
	cmd.Stdin = strings.NewReader(in.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	program := make([]unix.SockFilter, len(out)/8)
	if err := binary.Read(bytes.NewReader(out), binary.LittleEndian, program); err != nil {
		t.Fatal(err)
	}
	return program
}

// probes are argument lists that tell the rules of the profiles apart.
func probes(profile *specs.LinuxSeccomp) [][6]uint64 {
	list := [][6]uint64{{}, {^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}}
	for number := range uint64(30) { // what socketcall and ipc are for
		list = append(list, [6]uint64{number})
	}
	seen := map[uint64]bool{}
	for _, entry := range profile.Syscalls {
		for _, arg := range entry.Args {
			for _, v := range []uint64{arg.Value, arg.ValueTwo, arg.Value + 1, arg.Value - 1, arg.Value | 1<<32, arg.Value &^ (arg.Value - 1)} {
				key := v<<3 | uint64(arg.Index)
				if !seen[key] {
					seen[key] = true
					args := [6]uint64{}
					args[arg.Index] = v
					list = append(list, args)
				}
			}
		}
	}
	return list
}

func TestProgramsAgreeWithLibseccomp(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		testenv.Skip(t, "libseccomp is asked for amd64 programs, this is %s", runtime.GOARCH)
	}
	path := libseccomp(t)
	table := libraryNumbers(t, path)
	profiles := map[string]*specs.LinuxSeccomp{}
	for name, list := range map[string][]string{
		"default": caps.Default(), "no capabilities": {}, "privileges": caps.UpTo(40).Names(),
	} {
		profile, err := Default(Facts{Arch: "amd64", Kernel: facts.Kernel, Capabilities: list})
		if err != nil {
			t.Fatal(err)
		}
		profiles[name] = profile
	}
	nine := uint(9)
	profiles["denying"] = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: &nine},
			{Names: []string{"unlink"}, Action: specs.ActKillProcess},
			{Names: []string{"socket", "msgget"}, Action: specs.ActErrno, ErrnoRet: &nine},
			{Names: []string{"ioctl"}, Action: specs.ActTrap, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 0x5412, Op: specs.OpEqualTo}}},
			{Names: []string{"lseek"}, Action: specs.ActLog, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 1 << 33, Op: specs.OpGreaterThan}, {Index: 2, Value: 0, Op: specs.OpNotEqual}}},
			{Names: []string{"fcntl"}, Action: specs.ActTrace, ErrnoRet: &nine, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 1024, Op: specs.OpGreaterEqual}}},
			{Names: []string{"kill"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 9, Op: specs.OpLessEqual}}},
			{Names: []string{"tkill"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 9, Op: specs.OpLessThan}}},
		},
	}
	for name, profile := range profiles {
		t.Run(name, func(t *testing.T) {
			ours, err := Compile(profile, "amd64")
			if err != nil {
				t.Fatal(err)
			}
			theirs := libraryProgram(t, path, profile)
			t.Logf("%d instructions, libseccomp %d", len(ours), len(theirs))
			compared := 0
			for _, arch := range profile.Architectures {
				a := abis[arch]
				list := probes(profile)
				_, last, err := newCompiler(profile, 0).rules(a)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range numbers {
					number, ok := a.number(c.name)
					if theirNumber, known := table[arch][c.name]; !ok || !known || uint32(theirNumber) != number {
						continue
					}
					for _, args := range list {
						if !a.wide {
							for i := range args {
								args[i] &= 0xffffffff
							}
						}
						d := data{number, a.audit, args}
						compared++
						got, want := run(t, ours, d), run(t, theirs, d)
						if number > last && profile.DefaultAction == specs.ActErrno {
							want = enosys // libseccomp leaves that to the OCI runtime
						}
						if got != want {
							t.Fatalf("%s %s%#x: %#x, libseccomp %#x", arch, c.name, args, got, want)
						}
					}
				}
			}
			if compared < 500 {
				t.Errorf("only %d compared", compared)
			}
			foreign := data{arch: unix.AUDIT_ARCH_AARCH64}
			if got, want := run(t, ours, foreign), run(t, theirs, foreign); got != want {
				t.Errorf("foreign architecture: %#x, libseccomp %#x", got, want)
			}
		})
	}
}

func load1(program []unix.SockFilter) error {
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, pointer(&fprog))
	if errno != 0 {
		return errno
	}
	return nil
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func BenchmarkCompileDefault(b *testing.B) {
	for b.Loop() {
		compileDefault(b, facts)
	}
}

func BenchmarkRunRead(b *testing.B) {
	program := compileDefault(b, facts)
	for b.Loop() {
		run(b, program, data{number: 0, arch: unix.AUDIT_ARCH_X86_64})
	}
}

// FuzzCompile holds that whatever profile is taken gives a program that ends.
func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"defaultAction":"SCMP_ACT_ALLOW"}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],"syscalls":[{"names":["socket","ioctl"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":5,"op":"SCMP_CMP_LT"},{"index":2,"value":15,"valueTwo":3,"op":"SCMP_CMP_MASKED_EQ"}]}]}`,
		`{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"name":"read","action":"SCMP_ACT_LOG"}]}`,
	} {
		f.Add([]byte(seed), uint32(16), uint64(5))
	}
	f.Fuzz(func(t *testing.T, text []byte, number uint32, arg uint64) {
		profile, err := Load(text, facts)
		if err != nil {
			return
		}
		program, err := Compile(profile, "amd64")
		if err != nil || program == nil {
			return
		}
		for _, arch := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM} {
			run(t, program, data{number: number, arch: arch, args: [6]uint64{arg, arg, arg, arg, arg, arg}})
		}
	})
}

package seccomp

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// MaxInstructions is how long a program may be (BPF_MAXINSNS).
const MaxInstructions = 4096

// Compile turns a profile into a program for the kernel of an architecture,
// named as GOARCH. A nil profile gives a nil program.
//
// A system call gets the action of the first of its rules whose conditions
// hold, and the default action if there is none; a rule without conditions
// makes the others of that call void, in whatever order they come. Names that
// an architecture does not have are passed over: profiles are written for many
// kernels.
//
// Where the default action refuses, calls with a number above every one that the
// profile names fail with ENOSYS, so that programs fall back to what an older
// kernel has. Calls made by an ABI that the profile does not list kill the
// thread, as libseccomp has it.
func Compile(profile *specs.LinuxSeccomp, goarch string) ([]unix.SockFilter, error) {
	if profile == nil {
		return nil, nil
	}
	list, err := selectABIs(profile, goarch)
	if err != nil {
		return nil, err
	}
	fallback, err := action(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp profile: default action: %w", err)
	}
	if err := checkNotify(profile); err != nil {
		return nil, fmt.Errorf("compile seccomp profile: %w", err)
	}
	program, err := newCompiler(profile, fallback).program(list)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp profile: %w", err)
	}
	if len(program) > MaxInstructions {
		return nil, fmt.Errorf("compile seccomp profile: %d instructions, the kernel takes %d", len(program), MaxInstructions)
	}
	return program, nil
}

// checkNotify refuses profiles whose supervisor could never be told of the
// listener: the process that loads the filter has to write its number somewhere.
func checkNotify(profile *specs.LinuxSeccomp) error {
	if profile.DefaultAction == specs.ActNotify {
		return errors.New("SCMP_ACT_NOTIFY cannot be used as default action")
	}
	for _, rule := range profile.Syscalls {
		if rule.Action == specs.ActNotify && slices.Contains(rule.Names, "write") {
			return errors.New("SCMP_ACT_NOTIFY cannot be used for the write syscall")
		}
	}
	return nil
}

// Flags returns the flags to load a profile with, for seccomp(2). A profile
// that names none gets SPEC_ALLOW: speculation is the kernel's default without a
// filter as well.
func Flags(profile *specs.LinuxSeccomp) (uint32, error) {
	if profile.Flags == nil {
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	var flags uint32
	for _, flag := range profile.Flags {
		switch flag {
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case specs.LinuxSeccompFlagWaitKillableRecv:
			flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		case "SECCOMP_FILTER_FLAG_TSYNC":
			// The program is executed right afterwards; there are no other threads.
		default:
			return 0, fmt.Errorf("seccomp flag %s is not known", flag)
		}
	}
	return flags, nil
}

// action returns what the program returns for an action.
func action(a specs.LinuxSeccompAction, data *uint) (uint32, error) {
	number := uint32(unix.EPERM)
	if data != nil {
		number = uint32(*data)
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | number&unix.SECCOMP_RET_DATA, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | number&unix.SECCOMP_RET_DATA, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActNotify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	}
	return 0, fmt.Errorf("unknown action %q", a)
}

// rule is one way in which a call gets an action: all of the conditions hold.
type rule struct {
	conditions []condition
	action     uint32
}

// condition compares an argument with a value.
type condition struct {
	index  uint // of the argument, 0 to 5
	op     specs.LinuxSeccompOperator
	value  uint64
	mask   uint64 // for OpMaskedEqual: what of the argument counts
	narrow bool   // only the lower halves count
}

type compiler struct {
	profile  *specs.LinuxSeccomp
	fallback uint32
	places   [][]int // where the names of each entry are in the table, see place
}

func newCompiler(profile *specs.LinuxSeccomp, fallback uint32) *compiler {
	c := &compiler{profile: profile, fallback: fallback}
	for _, entry := range profile.Syscalls {
		places := make([]int, len(entry.Names))
		for i, name := range entry.Names {
			places[i] = place(name)
		}
		c.places = append(c.places, places)
	}
	return c
}

// numbered is a rule for one call.
type numbered struct {
	number uint32
	rule
}

// rules collects the rules of an ABI's calls, by number and for each call in
// the profile's order, and the highest number named. Rules whose action is the
// default say nothing and are left out.
func (c *compiler) rules(a abi) (list []numbered, last uint32, err error) {
	list = make([]numbered, 0, len(numbers))
	for i, entry := range c.profile.Syscalls {
		ret, err := action(entry.Action, entry.ErrnoRet)
		if err != nil {
			return nil, 0, fmt.Errorf("rule for %v: %w", entry.Names, err)
		}
		alternatives, err := alternatives(entry.Args, !a.wide)
		if err != nil {
			return nil, 0, fmt.Errorf("rule for %v: %w", entry.Names, err)
		}
		for j, name := range entry.Names {
			number, ok := a.at(c.places[i][j])
			if ok {
				last = max(last, number)
			}
			if ret == c.fallback {
				continue
			}
			for _, conditions := range alternatives {
				if ok {
					list = append(list, numbered{number, rule{conditions, ret}})
				}
				if m, ok := multiplexed[name]; ok && a.column == i386 {
					through, _ := a.number(m.through)
					list = append(list, numbered{through, rule{multiplex(m.number, conditions), ret}})
				}
			}
		}
	}
	slices.SortStableFunc(list, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	return list, last, nil
}

// decide returns what happens to a call that has these rules: the first without
// conditions alone, or all of them and then the default action.
func (c *compiler) decide(list []numbered) []rule {
	rules := make([]rule, 0, len(list)+1)
	for _, n := range list {
		if len(n.conditions) == 0 {
			return append(rules[:0], n.rule)
		}
		rules = append(rules, n.rule)
	}
	return append(rules, rule{action: c.fallback})
}

// multiplex returns the conditions for a call that is made through another one.
// What was said of its own first argument is lost: the arguments are in memory.
func multiplex(number uint64, conditions []condition) []condition {
	out := []condition{{index: 0, op: specs.OpEqualTo, value: number, narrow: true}}
	for _, c := range conditions {
		if c.index > 0 {
			out = append(out, c)
		}
	}
	return out
}

// alternatives splits the conditions of a rule. All must hold; but where two
// are about the same argument, each counts on its own, as in every runtime since
// profiles had conditions.
func alternatives(args []specs.LinuxSeccompArg, narrow bool) ([][]condition, error) {
	if len(args) == 0 {
		return [][]condition{nil}, nil
	}
	seen := make(map[uint]bool)
	var all []condition
	var each [][]condition
	for _, arg := range args {
		if arg.Index > 5 {
			return nil, fmt.Errorf("argument %d: system calls have 6 arguments, 0 to 5", arg.Index)
		}
		if !slices.Contains(operators, arg.Op) {
			return nil, fmt.Errorf("unknown operator %q", arg.Op)
		}
		c := condition{index: arg.Index, op: arg.Op, value: arg.Value, narrow: narrow}
		if arg.Op == specs.OpMaskedEqual {
			c.mask, c.value = arg.Value, arg.ValueTwo
		}
		seen[arg.Index] = true
		all, each = append(all, c), append(each, []condition{c})
	}
	if len(seen) == len(all) {
		return [][]condition{all}, nil
	}
	return each, nil
}

// span is a run of numbers, from first up to the next span's, with the same rules.
type span struct {
	first uint32
	rules []rule // never empty
}

// spans divides all numbers of an ABI by what happens to them, in order.
func (c *compiler) spans(a abi) ([]span, error) {
	named, last, err := c.rules(a)
	if err != nil {
		return nil, err
	}
	var first uint32
	if a.column == x32 {
		first = x32Bit
	}
	fallback := []rule{{action: c.fallback}}
	list := []span{{first, fallback}}
	add := func(from uint32, rules []rule) {
		if list[len(list)-1].first == from {
			list = list[:len(list)-1]
		}
		if len(list) == 0 || !same(list[len(list)-1].rules, rules) {
			list = append(list, span{from, rules})
		}
	}
	for len(named) > 0 {
		number := named[0].number
		n := 1
		for n < len(named) && named[n].number == number {
			n++
		}
		add(number, c.decide(named[:n]))
		add(number+1, fallback)
		named = named[n:]
	}
	if last > 0 && c.refuses() {
		add(last+1, []rule{{action: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}})
	}
	return list, nil
}

// same tells whether two lists of rules are the same single action.
func same(a, b []rule) bool {
	return len(a) == 1 && len(b) == 1 && len(a[0].conditions)+len(b[0].conditions) == 0 && a[0].action == b[0].action
}

// refuses tells whether the default action keeps calls from being made. Tracing
// does not: a tracer that emulates needs to see what is new.
func (c *compiler) refuses() bool {
	return !slices.Contains([]uint32{unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_TRACE}, c.fallback&^unix.SECCOMP_RET_DATA)
}

// program puts the parts together:
//
//	load the architecture; is it the first? go on, else skip its section
//	  load the number; find its span by halving; rules; return
//	the same for the other architectures
//	kill
func (c *compiler) program(list []abi) ([]unix.SockFilter, error) {
	byAudit := make(map[uint32][]span)
	var order []uint32
	for _, a := range list {
		spans, err := c.spans(a)
		if err != nil {
			return nil, err
		}
		if _, ok := byAudit[a.audit]; !ok {
			order = append(order, a.audit)
		}
		byAudit[a.audit] = append(byAudit[a.audit], spans...)
	}
	var out []unix.SockFilter
	out = append(out, load(offsetArch))
	for _, audit := range order {
		spans := byAudit[audit]
		slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
		if hasX32 := slices.ContainsFunc(list, func(a abi) bool { return a.column == x32 }); audit == unix.AUDIT_ARCH_X86_64 && !hasX32 {
			spans = append(cut(spans, x32Bit), span{x32Bit, []rule{{action: unix.SECCOMP_RET_KILL_THREAD}}})
		}
		section := append([]unix.SockFilter{load(offsetNumber)}, search(spans)...)
		out = append(out, unless(unix.BPF_JEQ, audit, section)...)
		out = append(out, section...)
	}
	return append(out, ret(unix.SECCOMP_RET_KILL_THREAD)), nil
}

// cut drops the spans from a number on.
func cut(spans []span, from uint32) []span {
	return slices.DeleteFunc(spans, func(s span) bool { return s.first >= from })
}

// search finds a number's span by halving, and does what its rules say. The
// number is in the accumulator.
func search(spans []span) []unix.SockFilter {
	if len(spans) == 1 {
		return evaluate(spans[0].rules)
	}
	middle := len(spans) / 2
	lower, upper := search(spans[:middle]), search(spans[middle:])
	// Below the middle the lower half follows at once.
	out := unlessNot(unix.BPF_JGE, spans[middle].first, lower)
	return slices.Concat(out, lower, upper)
}

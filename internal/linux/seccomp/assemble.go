package seccomp

import (
	"math"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data; arguments are in the byte order of the
// machine, which is little-endian on all that have a column in the table.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func ret(value uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
}

func and(mask uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask}
}

// jump compares the accumulator with k and skips onTrue or onFalse instructions.
func jump(test uint16, k uint32, onTrue, onFalse uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: onTrue, Jf: onFalse, K: k}
}

func skip(count int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(count)}
}

// unless skips the block that follows unless the test holds. A conditional jump
// reaches 255 instructions; what is longer needs one more.
func unless(test uint16, k uint32, block []unix.SockFilter) []unix.SockFilter {
	if len(block) <= math.MaxUint8 {
		return []unix.SockFilter{jump(test, k, 0, uint8(len(block)))}
	}
	return []unix.SockFilter{jump(test, k, 1, 0), skip(len(block))}
}

// unlessNot skips the block that follows if the test holds.
func unlessNot(test uint16, k uint32, block []unix.SockFilter) []unix.SockFilter {
	if len(block) <= math.MaxUint8 {
		return []unix.SockFilter{jump(test, k, uint8(len(block)), 0)}
	}
	return []unix.SockFilter{jump(test, k, 0, 1), skip(len(block))}
}

// evaluate returns the action of the first rule that matches. The last one has
// no conditions.
func evaluate(rules []rule) []unix.SockFilter {
	var out []unix.SockFilter
	for len(rules) > 0 {
		if n := alike(rules); n > 1 {
			out = append(out, oneOf(rules[:n])...)
			rules = rules[n:]
			continue
		}
		out = append(out, match(rules[0])...)
		rules = rules[1:]
	}
	return out
}

// match returns the rule's action if all of its conditions hold, and goes on
// behind its end otherwise.
func match(r rule) []unix.SockFilter {
	out := []unix.SockFilter{ret(r.action)}
	for i := len(r.conditions) - 1; i >= 0; i-- {
		// What is in out so far is what a condition that fails has to skip.
		out = append(test(r.conditions[i], len(out)), out...)
	}
	return out
}

// alike returns how many of the first rules compare the same argument with
// single values that have the same upper half, for the same action. Profiles
// list the permitted values of an argument in that way.
func alike(rules []rule) int {
	first := rules[0]
	n := 0
	for ; n < len(rules) && n < math.MaxUint8; n++ { // so that the jumps are short
		r := rules[n]
		if len(r.conditions) != 1 || r.action != first.action || r.conditions[0].op != specs.OpEqualTo ||
			r.conditions[0].index != first.conditions[0].index ||
			r.conditions[0].value>>32 != first.conditions[0].value>>32 {
			break
		}
	}
	return n
}

// oneOf returns the action if the argument is one of the values of the rules.
func oneOf(rules []rule) []unix.SockFilter {
	c := rules[0].conditions[0]
	n := len(rules)
	out := []unix.SockFilter{load(lower(c.index))}
	for i, r := range rules {
		hit := jump(unix.BPF_JEQ, uint32(r.conditions[0].value), uint8(n-1-i), 0)
		if i == n-1 {
			hit.Jf = 1 // over the return
		}
		out = append(out, hit)
	}
	out = append(out, ret(rules[0].action))
	if c.narrow {
		return out
	}
	head := append([]unix.SockFilter{load(upper(c.index))}, unless(unix.BPF_JEQ, uint32(c.value>>32), out)...)
	return append(head, out...)
}

func lower(index uint) uint32 { return offsetArgs + 8*uint32(index) }
func upper(index uint) uint32 { return offsetArgs + 8*uint32(index) + 4 }

var operators = []specs.LinuxSeccompOperator{
	specs.OpEqualTo, specs.OpNotEqual, specs.OpMaskedEqual,
	specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual,
}

// test goes on if the condition holds and skips the instructions that follow,
// so many, if not. The machine has 32-bit registers: the upper halves are
// compared first, and the lower ones if those are equal.
func test(c condition, following int) []unix.SockFilter {
	fail := uint8(following)
	high, low := uint32(c.value>>32), uint32(c.value)
	var last []unix.SockFilter // compares the lower halves
	switch c.op {
	case specs.OpEqualTo:
		last = []unix.SockFilter{load(lower(c.index)), jump(unix.BPF_JEQ, low, 0, fail)}
	case specs.OpMaskedEqual:
		last = []unix.SockFilter{load(lower(c.index)), and(uint32(c.mask)), jump(unix.BPF_JEQ, low, 0, fail)}
	case specs.OpNotEqual:
		last = []unix.SockFilter{load(lower(c.index)), jump(unix.BPF_JEQ, low, fail, 0)}
	case specs.OpGreaterThan:
		last = []unix.SockFilter{load(lower(c.index)), jump(unix.BPF_JGT, low, 0, fail)}
	case specs.OpGreaterEqual:
		last = []unix.SockFilter{load(lower(c.index)), jump(unix.BPF_JGE, low, 0, fail)}
	case specs.OpLessThan:
		last = []unix.SockFilter{load(lower(c.index)), jump(unix.BPF_JGE, low, fail, 0)}
	case specs.OpLessEqual:
		last = []unix.SockFilter{load(lower(c.index)), jump(unix.BPF_JGT, low, fail, 0)}
	}
	if c.narrow {
		return last
	}
	rest := uint8(len(last))
	first := []unix.SockFilter{load(upper(c.index))}
	switch c.op {
	case specs.OpEqualTo:
		first = append(first, jump(unix.BPF_JEQ, high, 0, rest+fail))
	case specs.OpMaskedEqual:
		first = append(first, and(uint32(c.mask>>32)), jump(unix.BPF_JEQ, high, 0, rest+fail))
	case specs.OpNotEqual:
		first = append(first, jump(unix.BPF_JEQ, high, 0, rest))
	case specs.OpGreaterThan, specs.OpGreaterEqual:
		first = append(first, jump(unix.BPF_JGT, high, rest+1, 0), jump(unix.BPF_JEQ, high, 0, rest+fail))
	case specs.OpLessThan, specs.OpLessEqual:
		first = append(first, jump(unix.BPF_JGT, high, rest+1+fail, 0), jump(unix.BPF_JEQ, high, 0, rest))
	}
	return append(first, last...)
}

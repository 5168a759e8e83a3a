// Package stock runs the core of the tests on the kernel that Debian's users have:
// cgroup v2 alone, AppArmor, eBPF with BTF, and modules that are loaded when
// somebody wants them.
//
// QEMU is the machine. Where it cannot have the processor (KVM) it emulates one,
// which is tens of times slower: nothing that measures time belongs here, and
// PORTHOLE_TEST_SLOW has the tests wait longer. The machine's files are the
// host's, with a tmpfs above them; the data root is on an ext4 file.
//
// kernel.sh gets the kernel from Debian, with AppArmor's parser: the newest that
// apt knows, or that of PORTHOLE_TEST_STOCK_SUITE, such as trixie.
package stock

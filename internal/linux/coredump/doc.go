// Package coredump takes the cores of processes that crash from the kernel, in
// place of the files that it writes by default.
//
//	c, err := coredump.Open(ctx, coredump.Options{Socket: "/run/porthole/" + coredump.SocketName, Take: take})
//	…
//	err = c.Close() // as it was before
//
// What becomes of cores is decided for the whole machine by one text,
// /proc/sys/kernel/core_pattern (core(5)). So Open takes it only where it is the
// kernel's own default, "core": where it names a file, a program or a socket, that
// is somebody's choice, and Open refuses with [*TakenError]. It is put back by
// Close, by [Restore], and by the next Open after a daemon that was killed.
//
// While it is taken all cores of the machine come here. Those that Take does not
// want are written where the kernel would have written them: as a file "core" in
// the working directory of the process, with the rights of the process and within
// its RLIMIT_CORE. A limit of zero means no core, for everybody, as by default;
// with a socket the kernel leaves that to us.
//
// The kernel connects to a unix socket for each crash and waits (Linux 6.17,
// include/uapi/linux/coredump.h); no program is started for it:
//
//	kernel                                  we
//	  coredump_req{size, size_ack, mask} ──▶   who is it: SO_PEERPIDFD, PIDFD_GET_INFO
//	  ◀── coredump_ack{size, spare, mask}      KERNEL|WAIT: write it; REJECT: do without
//	  mark (u32, 0: understood)          ──▶
//	  the core, an ELF file, to its end  ──▶
//	                                ◀── close  the process ends only now
//
// Nobody but the kernel is believed: a peer that the kernel does not say of that it
// is being dumped is hung up on. The socket is root's alone besides.
package coredump

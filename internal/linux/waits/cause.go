package waits

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// cause is a kind of wait.
type cause int

const (
	unknown cause = iota
	frozenFS
	fuse
	nfs
	remote // other file systems of servers
	vfork
	coredump
	memoryLimit
	journal
	disk
	lock
)

// causes are found by functions of the kernel, by the beginnings of their names:
// the first whose function is the channel or on the stack. What is farther out of
// a stack, as the file system is, says more than what it waits with, as a lock.
var causes = []struct {
	cause     cause
	functions []string
}{
	{coredump, []string{"do_coredump", "vfs_coredump"}},
	{fuse, []string{"request_wait_answer", "fuse_"}},
	{nfs, []string{"rpc_", "__rpc_", "nfs_", "nfs3_", "nfs4_"}},
	{remote, []string{"cifs_", "smb2_", "p9_client_", "v9fs_", "ceph_", "afs_"}},
	{vfork, []string{"wait_for_vfork_done"}},
	{memoryLimit, []string{"mem_cgroup_oom_synchronize", "mem_cgroup_handle_over_high", "__mem_cgroup_handle_over_high"}},
	{journal, []string{"jbd2_", "start_this_handle", "wait_transaction_locked", "xlog_", "xfs_log_"}},
	{disk, []string{
		"io_schedule", "folio_wait_", "wait_on_page", "bit_wait_io", "__wait_on_buffer", "blk_mq_get_tag", "rq_qos_wait", "wbt_wait",
		"submit_bio_wait", "blkdev_issue_flush", "balance_dirty_pages", "wb_wait_for_completion", "dm_", "md_",
	}},
	{lock, []string{"rwsem_down_", "__mutex_lock", "mutex_lock", "down_read", "down_write", "percpu_rwsem_wait", "__percpu_down_read"}},
}

// writes are what takes the right to write to a file system, which a frozen one
// does not give (sb_start_write and its kind are inlined into these).
var writes = []string{
	"mnt_want_write", "__sb_start_write", "vfs_write", "vfs_iter_write", "vfs_writev", "do_iter_write", "do_iter_readv_writev", "vfs_fallocate",
	"do_page_mkwrite", "ext4_page_mkwrite", "filemap_page_mkwrite", "xfs_filemap_page_mkwrite", "iter_file_splice_write", "do_sendfile",
	"vfs_copy_file_range", "io_write", "do_truncate", "do_sys_ftruncate", "do_ftruncate", "ovl_want_write", "ovl_start_write", "aio_write",
	"ext4_evict_inode", "xfs_trans_alloc", "btrfs_start_transaction", "start_transaction",
}

func causeOf(w *Wait) cause {
	functions := append([]string{w.Channel}, w.Stack...)
	if waitsToWrite(w.Channel) && anyOf(functions, writes) {
		return frozenFS
	}
	if w.Name == "vfork" || strings.HasPrefix(w.Name, "clone") {
		// What a clone sleeps in by itself has been inlined into it by some compilers.
		if strings.HasPrefix(w.Channel, "kernel_clone") || strings.HasPrefix(w.Channel, "_do_fork") {
			return vfork
		}
	}
	for _, c := range causes {
		if anyOf(functions, c.functions) {
			return c.cause
		}
	}
	return unknown
}

// waitsToWrite is where a thread sleeps that wants to write to a frozen file system.
func waitsToWrite(channel string) bool {
	return slices.Contains([]string{"percpu_rwsem_wait", "__percpu_down_read", "__sb_start_write"}, channel)
}

func anyOf(functions, beginnings []string) bool {
	return slices.ContainsFunc(functions, func(f string) bool {
		return slices.ContainsFunc(beginnings, func(b string) bool { return strings.HasPrefix(f, b) })
	})
}

// fileSystems are the types that are waited for so; nil: any.
func (c cause) fileSystems() []string {
	switch c {
	case fuse:
		return []string{"fuse", "fuseblk", "virtiofs"}
	case nfs:
		return []string{"nfs", "nfs4"}
	case remote:
		return []string{"cifs", "smb3", "9p", "ceph", "afs"}
	case unknown, frozenFS, vfork, coredump, memoryLimit, journal, disk, lock:
	}
	return nil
}

// Text tells what the thread waits for, as a clause that begins with "it waits".
func (w *Wait) Text() string {
	text := "it waits"
	switch {
	case w.Name != "" && w.File != "":
		text += " in " + w.Name + " on " + printable(w.File)
	case w.Name != "":
		text += " in " + w.Name
	case w.Channel != "":
		text += " in the kernel's " + w.Channel
	default:
		text += " in the kernel"
	}
	if reason := w.reason(); reason != "" {
		text += ": " + reason
	}
	return text
}

// on names the file system, or says that it is one of a kind.
func (w *Wait) on(kind string) string {
	if w.Mount.Type == "" {
		return kind
	}
	return w.Mount.String()
}

// stored is the file system that has the data.
func (w *Wait) stored() *Mount {
	if w.Mount.Below != nil {
		return w.Mount.Below
	}
	return &w.Mount
}

func (w *Wait) reason() string {
	switch w.cause {
	case frozenFS:
		if b := w.Mount.Below; b != nil {
			return "the file system under it, " + b.String() + " of the host, is frozen"
		}
		return w.on("the file system") + " is frozen"
	case fuse:
		return "the server of " + w.on("a FUSE file system") + " does not answer"
	case nfs:
		return "the server of " + w.on("an NFS file system") + " does not answer"
	case remote:
		return "the server of " + w.on("a network file system") + " does not answer"
	case vfork:
		return w.childText()
	case coredump:
		return "its core is being written"
	case memoryLimit:
		return "its control group is at its limit of memory, and nothing is killed for it"
	case journal:
		return "the journal of " + w.on("a file system") + " makes no progress"
	case disk:
		if name := w.suspended(); name != "" {
			return "the device of " + w.on("the file system") + ", " + name + ", is suspended"
		}
		return "the disk of " + w.on("a file system") + " does not answer"
	case lock:
		return "something in the kernel is locked by another process, which may be stuck itself"
	case unknown:
	}
	return ""
}

func (w *Wait) childText() string {
	text := "a child has to execute a program or to end"
	if w.Child == nil {
		return text
	}
	text = fmt.Sprintf("its child %s (pid %d on the host) has to execute a program or to end", w.Child.Command, w.Child.PID)
	switch {
	case w.Child.cause != unknown:
		text += ", and " + strings.Replace(w.Child.Text(), "it waits", "that waits", 1)
	case w.Child.Name != "" && w.Child.File != "":
		text += ", which is in " + w.Child.Name + " on " + printable(w.Child.File)
	}
	return text
}

// Evidence is what Text is known from, a line each.
func (w *Wait) Evidence() []string {
	var list []string
	switch {
	case len(w.Stack) > 0:
		list = append(list, "it is in the kernel's "+strings.Join(w.Stack[:min(len(w.Stack), 6)], " < "))
	case w.Channel != "":
		list = append(list, "it sleeps in the kernel's "+w.Channel)
	default:
		list = append(list, "its wait channel cannot be read")
	}
	if w.Call != "" {
		list = append(list, "its system call: "+w.Call)
	}
	if w.Killed {
		list = append(list, "SIGKILL has been sent to it already: it ends as soon as it wakes up")
	}
	return list
}

// Remedies are commands for the host, or what to do, that let the thread go on.
func (w *Wait) Remedies() []string {
	switch w.cause {
	case frozenFS:
		if at := w.stored().Host; at != "" {
			return []string{"fsfreeze -u " + shown(at)}
		}
		if w.Mount.Point != "" {
			return []string{fmt.Sprintf("nsenter -t %d -m fsfreeze -u %s", w.PID, shown(w.Mount.Point))}
		}
		return []string{"fsfreeze -u the file system"}
	case fuse:
		if _, minor, ok := strings.Cut(w.Mount.Device, ":"); ok {
			return []string{"echo 1 > /sys/fs/fuse/connections/" + minor + "/abort   # its calls fail then", "or let its server go on, or kill that"}
		}
		return []string{"let the server of the FUSE file system go on, or kill it"}
	case nfs, remote:
		next := []string{"look whether the server can be reached"}
		if w.Mount.Host != "" {
			next = append(next, "umount -f "+shown(w.Mount.Host)+"   # its calls fail then")
		}
		return next
	case vfork:
		if w.Child == nil {
			return nil
		}
		if next := w.Child.Remedies(); len(next) > 0 {
			return next
		}
		return []string{fmt.Sprintf("kill -9 %d   # the child", w.Child.PID)}
	case memoryLimit:
		return []string{"give the control group more memory, or kill one of its processes"}
	case disk:
		if name := w.suspended(); name != "" {
			return []string{"dmsetup resume " + name}
		}
		return []string{"dmesg   # what the disk says"}
	case journal:
		return []string{"dmesg   # what the disk says, and whether the file system is frozen"}
	case lock, coredump, unknown:
	}
	return nil
}

// suspended is the name of the device mapper's device that holds the file, if it
// is suspended; empty: it is not.
func (w *Wait) suspended() string {
	dir := "/sys/dev/block/" + w.stored().Device + "/dm/"
	text, err := os.ReadFile(dir + "suspended")
	if err != nil || strings.TrimSpace(string(text)) != "1" {
		return ""
	}
	name, err := os.ReadFile(dir + "name")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(name))
}

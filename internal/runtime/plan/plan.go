// Package plan describes how one process comes to life in a container, as a
// list of named steps.
//
// The daemon compiles a plan from an OCI runtime document (see
// [github.com/portholehq/porthole/internal/runtime]); the stage, a short-lived
// process inside the new namespaces, executes it step by step, times each step
// and finally replaces itself by the user's program. The plan travels as JSON
// and is opaque to the shim between them.
//
// A plan holds no path of the host. Whatever comes from the host was opened by
// the daemon and travels as a file descriptor: a step names it by its index in
// [Plan.Files]. Paths in a plan are paths in the container and are resolved by
// the stage with openat2(RESOLVE_IN_ROOT) under the container's root, so that
// no symbolic link in an image or volume can lead out of it.
//
// The messages by which shim and stage keep step are drawn in package
// internal/shim/wire (stage.go).
package plan

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ToolsDir is where a process of ours finds its tools in a container: a
// directory that every procfs has, for the files of an NFS server, and that is
// empty unless there is one. So no file system of a container needs a place for
// them, and none of its files is out of sight.
const ToolsDir = "/proc/fs/nfsd"

// ToolboxDir is the directory of the tools in which the root of an image can be,
// whose programs are further tools.
const ToolboxDir = ToolsDir + "/" + ToolboxName

// ToolboxName is the name of ToolboxDir among the tools.
const ToolboxName = "image"

// Mode says what the stage was started for.
type Mode string

const (
	// ModeCreate starts a container's first process in new namespaces.
	ModeCreate Mode = "create"
	// ModeExec adds a process to a container that runs. File 0 is then the
	// container's mount namespace, put in front by the shim.
	ModeExec Mode = "exec"
)

// Plan is what the stage does, in order.
type Plan struct {
	// ID is the container's.
	ID   string `json:"id"`
	Mode Mode   `json:"mode"`
	// Files says what each file descriptor is that comes with the plan; steps
	// refer to them by index. In ModeExec index 0 is "mount namespace".
	Files []string `json:"files,omitempty"`
	Steps []Step   `json:"steps"`
}

// Op is what a step does. The comment at each value names the fields of [Step]
// that it reads.
type Op string

// The operations, in about the order in which a plan has them.
const (
	// OpSetns enters the namespace File of kind Flags (CLONE_NEW*).
	OpSetns Op = "setns"
	// OpPropagation sets the propagation type Flags (MS_PRIVATE, MS_SLAVE) on
	// the mount at Path, recursively. Done on "/" before anything else.
	OpPropagation Op = "propagation"
	// OpCopyMounts leaves the mount namespace for a copy of it, of which nothing
	// gets back. The root is the copy's from then on.
	OpCopyMounts Op = "copy mounts"
	// OpCarry mounts what is at Path under the present root, with all that is
	// below it, at Path under the root that a later pivot takes. It is made
	// read-only if Flags is MOUNT_ATTR_RDONLY. What is missing is left out.
	OpCarry Op = "carry mount"
	// OpTools places the detached mount File at [ToolsDir], or at Path below the
	// tools that are there already.
	OpTools Op = "tools"
	// OpRoot attaches the detached mount File as the root of the container: at
	// Path of the host if that can be reached, or else, and without Path, at "/".
	OpRoot Op = "root"
	// OpMount places a mount: see [Mount].
	OpMount Op = "mount"
	// OpNode makes a device node: see [Node]. For devices outside of a /dev
	// that the daemon has filled.
	OpNode Op = "node"
	// OpSymlink makes a symbolic link at Path that holds Value; one that is
	// there stays.
	OpSymlink Op = "symlink"
	// OpTerminal opens a pseudo terminal in the container's devpts, of size
	// Rows and Columns, makes its slave standard input, output and error and
	// the controlling terminal of a new session, and, if Path is set, binds the
	// slave there (/dev/console).
	OpTerminal Op = "terminal"
	// OpSession makes the process leader of a new session without a terminal.
	OpSession Op = "session"
	// OpMask hides Path, if it exists: a directory behind an empty read-only
	// tmpfs, a file behind File, which is the null device.
	OpMask Op = "mask"
	// OpReadonlyPath makes Path read-only, if it exists.
	OpReadonlyPath Op = "readonly path"
	// OpPivot makes the container's root the root of the process and
	// unmounts everything else.
	OpPivot Op = "pivot"
	// OpHostname and OpDomainname set Value.
	OpHostname   Op = "hostname"
	OpDomainname Op = "domainname"
	// OpSysctl writes Value to the kernel parameter Path ("net.core.somaxconn").
	OpSysctl Op = "sysctl"
	// OpLoopback brings interface lo up.
	OpLoopback Op = "loopback"
	// OpKeyring joins a new session keyring named Value.
	OpKeyring Op = "keyring"
	// OpBarrier tells the shim "ready", so that the daemon sets limits and
	// connects the network. The stage goes on meanwhile: steps that follow must
	// not depend on that. It waits for "go" right before the last of them, those
	// of [Op.Last]; if one failed before, that is told after "go".
	OpBarrier Op = "barrier"
	// OpHold tells the shim "hold" and waits for "go", with which hooks may come
	// to be run. The container's root is in place and not yet the process's own.
	OpHold Op = "hold"
	// OpRendezvous is OpBarrier for a process whose creator does not stay: the
	// stage says "ready" and waits at the listening socket File for the one who
	// says "go", with which hooks may come. It comes last but for those of
	// [Op.Last], without which there is nothing to start.
	OpRendezvous Op = "rendezvous"
	// OpKeep has the program get the Count files from File on, as descriptors 3
	// and following.
	OpKeep Op = "keep files"
	// OpUnshare leaves the namespaces Flags for new ones (cgroup).
	OpUnshare Op = "unshare"
	// OpAttributes sets the mount attributes Flags (MOUNT_ATTR_*) on what is
	// mounted at Path.
	OpAttributes Op = "mount attributes"
	// OpCgroup has the thread enter the cgroups whose v1 `tasks` files are the
	// Count files from File on. A thread that moves itself does not wait for
	// the lock that moving a process takes; Go's other threads, which stay
	// outside, end with exec.
	OpCgroup Op = "cgroup"
	// OpUser looks the user up, see [User], and takes its groups and ids, with
	// all capabilities kept.
	OpUser Op = "user"
	// OpDirectory makes the directory Path if it is missing.
	OpDirectory Op = "directory"
	// OpWorkdir changes to Path.
	OpWorkdir Op = "workdir"
	// OpCapabilities sets the capability sets but for what later steps need:
	// see [Capabilities].
	OpCapabilities Op = "capabilities"
	// OpAppArmor has the AppArmor profile Value applied at exec.
	OpAppArmor Op = "apparmor"
	// OpNoNewPrivs sets no_new_privs.
	OpNoNewPrivs Op = "no new privileges"
	// OpRlimit sets a limit: see [Rlimit]. It comes right before OpSeccomp, when all
	// that takes memory, descriptors or threads is done: the stage is a Go program,
	// which would die of a limit of the container's.
	OpRlimit Op = "rlimit"
	// OpSeccomp loads a filter: see [Seccomp]. It comes right before OpExec,
	// and all that OpExec does but execve itself is done before it.
	OpSeccomp Op = "seccomp"
	// OpPersonality sets the execution domain Flags.
	OpPersonality Op = "personality"
	// OpExec executes the program: see [Exec]. It is the last step.
	OpExec Op = "exec"
)

// Last says whether a step of this kind is one of the last, with which the process
// becomes the container's: after it none can follow that is not.
func (o Op) Last() bool { return o == OpRlimit || o == OpSeccomp || o == OpExec }

// Step is one step. Name is unique in its plan and stands in errors and timings.
type Step struct {
	Name string `json:"name"`
	Op   Op     `json:"op"`

	Path    string `json:"path,omitempty"`
	Value   string `json:"value,omitempty"`
	Flags   uint64 `json:"flags,omitempty"`
	File    int    `json:"file,omitempty"`
	Count   int    `json:"count,omitempty"`
	Rows    uint16 `json:"rows,omitempty"`
	Columns uint16 `json:"columns,omitempty"`

	Mount        *Mount        `json:"mount,omitempty"`
	Node         *Node         `json:"node,omitempty"`
	Rlimit       *Rlimit       `json:"rlimit,omitempty"`
	User         *User         `json:"user,omitempty"`
	Capabilities *Capabilities `json:"capabilities,omitempty"`
	Seccomp      *Seccomp      `json:"seccomp,omitempty"`
	Exec         *Exec         `json:"exec,omitempty"`
}

// Mount is a mount at Target. Either it comes detached, as file File of the
// plan, or the stage makes it with fsopen, because the filesystem has to belong
// to the container's own namespaces (proc, sysfs, mqueue, devpts, tmpfs, cgroup).
type Mount struct {
	Target string `json:"target"`
	// FS is the filesystem type; empty when the mount comes as a file.
	FS string `json:"fs,omitempty"`
	// Source is what the mount table shows as the source of FS.
	Source string `json:"source,omitempty"`
	// Options are the filesystem's own: "size=64m" or a bare flag.
	Options []string `json:"options,omitempty"`
	// Attributes are MOUNT_ATTR_* for FS; a mount that comes as a file has its
	// attributes already.
	Attributes uint64 `json:"attributes,omitempty"`
	// Propagation is MS_SHARED, MS_SLAVE, ... to set once it is in place; 0 leaves it.
	Propagation uint64 `json:"propagation,omitempty"`
	File        int    `json:"file,omitempty"`
	// IsFile says that the target has to be a file, not a directory.
	IsFile bool `json:"is_file,omitempty"`
	// Describe is the source on the host, for people and error messages only.
	Describe string `json:"describe,omitempty"`
}

// OptionCopyUp is an option of a tmpfs that is the stage's to see to: the filesystem
// begins with a copy of what is in the directory that it is mounted on.
const OptionCopyUp = "tmpcopyup"

// Node is a device node.
type Node struct {
	Path  string `json:"path"`
	Mode  uint32 `json:"mode"` // type and permissions, as mknod(2) takes them
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
	UID   uint32 `json:"uid,omitempty"`
	GID   uint32 `json:"gid,omitempty"`
}

// Rlimit is one resource limit, for the RLIMIT_* number Resource.
type Rlimit struct {
	Name     string `json:"name"`
	Resource int    `json:"resource"`
	Soft     uint64 `json:"soft"`
	Hard     uint64 `json:"hard"`
}

// HurtsGo tells whether a program that is written in Go, as ours are, might die of the
// limit: it reserves more memory than it uses, and starts threads when it wants them.
func (r *Rlimit) HurtsGo() bool {
	const fewFiles, smallStack = 64, 1 << 20 // enough for sure
	switch r.Resource {
	case unix.RLIMIT_NPROC:
		return true
	case unix.RLIMIT_NOFILE:
		return r.Hard < fewFiles
	case unix.RLIMIT_STACK:
		return r.Soft < smallStack
	}
	return r.OfMemory()
}

// OfMemory tells whether the limit is one of memory that a process maps.
func (r *Rlimit) OfMemory() bool {
	return r.Resource == unix.RLIMIT_AS || r.Resource == unix.RLIMIT_DATA
}

// User says whose rights the process gets.
type User struct {
	// Spec is Docker's user string, name|uid[:group|gid], looked up in the
	// container's /etc/passwd and /etc/group. Empty: the numbers below.
	Spec string `json:"spec,omitempty"`
	// Lookup says that Spec counts even when empty (the image's default user:
	// uid 0 with its groups and home).
	Lookup bool   `json:"lookup,omitempty"`
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	// Groups are further groups, names or numbers.
	Groups []string `json:"groups,omitempty"`
	// OwnStdio gives standard input, output and error to the user, so that it
	// can open /dev/stdout again.
	OwnStdio bool `json:"own_stdio,omitempty"`
}

// Capabilities are bit sets, bit n being capability number n.
type Capabilities struct {
	Bounding    uint64 `json:"bounding"`
	Effective   uint64 `json:"effective"`
	Permitted   uint64 `json:"permitted"`
	Inheritable uint64 `json:"inheritable"`
	Ambient     uint64 `json:"ambient"`
}

// Seccomp is a filter program in the kernel's own form: struct sock_filter, 8
// bytes each, in the byte order of the machine.
type Seccomp struct {
	Program []byte `json:"program"`
	Flags   uint32 `json:"flags,omitempty"` // SECCOMP_FILTER_FLAG_*
}

// Exec is the program to run.
type Exec struct {
	Args []string `json:"args"`
	Env  []string `json:"env"`
	// Umask to set; nil leaves 0022.
	Umask *uint32 `json:"umask,omitempty"`
	// Init is set when the file File is to be executed in place of Args[0],
	// with "porthole-init -- " in front of Args. File is an index in Plan.Files.
	Init bool `json:"init,omitempty"`
	File int  `json:"file,omitempty"`
}

// Timing is how long one step took.
type Timing struct {
	Name         string `json:"name"`
	Microseconds int64  `json:"microseconds"`
}

// Duration is the time as a duration.
func (t Timing) Duration() time.Duration { return time.Duration(t.Microseconds) * time.Microsecond }

// Failure says which step failed and how. It is what the stage sends last.
type Failure struct {
	Step string `json:"step"`
	Op   Op     `json:"op"`
	// Errno is the kernel's answer; 0 when the stage itself refused.
	Errno syscall.Errno `json:"errno"`
	// Message is the whole sentence, in Docker's words where Docker has some.
	Message string `json:"message"`
	Path    string `json:"path,omitempty"`
}

func (f *Failure) Error() string { return fmt.Sprintf("%s: %s", f.Step, f.Message) }

// Unwrap gives the errno, so that errors.Is(err, fs.ErrPermission) works.
func (f *Failure) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

// MaxFiles is how many descriptors can come with one plan: the kernel passes at
// most 253 (SCM_MAX_FD) with one message, of which the shim may need some.
const MaxFiles = 248

package waits

import (
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/moby/sys/mountinfo"
)

// FuzzMount holds of a table of mounts that a container may have made, and a file
// there: the mount is one of the table, and what is told of it, with the commands that
// people are to copy, has nothing that a terminal would take for something else.
func FuzzMount(f *testing.F) {
	line := func(point, kind, source, options string) string {
		return "36 35 0:31 / " + point + " rw - " + kind + " " + source + " " + options + "\n"
	}
	f.Add(line("/", "ext4", "/dev/vda", "rw"), "/f", "request_wait_answer", "")
	f.Add(line("/", "overlay", "none", "rw,upperdir=/var/lib,workdir=/w")+line(`/a\012b`, "fuse.\x1b[31m", `evil\033[2J`, "rw"), "/a\nb/c", "fuse_get_req", "")
	f.Add(line("/m", "nfs4", "server:/x", "rw")+line("/m", "nfs", `'"$(x)`, "rw"), "/m/../m/f", "rpc_wait_bit_killable", "nfs_file_write")
	f.Add(line("/", "ext4", "/dev/vda", "rw"), "", "percpu_rwsem_wait", "mnt_want_write")
	f.Add("", "x", "io_schedule", "")
	f.Fuzz(func(t *testing.T, table, file, channel, function string) {
		list, err := mountinfo.GetMountsFromReader(strings.NewReader(table), nil)
		if err != nil {
			return
		}
		name := func(s string) string { // as the kernel writes them
			return strings.Map(func(r rune) rune {
				if r > unicode.MaxASCII || !unicode.IsPrint(r) {
					return '_'
				}
				return r
			}, s)
		}
		w := &Wait{PID: 7, Thread: 7, Command: "c", Name: "openat", File: file, Channel: name(channel), Stack: []string{name(channel), name(function)}}
		w.cause = causeOf(w)
		w.Mount = (&mounts{list}).of(w)
		known := w.Mount.Type == ""
		for _, m := range list {
			known = known || w.Mount.Point == m.Mountpoint && w.Mount.Type == m.FSType && w.Mount.Source == m.Source
		}
		if !known {
			t.Errorf("%q has no %+v", table, w.Mount)
		}
		parent := &Wait{PID: 6, Name: "vfork", Channel: "wait_for_vfork_done", Child: w, cause: vfork}
		for _, each := range []*Wait{w, parent} {
			for _, text := range append(append(each.Evidence(), each.Remedies()...), each.Text()) {
				for _, r := range text {
					if !unicode.IsPrint(r) {
						t.Errorf("%q, %q: %q is told with %q", table, file, text, r)
					}
				}
			}
		}
	})
}

// FuzzParseCall holds that a call has the number and the arguments of the text.
func FuzzParseCall(f *testing.F) {
	f.Add("257 0xffffff9c 0x7ffd 0x0 0x0 0x0 0x0 0x7ffdc0 0x7f00")
	f.Add("0 0x3 0x7ffd 0x1000 0x0 0x0 0x0 0x7ffdc0ffee00 0x7f00\n")
	f.Add("-1 0x7ffd 0x7f00")
	f.Add("running")
	f.Fuzz(func(t *testing.T, text string) {
		c := parseCall(text)
		if c == nil {
			return
		}
		words := strings.Fields(text)
		if n, err := strconv.ParseUint(words[0], 10, 32); err != nil || uint32(n) != c.Number || len(words) != 9 {
			t.Errorf("%q is call %d", text, c.Number)
		}
		for i, arg := range c.Args {
			if n, err := strconv.ParseUint(words[1+i], 0, 64); err != nil || n != arg {
				t.Errorf("%q has argument %d %#x", text, i, arg)
			}
		}
	})
}

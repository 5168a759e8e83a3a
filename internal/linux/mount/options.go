package mount

import (
	"golang.org/x/sys/unix"
)

// Options is the meaning of a list of mount options as OCI documents and
// mount(8) have them.
type Options struct {
	// Bind says that the source is a directory or file; Recursive that what is
	// mounted below it comes along.
	Bind      bool
	Recursive bool
	// Attr is for the mount itself, RecursiveAttr for all below it, too
	// ("rro"). Propagation is in RecursiveAttr if it is recursive.
	Attr, RecursiveAttr Attr
	// Data are the filesystem's own options.
	Data []string
	// CopyUp fills a tmpfs from what it covers ("tmpcopyup").
	CopyUp bool
	// IDMapped was asked for explicitly ("idmap", "ridmap").
	IDMapped bool
}

type attrOption struct {
	bit   uint64
	clear bool
}

var attrOptions = map[string]attrOption{
	"ro":            {unix.MOUNT_ATTR_RDONLY, false},
	"rw":            {unix.MOUNT_ATTR_RDONLY, true},
	"nosuid":        {unix.MOUNT_ATTR_NOSUID, false},
	"suid":          {unix.MOUNT_ATTR_NOSUID, true},
	"nodev":         {unix.MOUNT_ATTR_NODEV, false},
	"dev":           {unix.MOUNT_ATTR_NODEV, true},
	"noexec":        {unix.MOUNT_ATTR_NOEXEC, false},
	"exec":          {unix.MOUNT_ATTR_NOEXEC, true},
	"nodiratime":    {unix.MOUNT_ATTR_NODIRATIME, false},
	"diratime":      {unix.MOUNT_ATTR_NODIRATIME, true},
	"nosymfollow":   {unix.MOUNT_ATTR_NOSYMFOLLOW, false},
	"symfollow":     {unix.MOUNT_ATTR_NOSYMFOLLOW, true},
	"noatime":       {unix.MOUNT_ATTR_NOATIME, false},
	"atime":         {unix.MOUNT_ATTR_NOATIME, true},
	"relatime":      {unix.MOUNT_ATTR_RELATIME, false},
	"norelatime":    {unix.MOUNT_ATTR_RELATIME, true},
	"strictatime":   {unix.MOUNT_ATTR_STRICTATIME, false},
	"nostrictatime": {unix.MOUNT_ATTR_STRICTATIME, true},
}

var propagations = map[string]uint64{
	"private":    unix.MS_PRIVATE,
	"slave":      unix.MS_SLAVE,
	"shared":     unix.MS_SHARED,
	"unbindable": unix.MS_UNBINDABLE,
}

// ignored are options that other systems give a meaning to, that are the
// default here, or that only fstab(5) knows.
var ignored = map[string]bool{
	"": true, "defaults": true, "async": true, "nomand": true, "silent": true, "loud": true,
	"consistent": true, "cached": true, "delegated": true, "z": true, "Z": true,
	"copy": true, "nocopy": true, "norelabel": true, "noiversion": true, "notmpcopyup": true,
	"_netdev": true, "auto": true, "noauto": true, "user": true, "nouser": true, "nofail": true,
}

// ParseOptions sorts options by who has to deal with them. What it does not
// know is left to the filesystem, which refuses what it does not know either.
func ParseOptions(options []string) Options {
	var o Options
	for _, s := range options {
		switch {
		case ignored[s]:
		case s == "bind":
			o.Bind = true
		case s == "rbind":
			o.Bind, o.Recursive = true, true
		case s == "tmpcopyup":
			o.CopyUp = true
		case s == "idmap", s == "ridmap":
			o.IDMapped = true
		case o.addAttr(s):
		case o.addPropagation(s):
		default:
			o.Data = append(o.Data, s)
		}
	}
	return o
}

func (o *Options) addAttr(s string) bool {
	to := &o.Attr
	a, ok := attrOptions[s]
	if !ok && len(s) > 1 && s[0] == 'r' {
		a, ok = attrOptions[s[1:]]
		to = &o.RecursiveAttr
	}
	if !ok {
		return false
	}
	const atime = unix.MOUNT_ATTR__ATIME
	isAtime := a.bit == 0 || a.bit&atime != 0
	switch {
	case isAtime:
		// A field, not a bit: clear all of it, then set the kind. Leaving a
		// kind ends at the default, relatime, which is 0.
		to.Clear |= atime
		to.Set &^= atime
		if !a.clear {
			to.Set |= a.bit
		}
	case a.clear:
		to.Clear |= a.bit
		to.Set &^= a.bit
	default:
		to.Set |= a.bit
		to.Clear &^= a.bit
	}
	return true
}

func (o *Options) addPropagation(s string) bool {
	if p, ok := propagations[s]; ok {
		o.Attr.Propagation = p
		return true
	}
	if len(s) > 1 && s[0] == 'r' {
		if p, ok := propagations[s[1:]]; ok {
			o.RecursiveAttr.Propagation = p
			return true
		}
	}
	return false
}

// Propagation is the propagation asked for, 0 if none.
func (o Options) Propagation() uint64 {
	if o.RecursiveAttr.Propagation != 0 {
		return o.RecursiveAttr.Propagation
	}
	return o.Attr.Propagation
}

// ReadOnly says whether the mount itself will be read-only.
func (o Options) ReadOnly() bool {
	return (o.Attr.Set|o.RecursiveAttr.Set)&unix.MOUNT_ATTR_RDONLY != 0
}

package account

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/sys/user"
)

func TestFind(t *testing.T) {
	const passwd = "root:x:0:0::/root:\napp:x:1000:100::/home/app:\nlast:x:4294967294:4294967294::/:\n" +
		"huge:x:4294967296:0::/:\nnone:x:4294967295:0::/:\nless:x:-1:0::/:\ngroup:x:1:4294967296::/:\nmember:x:1:1::/:\n"
	const group = "huge:x:4294967297:member\n"
	for _, tt := range []struct {
		spec     string
		uid, gid int
		err      error
	}{
		{"app", 1000, 100, nil},
		{"7:8", 7, 8, nil},
		{"last", 1<<32 - 2, 1<<32 - 2, nil},
		{"huge", 0, 0, errRange},
		{"none", 0, 0, errRange},
		{"less", 0, 0, errRange},
		{"group", 0, 0, errRange},
		{"app:huge", 0, 0, errRange},
		{"member", 0, 0, errRange},
		{"4294967296", 0, 0, user.ErrRange},
		{"nobody", 0, 0, user.ErrNoPasswdEntries},
		{"app:nobody", 0, 0, user.ErrNoGroupEntries},
	} {
		got, err := Find(tt.spec, nil, strings.NewReader(passwd), strings.NewReader(group))
		if !errors.Is(err, tt.err) || err == nil && (got.Uid != tt.uid || got.Gid != tt.gid) {
			t.Errorf("%q is %+v, %v; want %d:%d, %v", tt.spec, got, err, tt.uid, tt.gid, tt.err)
		}
	}
}

func TestGroups(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  []int
		err   error
	}{
		{[]string{"wheel", "7"}, []int{7, 10}, nil},
		{nil, []int{}, nil},
		{[]string{"wheel", ""}, nil, user.ErrNoGroupEntries},
		{[]string{"huge"}, nil, user.ErrRange},
	} {
		got, err := Groups(tt.names, strings.NewReader("wheel:x:10:\nhuge:x:4294967296:\n"))
		slices.Sort(got)
		if !errors.Is(err, tt.err) || !slices.Equal(got, tt.want) {
			t.Errorf("%q are %v, %v; want %v, %v", tt.names, got, err, tt.want, tt.err)
		}
	}
}

// FuzzFind has files of others say who a user is. Whoever it is has numbers that
// were asked for or stand in the files; 0 is also what a number counts as that is
// none, as with Docker.
func FuzzFind(f *testing.F) {
	f.Add("app", "app:x:1000:1000::/home/app:/bin/sh\n", "app:x:1000:\nwheel:x:10:root,app\n", "wheel")
	f.Add("app:wheel", "root:x:0:0:root:/root:/bin/sh\napp:x:4294967297:4294967295\n", "wheel:x:-1:\n", "7")
	f.Add("1000", "", "", "")
	f.Add("app", "app:x:\napp::::::\n:::\n# app:x:0:0\n", "wheel\nwheel:x:ten:app\n", "wheel")
	f.Fuzz(func(t *testing.T, spec, passwd, group, further string) {
		found, err := Find(spec, nil, strings.NewReader(passwd), strings.NewReader(group))
		if err != nil {
			if found != nil {
				t.Errorf("%+v besides %v", found, err)
			}
			return
		}
		if !said(found.Uid, spec, passwd) {
			t.Errorf("user %q is %d, which nobody has said", spec, uint32(found.Uid))
		}
		groups, err := Groups([]string{further}, strings.NewReader(group))
		if err != nil {
			groups = nil
		}
		for _, g := range slices.Concat([]int{found.Gid}, found.Sgids, groups) {
			if !said(g, spec, passwd, group, further) {
				t.Errorf("user %q is in %d, which nobody has said", spec, uint32(g))
			}
		}
		again, err := Find(strconv.Itoa(found.Uid), nil, strings.NewReader(passwd), nil)
		if err == nil && again.Uid != found.Uid {
			t.Errorf("user %d is %d", found.Uid, again.Uid)
		}
	})
}

// said tells whether a number, as the kernel gets it, is a field of the texts.
func said(id int, texts ...string) bool {
	if uint32(id) == 0 {
		return id == 0
	}
	for _, text := range texts {
		for _, f := range strings.FieldsFunc(text, func(r rune) bool { return r == ':' || r == '\n' || r == '\r' }) {
			if n, err := strconv.Atoi(strings.TrimSpace(f)); err == nil && n == int(uint32(id)) {
				return true
			}
		}
	}
	return false
}

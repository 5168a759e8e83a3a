package caps

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestNamesHaveTheKernelsNumbers(t *testing.T) {
	for name, want := range map[string]int{
		"CAP_CHOWN": unix.CAP_CHOWN, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN,
		"CAP_MKNOD": unix.CAP_MKNOD, "CAP_SETFCAP": unix.CAP_SETFCAP, "CAP_AUDIT_READ": unix.CAP_AUDIT_READ,
		"CAP_BPF": unix.CAP_BPF, "CAP_CHECKPOINT_RESTORE": unix.CAP_CHECKPOINT_RESTORE,
	} {
		got, err := Parse(name)
		if err != nil || int(got) != want {
			t.Errorf("Parse(%q) = %d, %v; want %d", name, got, err, want)
		}
	}
	if int(unix.CAP_LAST_CAP) != len(names)-1 {
		t.Errorf("the last name is number %d, the kernel headers end at %d", len(names)-1, unix.CAP_LAST_CAP)
	}
}

func TestParseForms(t *testing.T) {
	for _, form := range []string{"net_admin", "NET_ADMIN", "cap_net_admin", "CAP_NET_ADMIN"} {
		if got, err := Parse(form); err != nil || got != unix.CAP_NET_ADMIN {
			t.Errorf("Parse(%q) = %v, %v", form, got, err)
		}
	}
	if _, err := Parse("NET_ADMN"); !errdefs.IsInvalidArgument(err) || err.Error() != `unknown capability: "CAP_NET_ADMN"` {
		t.Errorf("unknown name: %v", err)
	}
}

func TestTweak(t *testing.T) {
	old := UpTo(unix.CAP_SYSLOG) // a kernel without CAP_BPF
	for _, test := range []struct {
		name        string
		adds, drops []string
		want        string
		err         string
	}{
		{name: "nothing", want: "A B"},
		{name: "add", adds: []string{"net_admin"}, want: "A B NET_ADMIN"},
		{name: "add one that is there", adds: []string{"CHOWN"}, want: "A B"},
		{name: "drop", drops: []string{"CAP_CHOWN"}, want: "B"},
		{name: "drop all", drops: []string{"all"}, want: ""},
		{name: "drop all add one", drops: []string{"ALL"}, adds: []string{"KILL"}, want: "KILL"},
		{name: "drop and add the same", drops: []string{"CHOWN"}, adds: []string{"CHOWN"}, want: "B A"},
		{name: "too new", adds: []string{"BPF"}, err: `capability not supported by your kernel or not available in the current environment: "CAP_BPF"`},
		{name: "misspelt drop", drops: []string{"NOPE"}, err: `unknown capability: "CAP_NOPE"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Tweak([]string{"CAP_CHOWN", "CAP_FOWNER"}, test.adds, test.drops, old)
			if message := errText(err); message != test.err {
				t.Fatalf("error %q, want %q", message, test.err)
			}
			text := strings.NewReplacer("CAP_CHOWN", "A", "CAP_FOWNER", "B", "CAP_", "").Replace(strings.Join(got, " "))
			if diff := cmp.Diff(test.want, text); diff != "" && err == nil {
				t.Error(diff)
			}
		})
	}
}

func TestTweakAddAll(t *testing.T) {
	got, err := Tweak(Default(), []string{"ALL"}, []string{"SYS_ADMIN", "SYS_MODULE"}, UpTo(40))
	if err != nil {
		t.Fatal(err)
	}
	set, err := SetOf(got)
	if err != nil {
		t.Fatal(err)
	}
	if want := UpTo(40) &^ (1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_MODULE); set != want {
		t.Errorf("got %x, want %x", set, want)
	}
}

func TestDefaultIsDockersSet(t *testing.T) {
	// The mask that containers of a stock Docker show as CapEff.
	set, err := SetOf(Default())
	if err != nil || set != 0xa80425fb {
		t.Errorf("default set is %x, %v", set, err)
	}
}

func TestKernelAnswers(t *testing.T) {
	last, err := Last()
	if err != nil || last < unix.CAP_CHECKPOINT_RESTORE {
		t.Fatalf("Last() = %d, %v", last, err)
	}
	bounding, err := Bounding()
	if err != nil {
		t.Fatal(err)
	}
	for c := Cap(0); c <= last; c++ {
		kept, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if err != nil || (kept == 1) != bounding.Has(c) {
			t.Errorf("%s: bounding set says %v, prctl %d, %v", c, bounding.Has(c), kept, err)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

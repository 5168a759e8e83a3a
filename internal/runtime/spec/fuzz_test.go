package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzDeviceRule holds that a rule is the same when it is written again, and allows
// no more than its text says.
func FuzzDeviceRule(f *testing.F) {
	for _, text := range []string{"c 42:* rmw", "a *:* r", "b 9223372036854775808:1 w", "c 1:3 rr", "c 01:3 m", "x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := parseDeviceRule(text)
		if err != nil {
			return
		}
		number := func(n *int64) string {
			if n == nil || *n < 0 {
				return "*"
			}
			return fmt.Sprint(*n)
		}
		again, err := parseDeviceRule(fmt.Sprintf("%s %s:%s %s", rule.Type, number(rule.Major), number(rule.Minor), rule.Access))
		if diff := cmp.Diff(rule, again); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", text, err, diff)
		}
		if strings.Count(text, "*") < strings.Count(number(rule.Major)+number(rule.Minor), "*") || !rule.Allow {
			t.Errorf("%q is %+v", text, rule)
		}
	})
}

// FuzzSecurity holds that options mean the same in both forms that clients write, and
// that none is dropped.
func FuzzSecurity(f *testing.F) {
	for _, o := range []string{"no-new-privileges", "seccomp:unconfined", `seccomp={"a":"b:c"}`, "apparmor=a:b", "label:disable", "disable", "label=user:x", "no-new-privileges:false", "x"} {
		f.Add(o, "no-new-privileges=0")
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		s, err := parseSecurity([]string{one, other})
		if err != nil {
			return
		}
		var list []string
		if s.noNewPrivileges != nil {
			list = append(list, fmt.Sprintf("no-new-privileges=%v", *s.noNewPrivileges))
		}
		if s.writableCgroups != nil {
			list = append(list, fmt.Sprintf("writable-cgroups=%v", *s.writableCgroups))
		}
		list = append(list, "apparmor="+s.apparmor, "seccomp="+s.seccomp)
		for _, l := range s.labels {
			list = append(list, "label="+l)
		}
		again, err := parseSecurity(list)
		if diff := cmp.Diff(s, again, cmp.AllowUnexported(security{})); err != nil || diff != "" {
			t.Errorf("%q, %q as %q: %v\n%s", one, other, list, err, diff)
		}
	})
}

package coredump

import "testing"

// FuzzStatus reads what a process that has crashed may have put into its own name
// and limits: ids come from the kernel's lines alone, or there is an error.
func FuzzStatus(f *testing.F) {
	const status = "Name:\tcrash\nUmask:\t0022\nUid:\t1000\t1000\t1000\t1000\nGid:\t5\t5\t5\t6\nGroups:\t4 24 \nNSpid:\t300\t2\nCapEff:\t00000000a80425fb\n"
	const limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax file size             unlimited            unlimited            bytes     \nMax core file size        0                    unlimited            bytes     \n"
	f.Add(status, limits)
	f.Add("Name:\t\nUid:\t1\n", "Max core file size")
	f.Add("Name:\tUid:\\n0\nUid:\t4294967296\t0\t0\t0\n", "Max core file size -1")
	f.Add(status+"NSpid:\t\n", limits)
	f.Fuzz(func(t *testing.T, status, limits string) {
		p := &Process{PID: 1}
		if err := p.parseStatus(status); err == nil && len(p.Name) > len(status) {
			t.Errorf("a name of %d bytes", len(p.Name))
		}
		for _, name := range []string{"Max core file size", "Max file size"} {
			if n, err := parseLimit(limits, name); err != nil && n != 0 {
				t.Errorf("%s: %d, %v", name, n, err)
			}
		}
		if bound := p.fileBound(); bound < 0 {
			t.Errorf("a file of %d bytes", bound)
		}
	})
}

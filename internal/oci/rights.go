package oci

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/caps"
)

// warnOfRights tells of capabilities that a process asks for and cannot be granted,
// because this one does not have them or nobody knows them. They are taken out: the
// specification has that be a warning.
func (r *Runtime) warnOfRights(p *specs.Process) {
	if p == nil || p.Capabilities == nil {
		return
	}
	have, err := caps.Bounding()
	if err != nil {
		r.warn("capabilities: %v", err)
		return
	}
	var lost []string
	for _, set := range []*[]string{
		&p.Capabilities.Bounding, &p.Capabilities.Effective, &p.Capabilities.Permitted, &p.Capabilities.Inheritable, &p.Capabilities.Ambient,
	} {
		*set = slices.DeleteFunc(slices.Clone(*set), func(name string) bool {
			n, err := caps.Parse(name)
			granted := err == nil && have.Has(n)
			if !granted && !slices.Contains(lost, name) {
				lost = append(lost, name)
			}
			return !granted
		})
	}
	if len(lost) > 0 {
		r.warn("capabilities that cannot be granted here: %s", strings.Join(lost, ", "))
	}
}

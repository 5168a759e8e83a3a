package spec

import (
	"strconv"
	"strings"
)

// builtin names the built-in seccomp profile.
const builtin = "builtin"

// security is what --security-opt says.
type security struct {
	noNewPrivileges *bool
	writableCgroups *bool
	apparmor        string // profile, or "unconfined"
	seccomp         string // "unconfined", "builtin", or the text of a profile
	labels          []string
}

// parseSecurity reads security options in the forms that Docker's API takes.
// Clients put the text of a seccomp profile in place of its file name, and turn
// systempaths=unconfined into empty lists of paths.
func parseSecurity(options []string) (security, error) {
	var s security
	for _, option := range options {
		if option == "no-new-privileges" || option == "writable-cgroups" {
			option += "=true"
		}
		if option == "disable" {
			s.labels = append(s.labels, option)
			continue
		}
		key, value, ok := strings.Cut(option, "=")
		if !ok {
			if key, value, ok = strings.Cut(option, ":"); !ok {
				return s, invalid("invalid --security-opt 1: %q", option)
			}
		}
		if err := s.set(option, key, value); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *security) set(option, key, value string) error {
	flag := func(target **bool) error {
		on, err := strconv.ParseBool(value)
		if err != nil {
			return invalid("invalid --security-opt 2: %q", option)
		}
		*target = &on
		return nil
	}
	switch key {
	case "label":
		s.labels = append(s.labels, value)
	case "apparmor":
		s.apparmor = value
	case "seccomp":
		s.seccomp = value
	case "no-new-privileges":
		return flag(&s.noNewPrivileges)
	case "writable-cgroups":
		return flag(&s.writableCgroups)
	default:
		return invalid("invalid --security-opt 2: %q", option)
	}
	return nil
}

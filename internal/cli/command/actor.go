package command

import (
	"strconv"
	"strings"

	"github.com/portholehq/porthole/api"
)

// Actor tells in a few words who asked the daemon for something.
func Actor(a api.Actor) string {
	if !a.Known() {
		return "the daemon"
	}
	var words []string
	switch {
	case a.UID != nil:
		words = append(words, "uid "+strconv.FormatUint(uint64(*a.UID), 10))
	case a.Subject != "":
		words = append(words, a.Subject, "at "+a.Address)
	default:
		words = append(words, a.Address)
	}
	if a.PID != 0 {
		words = append(words, "pid "+strconv.Itoa(int(a.PID)))
	}
	if len(a.Command) > 0 {
		words = append(words, strconv.Quote(strings.Join(a.Command, " ")))
	}
	text := strings.Join(words, " ")
	if a.Indirect {
		text += ", indirectly"
	}
	return text
}

package probe_test

import (
	"fmt"

	"github.com/portholehq/porthole/internal/linux/probe"
)

func Example() {
	switch err := probe.IDMapped("/var/lib"); {
	case err == nil:
		fmt.Println("files there can be shown with other owners")
	case probe.IsUnsupported(err):
		fmt.Println("no:", err)
	default:
		fmt.Println("could not tell:", err)
	}
}

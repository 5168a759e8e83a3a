package caps_test

import (
	"fmt"

	"github.com/portholehq/porthole/internal/linux/caps"
)

func ExampleTweak() {
	list, err := caps.Tweak([]string{"CAP_CHOWN", "CAP_KILL"}, []string{"net_admin"}, []string{"KILL"}, caps.UpTo(40))
	if err != nil {
		fmt.Println(err)
	}
	set, err := caps.SetOf(list)
	if err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%v %#x\n", list, uint64(set))
	// Output: [CAP_CHOWN CAP_NET_ADMIN] 0x1001
}

package syscalls_test

import (
	"fmt"

	"github.com/portholehq/porthole/internal/linux/syscalls"
)

func ExamplePrinter() {
	number, _ := syscalls.Number("", "openat")
	call := syscalls.Call{Number: number, Args: [6]uint64{^uint64(99), 0x1000, 0}}
	memory := syscalls.Snippets{{Addr: 0x1000, Data: []byte("/etc/app.conf\x00")}}
	text := (&syscalls.Printer{}).Enter(call, memory)
	args, result := text.Exit(-2, memory)
	fmt.Println(text.Name() + args + " = " + result)
	// Output: openat(AT_FDCWD, "/etc/app.conf", O_RDONLY) = -1 ENOENT (No such file or directory)
}

package crilog_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/portholehq/porthole/internal/crilog"
)

func Example() {
	name, err := os.MkdirTemp("", "log")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(name)
	dir, err := os.Open(name)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer dir.Close()

	w, err := crilog.OpenWriter(dir, crilog.Options{MaxSize: 1 << 20, MaxFiles: 3, Compress: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, chunk := range []string{"first li", "ne\nsecond line\n", "the end"} {
		if err := w.Write(crilog.Stdout, []byte(chunk), time.Now()); err != nil {
			fmt.Println(err)
		}
	}
	if err := w.Close(); err != nil {
		fmt.Println(err)
	}

	last := crilog.ReadOptions{Stdout: true, Stderr: true, Tail: 2}
	err = crilog.Read(context.Background(), name, last, nil, func(e crilog.Entry) error {
		fmt.Printf("%v %q\n", e.Stream, e.Line)
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// stdout "second line\n"
	// stdout "the end"
}

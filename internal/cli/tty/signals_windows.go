package tty

import "os"

func isRuntimeSignal(os.Signal) bool { return false }

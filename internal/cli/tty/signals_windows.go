package tty

import "os"

func isRuntimeSignal(os.Signal) bool { return false }

var forwardFirst = []os.Signal{os.Interrupt}

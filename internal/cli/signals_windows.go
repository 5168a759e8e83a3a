package cli

import "os"

// endSignals end a command.
var endSignals = []os.Signal{os.Interrupt}

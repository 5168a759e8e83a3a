package createflags

import (
	"fmt"
	"strconv"
)

// readOnlyKey is the annotation by which the daemon is asked to tell what a container
// has written to, if its value is readOnlyLearn.
const (
	readOnlyKey   = "porthole.read-only"
	readOnlyLearn = "learn"
)

// readOnly is the value of --read-only: true, false, or "learn".
type readOnly struct{ on, learn bool }

func (r *readOnly) String() string {
	if r.learn {
		return readOnlyLearn
	}
	return strconv.FormatBool(r.on)
}

// Set reads a value.
func (r *readOnly) Set(text string) error {
	if text == readOnlyLearn {
		*r = readOnly{learn: true}
		return nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return fmt.Errorf("want true, false or %s", readOnlyLearn)
	}
	*r = readOnly{on: on}
	return nil
}

// Type is what help calls it: nothing, as for other switches.
func (*readOnly) Type() string { return "bool" }

// IsBoolFlag lets it stand without a value.
func (*readOnly) IsBoolFlag() bool { return true }

// Learns tells whether a request asks for what the container would need with a
// read-only root filesystem.
func (r *Request) Learns() bool { return r.HostConfig.Annotations[readOnlyKey] == readOnlyLearn }

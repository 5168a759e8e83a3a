package api

import "time"

// Core is the core of a process that has crashed in a container, as the daemon
// keeps it.
type Core struct {
	ID            string    `json:"ID"`
	ContainerID   string    `json:"ContainerID"`
	ContainerName string    `json:"ContainerName"` // when it crashed
	Image         string    `json:"Image"`
	Run           int       `json:"Run"`
	Time          time.Time `json:"Time"`
	PID           int       `json:"PID"` // on the daemon's host
	PIDInside     int       `json:"PIDInside"`
	First         bool      `json:"First"`            // it was the container's first process
	Process       string    `json:"Process"`          // the program's name, of at most 15 bytes, which it chooses itself
	UID           uint32    `json:"UID"`              // on the daemon's host
	Signal        string    `json:"Signal,omitempty"` // by which it crashed
	Bytes         int64     `json:"Bytes"`            // of the ELF file
	DiskBytes     int64     `json:"DiskBytes"`        // of what is kept of it
	Truncated     bool      `json:"Truncated"`        // the end is missing
}

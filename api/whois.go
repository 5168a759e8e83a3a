package api

// Whois tells whose something of the host is.
type Whois struct {
	Asked string `json:"Asked"`
	// As is what Asked was taken for: process, port, address, interface, path,
	// namespace or name.
	As    string  `json:"As"`
	Found []Owner `json:"Found"`
}

// Owner is one whose the thing is.
type Owner struct {
	// Kind is container, step (of a build that runs), network, volume, image,
	// daemon (with keeper and shims) or host: none of ours.
	Kind string `json:"Kind"`
	// ID and Name are those of the container, network, volume or image.
	ID     string `json:"Id,omitempty"`
	Name   string `json:"Name,omitempty"`
	Status string `json:"Status,omitempty"` // of a container
	Image  string `json:"Image,omitempty"`  // of a container
	// Detail tells what the thing is to its owner, in words.
	Detail string `json:"Detail"`
	// Pid is the process in question, on the host, and PidInside in the
	// container; 0: there is none, or it is not known.
	Pid       int    `json:"Pid,omitempty"`
	PidInside int    `json:"PidInside,omitempty"`
	Command   string `json:"Command,omitempty"`
}

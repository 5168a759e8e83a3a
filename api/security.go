package api

// InfoSecurity is what protects the host from containers and from who is not to use the API, and what of it is off.
type InfoSecurity struct {
	Checks []SecurityCheck `json:"Checks"`
	// Surrendered are the containers that run and have given protection up.
	Surrendered []SecuritySurrender `json:"Surrendered"`
}

// SecurityState tells whether a protection is there.
type SecurityState string

// The states of a protection.
const (
	SecurityOn      SecurityState = "on"
	SecurityPartly  SecurityState = "partly"
	SecurityOff     SecurityState = "off"
	SecurityUnknown SecurityState = "unknown" // it could not be found out; the text says why
)

// SecurityCheck is one protection.
type SecurityCheck struct {
	Name  string        `json:"Name"` // what is looked at, for people
	State SecurityState `json:"State"`
	Text  string        `json:"Text"`          // what was found
	Try   string        `json:"Try,omitempty"` // what would better it
}

// SecuritySurrender is a container that runs and has given protection up.
type SecuritySurrender struct {
	ID     string `json:"ID"`
	Name   string `json:"Name"`
	Status string `json:"Status"`
	// Options are what has given it up, as on the command line.
	Options []string `json:"Options"`
}

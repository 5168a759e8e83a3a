package api

// Comparison answers GET /porthole/compare?a=&b=: in what two containers, or images,
// differ. A name that is both is taken for the container.
type Comparison struct {
	A Compared `json:"A"`
	B Compared `json:"B"`
	// Differences are in the order of how probably they matter.
	Differences []Difference `json:"Differences"`
	// Same is how many facts were found to be the same.
	Same int `json:"Same"`
	// Unknown is what was not compared, and why.
	Unknown []string `json:"Unknown,omitempty"`
}

// Compared is one of the two.
type Compared struct {
	Kind   string `json:"Kind"` // container or image
	Name   string `json:"Name"`
	ID     string `json:"Id"`
	Status string `json:"Status,omitempty"` // of a container
}

// Difference is one fact in which the two differ.
type Difference struct {
	Group string `json:"Group"` // what kind of fact: process, rights, limits, mounts, env, …
	Key   string `json:"Key"`
	// A and B are the values; nil: there is none.
	A *string `json:"A"`
	B *string `json:"B"`
	// Weight is from 0 to 100: how probably it matters.
	Weight int `json:"Weight"`
}

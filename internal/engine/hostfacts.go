package engine

// hostFacts are what the engine tells about its host and what does not change while it runs.
type hostFacts struct{}

func readHostFacts() hostFacts { return hostFacts{} }

// Package names makes up container names of the form adjective_place and says which names are allowed.
package names

import (
	"math/rand/v2"
	"regexp"
	"strconv"
)

// Allowed is the pattern of names, as Docker's errors quote it.
const Allowed = "[a-zA-Z0-9][a-zA-Z0-9_.-]"

var valid = regexp.MustCompile("^" + Allowed + "+$")

// Valid tells whether a person may give this name to a container.
func Valid(name string) bool { return valid.MatchString(name) }

var adjectives = []string{
	"able", "agile", "airy", "alert", "amber", "ample", "apt", "autumn", "balmy", "bold", "brave", "breezy", "bright",
	"brisk", "calm", "candid", "careful", "cheerful", "chilly", "civil", "clear", "clever", "coastal", "cool", "copper",
	"cosy", "crisp", "curious", "daring", "deft", "dewy", "distant", "eager", "early", "earnest", "easy", "even", "fair",
	"faithful", "fleet", "fond", "frank", "fresh", "frosty", "gentle", "glad", "golden", "grand", "hardy", "hazy",
	"hearty", "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mild",
	"misty", "modest", "neat", "nimble", "noble", "open", "patient", "plain", "polite", "prompt", "proud", "quick",
	"quiet", "rapid", "ready", "robust", "rosy", "rustic", "salty", "sandy", "serene", "sharp", "silver", "sincere",
	"sleek", "smooth", "snowy", "sober", "solid", "spry", "stable", "starry", "steady", "stormy", "sturdy", "sunny",
	"swift", "tidal", "tidy", "tough", "tranquil", "true", "upbeat", "vivid", "warm", "wise", "witty", "zesty",
}

// Things of harbours and ships, and people of the sea: a porthole looks out on them.
var nouns = []string{
	"admiral", "albatross", "amundsen", "anchor", "anemone", "atoll", "ballast", "baltimore", "barge", "barents", "bay",
	"beacon", "beaufort", "bering", "bosun", "bowline", "bowsprit", "breaker", "brig", "bulkhead", "buoy", "cabot",
	"canoe", "cape", "capstan", "caravel", "catamaran", "channel", "chart", "clipper", "coaster", "compass", "cook",
	"coral", "cormorant", "cove", "coxswain", "cutter", "davis", "deck", "delta", "dhow", "dinghy", "dock", "dolphin",
	"drake", "estuary", "fathom", "ferry", "fjord", "flinders", "foghorn", "franklin", "frigate", "galley", "gannet",
	"gangway", "gull", "halyard", "harbour", "hatch", "haven", "hawser", "headland", "helm", "heron", "hudson", "hull",
	"island", "jetty", "jib", "kayak", "keel", "ketch", "lagoon", "lantern", "lanyard", "lighthouse", "longboat",
	"magellan", "manatee", "marina", "mast", "mizzen", "mooring", "narwhal", "nansen", "nautilus", "oar", "ocean", "osprey",
	"otter", "outrigger", "pelican", "pier", "pilot", "pinnace", "porpoise", "porthole", "puffin", "quay", "raft", "reef",
	"regatta", "rigging", "ross", "rudder", "sail", "schooner", "scott", "seal", "sextant", "shackle", "shackleton",
	"shoal", "shore", "sloop", "sound", "spinnaker", "starboard", "stern", "strait", "tasman", "tern", "thwart", "tide",
	"tiller", "transom", "trawler", "tugboat", "vane", "vespucci", "voyage", "walrus", "wharf", "whaler", "windlass",
	"yacht", "yawl", "zephyr",
}

// Random returns a name. From the second attempt on a digit is added, to get out of the way of names that exist.
func Random(attempt int) string {
	name := adjectives[rand.IntN(len(adjectives))] + "_" + nouns[rand.IntN(len(nouns))]
	if attempt > 0 {
		name += strconv.Itoa(rand.IntN(10))
	}
	return name
}

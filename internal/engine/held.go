package engine

import (
	"regexp"
	"strings"

	"github.com/portholehq/porthole/internal/linux/holders"
)

// addHolders adds to an event who still has open what was unmounted. Docker's events have no such attribute.
func (e *Engine) addHolders(attributes map[string]string, held []holders.Holder) {
	var list []string
	for _, h := range held {
		list = append(list, h.String()+e.homeOf(h))
	}
	if len(list) > 0 {
		attributes["heldBy"] = strings.Join(list, "; ")
	}
}

// idInGroup finds a container's id in the path of a control group.
var idInGroup = regexp.MustCompile(`(^|[/:-])([0-9a-f]{64})([/.]|$)`)

// homeOf tells whose process a holder is.
func (e *Engine) homeOf(h holders.Holder) string {
	if h.PID == 0 {
		return ""
	}
	if m := idInGroup.FindStringSubmatch(h.Group); m != nil {
		if c, err := e.registry.find(m[2]); err == nil {
			return ", of container " + c.view().Name
		}
	}
	return ", of the host"
}

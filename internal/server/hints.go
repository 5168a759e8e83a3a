package server

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/portholehq/porthole/internal/problem"
)

// hintRule names the next thing to try after a refusal. %[1]s in the hint is
// the name that the request is about.
type hintRule struct {
	path   string // what the request's path begins with
	status int
	words  string // what the error says
	hint   string
}

// hintRules are for refusals whose maker gave no hint. The first that fits
// counts.
var hintRules = []hintRule{
	{"/containers/create", http.StatusConflict, "is already in use by container", "free the name with: porthole rm %[1]s"},
	{"/containers/create", http.StatusNotFound, "No such image", "see what there is with: porthole images; bring one in with: porthole pull NAME, or porthole load -i FILE.tar"},
	{"/containers/", http.StatusNotFound, "No such container", "see all containers with: porthole ps -a"},
	{"/containers/", http.StatusConflict, "is paused", "let it go on with: porthole unpause %[1]s"},
	{"/containers/", http.StatusConflict, "container is running", "end it first with: porthole stop %[1]s"},
	{"/containers/", http.StatusConflict, "is not running", "start it with: porthole start %[1]s; see its last words with: porthole logs %[1]s"},
	{"/images/", http.StatusNotFound, "No such image", "see what there is with: porthole images"},
	{"/images/", http.StatusConflict, "container", "see who uses it with: porthole ps -a --filter ancestor=%[1]s"},
	{"/networks/", http.StatusNotFound, "not found", "see all networks with: porthole network ls"},
	{"/volumes/", http.StatusNotFound, "no such volume", "see all volumes with: porthole volume ls"},
	{"/volumes/", http.StatusConflict, "volume is in use", "see who uses it with: porthole ps -a --filter volume=%[1]s"},
}

// hint returns what to try after err: its maker's word, or that of a rule.
func (r *request) hint(path string, status int, err error) string {
	if hint := problem.Hint(err); hint != "" {
		return hint
	}
	name := r.name
	if name == "" {
		name = r.form.Get("name")
	}
	text := err.Error()
	// Our own endpoints do the work of Docker's.
	path = strings.TrimPrefix(path, "/porthole")
	if path == "/containers/run" {
		path = "/containers/create"
	}
	for _, rule := range hintRules {
		if strings.HasPrefix(path, rule.path) && status == rule.status && strings.Contains(text, rule.words) {
			if !strings.Contains(rule.hint, "%") {
				return rule.hint
			}
			return fmt.Sprintf(rule.hint, name)
		}
	}
	return problem.ScarceHint(text)
}

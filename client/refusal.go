package client

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/portholehq/porthole/api"
)

// keptRefusals bounds the memory of refused requests. A command that shows the
// hint of an error asks for it at once, so the last few are enough.
const keptRefusals = 64

// refusals remembers what the daemon has answered to requests it refused.
// Docker's client library returns the message of such an answer but neither
// the hint nor, for attach and exec, anything of its body.
type refusals struct {
	mu   sync.Mutex
	last []refusal
}

// refusal is one answer with an error status.
type refusal struct {
	api.Error
	status int
	// path is that of the request, with its API version.
	path string
}

// see is a response hook.
func (r *refusals) see(resp *http.Response) {
	text := resp.Header.Get(api.ErrorHeader)
	if text == "" {
		return
	}
	var e api.Error
	if json.Unmarshal([]byte(text), &e) != nil || e.Message == "" {
		return
	}
	r.add(newRefusal(resp, e))
}

func newRefusal(resp *http.Response, e api.Error) refusal {
	out := refusal{Error: e, status: resp.StatusCode}
	if resp.Request != nil {
		out.path = resp.Request.URL.Path
	}
	return out
}

func (r *refusals) add(e refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.last) == keptRefusals {
		r.last = append(r.last[:0], r.last[1:]...)
	}
	r.last = append(r.last, e)
}

// find returns the newest refusal that matches.
func (r *refusals) find(match func(refusal) bool) (refusal, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range slices.Backward(r.last) {
		if match(e) {
			return e, true
		}
	}
	return refusal{}, false
}

// Hint returns what the daemon suggests to try after err, in one line; empty
// when it suggested nothing or err is not of its making.
func (c *Client) Hint(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	e, _ := c.refusals.find(func(e refusal) bool { return strings.Contains(text, e.Message) })
	return e.Hint
}

// upgradeError replaces the library's "unable to upgrade to tcp, received 409"
// by what the daemon has answered to the request for path.
func (c *Client) upgradeError(path string, err error) error {
	if err == nil || !strings.Contains(err.Error(), "unable to upgrade to") {
		return err
	}
	e, ok := c.refusals.find(func(e refusal) bool { return strings.HasSuffix(e.path, path) })
	if !ok {
		return err
	}
	return newDaemonError(e.Message, e.status)
}

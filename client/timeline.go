package client

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/portholehq/porthole/api"
)

// TimelineOptions select what [Client.Timeline] tells.
type TimelineOptions struct {
	Since, Until time.Time // zero: from its creation, to now
	// Around names an event, such as "die"; only what lies within Window of its last
	// time is told, in place of Since and Until.
	Around string
	Window time.Duration // whole seconds; 0: the daemon's, 30 s
	Limit  int           // the last entries only; 0: the daemon's, 1000
	Only   []string      // sources or kinds of entries, such as "process" or "exit"; empty: all
}

// Timeline tells all that is recorded of a container in one order; by name or id,
// also of one that was removed, as long as its death is recorded.
func (c *Client) Timeline(ctx context.Context, container string, o TimelineOptions) (api.Timeline, error) {
	q := url.Values{}
	for key, t := range map[string]time.Time{"since": o.Since, "until": o.Until} {
		if !t.IsZero() {
			q.Set(key, fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()))
		}
	}
	if o.Around != "" {
		q.Set("around", o.Around)
	}
	if len(o.Only) > 0 {
		q.Set("only", strings.Join(o.Only, ","))
	}
	for key, n := range map[string]int{"window": int(o.Window / time.Second), "limit": o.Limit} {
		if n != 0 {
			q.Set(key, strconv.Itoa(n))
		}
	}
	var out api.Timeline
	err := c.get(ctx, "/porthole/containers/"+url.PathEscape(container)+"/timeline?"+q.Encode(), &out)
	return out, err
}

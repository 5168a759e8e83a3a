package containers

import (
	"context"
	"fmt"
	"time"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

// learnedWait is how long may be asked for what a run has written to.
const learnedWait = 10 * time.Second

// tellLearned prints what a run that has ended has written to, if it was to learn
// that. What is not known is left to why.
func tellLearned(ctx context.Context, a *command.App, c *client.Client, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), learnedWait)
	defer cancel()
	list, err := c.Deaths(ctx, client.DeathsOptions{Container: id, Limit: 1})
	if err != nil || len(list) == 0 || list[0].Learned == nil {
		return
	}
	for _, line := range list[0].Learned.Text() {
		_, _ = fmt.Fprintln(a.Err, "learned:", visible(line))
	}
}

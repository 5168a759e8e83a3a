package client

import (
	"encoding/json"
	"errors"
	"io"
	"iter"

	"github.com/moby/moby/api/types/jsonstream"

	"github.com/portholehq/porthole/api"
)

// Messages reads the progress of a pull, push, load, import or build until its end, or an error of reading, which comes last.
// If a message has an error, [Client.Hint] knows what the daemon suggests to try after it.
func (c *Client) Messages(stream io.Reader) iter.Seq2[jsonstream.Message, error] {
	return func(yield func(jsonstream.Message, error) bool) {
		for dec := json.NewDecoder(stream); ; {
			var m struct {
				jsonstream.Message
				Hint string `json:"hint"`
			}
			err := dec.Decode(&m)
			if errors.Is(err, io.EOF) {
				return
			}
			if m.Error != nil && m.Hint != "" {
				c.refusals.add(refusal{Error: api.Error{Message: m.Error.Message, Hint: m.Hint}})
			}
			if !yield(m.Message, err) || err != nil {
				return
			}
		}
	}
}

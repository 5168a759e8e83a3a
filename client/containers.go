package client

import (
	"context"

	mobyclient "github.com/moby/moby/client"
)

// ContainerIDs returns the ids of the containers that ContainerList lists, in the
// same order. Porthole answers with nothing else: of some hundred containers most
// of a list's time is spent on writing and reading what nobody looks at. A Docker
// Engine answers with the whole list, of which the ids are taken.
func (c *Client) ContainerIDs(ctx context.Context, o mobyclient.ContainerListOptions) ([]string, error) {
	query, err := queryOf(func(lib *mobyclient.Client) error {
		_, err := lib.ContainerList(ctx, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	query.Set("only-ids", "1")
	path := "/containers/json?" + query.Encode()
	if c.pinned {
		path = "/v" + c.ClientVersion() + path
	}
	var list []struct {
		ID string `json:"Id"`
	}
	if err := c.get(ctx, path, &list); err != nil {
		return nil, err
	}
	ids := make([]string, len(list))
	for i, item := range list {
		ids[i] = item.ID
	}
	return ids, nil
}

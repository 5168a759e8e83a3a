package client

import (
	"errors"
	"net/http"
	"net/url"

	mobyclient "github.com/moby/moby/client"
)

// errCaught ends a request that is only looked at.
var errCaught = errors.New("request was caught")

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// queryOf returns the parameters that Docker's library would send in a call: it
// knows all forms of a time, and keeps the function that reads them to itself.
func queryOf(call func(*mobyclient.Client) error) (url.Values, error) {
	var query url.Values
	lib, err := mobyclient.New(
		mobyclient.WithHTTPClient(&http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			query = r.URL.Query()
			return nil, errCaught
		})}),
		mobyclient.WithAPIVersion(mobyclient.MaxAPIVersion),
	)
	if err != nil {
		return nil, err
	}
	err = call(lib)
	if query == nil {
		return nil, err
	}
	return query, nil
}

package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Filters are the key=value conditions of list, events and prune requests.
type Filters map[string][]string

// ParseFilters reads the JSON that API clients send: {"key":["value"]} or the older {"key":{"value":true}}.
// Empty text means no filters. The result can be added to.
func ParseFilters(text string) (Filters, error) {
	if text == "" {
		return Filters{}, nil
	}
	var lists map[string][]string
	if err := json.Unmarshal([]byte(text), &lists); err == nil {
		if lists == nil { // null
			lists = Filters{}
		}
		return lists, nil
	}
	var sets map[string]map[string]bool
	if err := json.Unmarshal([]byte(text), &sets); err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid filter: " + err.Error())
	}
	f := Filters{}
	for key, set := range sets {
		for value, on := range set {
			if on {
				f[key] = append(f[key], value)
			}
		}
		slices.Sort(f[key])
	}
	return f, nil
}

// Has tells whether any value was given for key.
func (f Filters) Has(key string) bool { return len(f[key]) > 0 }

// Exact tells whether no value was given for key or value is one of them.
func (f Filters) Exact(key, value string) bool {
	return !f.Has(key) || slices.Contains(f[key], value)
}

// Prefix tells whether no value was given for key or one of them is a prefix of value.
func (f Filters) Prefix(key, value string) bool {
	return !f.Has(key) || slices.ContainsFunc(f[key], func(p string) bool { return strings.HasPrefix(value, p) })
}

// Labels tells whether all conditions of key ("k" or "k=v") hold for labels.
func (f Filters) Labels(key string, labels map[string]string) bool {
	for _, want := range f[key] {
		k, v, hasValue := strings.Cut(want, "=")
		have, ok := labels[k]
		if !ok || (hasValue && have != v) {
			return false
		}
	}
	return true
}

// Check returns an error naming the first key that is not in known.
func (f Filters) Check(known ...string) error {
	for key := range f {
		if !slices.Contains(known, key) {
			return errdefs.ErrInvalidArgument.WithMessage("invalid filter '" + key + "'")
		}
	}
	return nil
}

// Bool reads a yes-or-no filter such as dangling; absent reports fallback.
func (f Filters) Bool(key string, fallback bool) (bool, error) {
	values := f[key]
	if len(values) == 0 {
		return fallback, nil
	}
	yes := slices.Contains(values, "1") || slices.Contains(values, "true")
	no := slices.Contains(values, "0") || slices.Contains(values, "false")
	if yes == no {
		return false, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s=%s'", key, values))
	}
	return yes, nil
}

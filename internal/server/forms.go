package server

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/jsonstream"
)

// fields are members of a JSON object.
type fields map[string]any

// withFields is a value whose JSON object gets more members: those that older
// versions of the API had and that its current types have lost. A member that
// the value has already, and that is not null, stays as it is; objects on both
// sides are merged.
type withFields struct {
	base  any
	extra fields
}

// MarshalJSON keeps the members of base as raw text, so that no number loses
// digits on the way.
func (f withFields) MarshalJSON() ([]byte, error) {
	text, err := marshal(f.base)
	if err != nil || len(f.extra) == 0 {
		return text, err
	}
	return addFields(text, f.extra)
}

func addFields(text []byte, extra fields) ([]byte, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, err
	}
	for key, value := range extra {
		have, ok := object[key]
		if inner, isObject := value.(fields); isObject && ok && len(have) > 0 && have[0] == '{' {
			merged, err := addFields(have, inner)
			if err != nil {
				return nil, err
			}
			object[key] = merged
			continue
		}
		if ok && string(have) != "null" {
			continue
		}
		raw, err := marshal(value)
		if err != nil {
			return nil, err
		}
		object[key] = raw
	}
	return marshal(object)
}

// marshal is json.Marshal without escapes for HTML and without a newline.
func marshal(value any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// jsonWith answers with a value and the members that the client's version has
// besides.
func (r *request) jsonWith(value any, extra fields) error {
	if len(extra) == 0 {
		return r.json(http.StatusOK, value)
	}
	return r.json(http.StatusOK, withFields{value, extra})
}

// jsonStream writes values one after the other, each on its line.
type jsonStream struct {
	w io.Writer
	// separator puts a record separator in front of each value (RFC 7464).
	separator bool
	// carriage ends lines with CR LF, as Docker's progress streams do.
	carriage bool
}

func (j jsonStream) write(value any) error {
	text, err := marshal(value)
	if err != nil {
		return err
	}
	line := make([]byte, 0, len(text)+3)
	if j.separator {
		line = append(line, 0x1e)
	}
	line = append(line, text...)
	if j.carriage {
		line = append(line, '\r')
	}
	_, err = j.w.Write(append(line, '\n'))
	return err
}

// streamError is how an error ends a stream of progress. Clients read either of
// its members.
type streamError struct {
	Detail *jsonstream.Error `json:"errorDetail"`
	Error  string            `json:"error"`
	// Hint is Porthole's own.
	Hint string `json:"hint,omitempty"`
}

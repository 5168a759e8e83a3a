package event

import "context"

// Origin is who asked for what happened.
type Origin struct {
	UID     uint32   `json:"uid"`
	GID     uint32   `json:"gid"`
	PID     int32    `json:"pid,omitempty"`     // of the client, when it asked
	Command []string `json:"command,omitempty"` // its command line
	// Subject of the client's certificate, for clients that came by TLS. Their other fields are not known.
	Subject string `json:"subject,omitempty"`
	// Request is the id by which the daemon logged the request.
	Request string `json:"request,omitempty"`
}

type originKey struct{}

// WithOrigin returns a context for work that o asked for.
func WithOrigin(ctx context.Context, o *Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf returns who asked for the work that ctx stands for, or nil when it was nobody: the daemon itself.
func OriginOf(ctx context.Context) *Origin {
	o, _ := ctx.Value(originKey{}).(*Origin)
	return o
}

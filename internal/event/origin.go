package event

import "context"

// Origin is who asked for what happened. What is not known is absent.
type Origin struct {
	UID     *uint32  `json:"uid,omitempty"` // of a client that came by the unix socket
	GID     *uint32  `json:"gid,omitempty"`
	PID     int32    `json:"pid,omitempty"`     // of the client, when it asked
	Command []string `json:"command,omitempty"` // its command line
	// Address is that of a client that came by the network, and Subject is of its certificate.
	Address string `json:"address,omitempty"`
	Subject string `json:"subject,omitempty"`
	// Request is the id by which the daemon logged the request.
	Request string `json:"request,omitempty"`
	// Indirect tells that they did not ask for what happened but for what it follows from: they started the process that
	// ended by itself.
	Indirect bool `json:"indirect,omitempty"`
}

// Follows is the origin of what follows from something that o asked for. Nil stays nil.
func (o *Origin) Follows() *Origin {
	if o == nil || o.Indirect {
		return o
	}
	f := *o
	f.Indirect = true
	return &f
}

type originKey struct{}

// WithOrigin returns a context for work that o asked for; nil: nobody did.
func WithOrigin(ctx context.Context, o *Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf returns who asked for the work that ctx stands for, or nil when it was nobody: the daemon itself.
func OriginOf(ctx context.Context) *Origin {
	o, _ := ctx.Value(originKey{}).(*Origin)
	return o
}

package build

import (
	"context"
	"net"
	"strings"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/filesync"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc"

	"github.com/portholehq/porthole/internal/image/remote"
)

// localSession opens a session in this process: a build reads its context from
// dir, and its credentials from creds.
func (b *Builder) localSession(ctx context.Context, dir string, creds map[string]remote.Credentials) (id string, end func(), err error) {
	s, err := session.NewSession(ctx, dir)
	if err != nil {
		return "", nil, err
	}
	if dir != "" {
		tree, err := fsutil.NewFS(dir)
		if err != nil {
			return "", nil, err
		}
		s.Allow(filesync.NewFSSyncProvider(filesync.StaticDirSource{"context": tree, "dockerfile": tree}))
	}
	s.Allow(credentialsServer{creds: creds})
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx, func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { _ = b.sessions.HandleConn(context.WithoutCancel(ctx), theirs, meta) }()
			return ours, nil
		})
	}()
	return s.ID(), func() {
		_ = s.Close()
		cancel()
		<-done
	}, nil
}

// credentialsServer gives a build the credentials that came with its request.
type credentialsServer struct {
	auth.UnimplementedAuthServer
	creds map[string]remote.Credentials // by domain, Docker Hub as docker.io
}

func (c credentialsServer) Register(server *grpc.Server) { auth.RegisterAuthServer(server, c) }

func (c credentialsServer) Credentials(_ context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	found := c.creds[remote.ServerDomain(strings.TrimPrefix(req.Host, "registry-1."))]
	if found.IdentityToken != "" {
		return &auth.CredentialsResponse{Secret: found.IdentityToken}, nil
	}
	return &auth.CredentialsResponse{Username: found.Username, Secret: found.Password}, nil
}

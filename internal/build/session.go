package build

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/filesync"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc"

	"github.com/portholehq/porthole/internal/image/remote"
)

// localSession opens a session in this process: a build reads its context from
// dir, its credentials from creds, and more from the others.
func (b *Builder) localSession(ctx context.Context, dir string, creds map[string]remote.Credentials, more ...session.Attachable) (id string, end func(), err error) {
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
	for _, m := range more {
		s.Allow(m)
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		_ = s.Run(ctx, func(_ context.Context, _ string, meta map[string][]string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			// BuildKit would find out by itself that the other end is gone, after
			// some failed checks of its health.
			running.Go(func() { _ = b.sessions.HandleConn(ctx, theirs, meta) })
			return ours, nil
		})
	})
	end = func() {
		_ = s.Close()
		cancel()
		running.Wait()
	}
	// A build that comes first would wait for it as well, but not be told why.
	known, giveUp := context.WithTimeout(ctx, sessionTimeout)
	defer giveUp()
	if _, err := b.sessions.Get(known, s.ID(), false); err != nil {
		end()
		return "", nil, fmt.Errorf("open session for a build: %w", err)
	}
	return s.ID(), end, nil
}

// sessionTimeout bounds what takes no time unless something is wrong.
const sessionTimeout = 10 * time.Second

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

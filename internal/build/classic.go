package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	controlapi "github.com/moby/buildkit/api/services/control"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/identity"
	solvererrors "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/portholehq/porthole/internal/build/history"
	"github.com/portholehq/porthole/internal/build/order"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/tartree"
)

// Classic builds an image of a context that comes as a tar stream, one
// instruction after the other, and tells of each as Docker's classic builder
// does. Every instruction's state is an image whose ID is told and that can be
// run. The error of a build that failed has been told as well.
func (b *Builder) Classic(ctx context.Context, contextTar io.Reader, o order.Options, report func(jsonstream.Message)) (imageID string, err error) {
	dir, err := b.receive(ctx, contextTar, o)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	sid, end, err := b.localSession(ctx, dir, o.Credentials)
	if err != nil {
		return "", err
	}
	defer end()
	attrs, err := o.Attributes()
	if err != nil {
		return "", err
	}
	c := &classic{b: b, o: o, report: report, session: sid}
	ref := b.newID(o.ID)
	defer b.builds.put(ref, c)()
	attrs[attrBuild] = ref
	response, err := b.solve(ctx, doorClassic, &controlapi.SolveRequest{
		Ref: ref, Session: sid, Frontend: frontendClassic, FrontendAttrs: attrs,
		Exporters: []*controlapi.Exporter{{Type: "moby", Attrs: map[string]string{"name": strings.Join(o.Tags, ",")}}},
		Cache:     cacheImports(o), Entitlements: entitlementsOf(o),
	})
	if err != nil {
		return "", c.failure(ctx, err)
	}
	id := response.ExporterResponse["containerimage.config.digest"]
	c.finish(id)
	return id, nil
}

// newID is the ID of a build: the one that is wished for, unless it cannot be or
// there is one of that name.
func (b *Builder) newID(wish string) string {
	if _, err := b.history.Get(wish); history.ValidID(wish) && errdefs.IsNotFound(err) && b.builds.get(wish) == nil {
		return wish
	}
	return identity.NewID()
}

// receive unpacks a context into a directory of its own.
func (b *Builder) receive(ctx context.Context, contextTar io.Reader, o order.Options) (string, error) {
	dir, err := os.MkdirTemp("", "context-")
	if err != nil {
		return "", err
	}
	if o.Remote != "" {
		return dir, nil
	}
	root, err := os.Open(dir)
	if err == nil {
		err = tartree.Unpack(ctx, contextTar, tartree.Target{Root: root, Dir: ".", NoDevices: true})
		_ = root.Close()
	}
	if err == nil {
		return dir, nil
	}
	_ = os.RemoveAll(dir)
	if tartree.Blames(err) {
		return "", errdefs.ErrInvalidArgument.WithMessage("build context: " + err.Error())
	}
	return "", fmt.Errorf("unpack build context: %w", err)
}

// entitlementsOf is what an order lets a build do: whoever asks for the host's
// network here could have it for a container as well.
func entitlementsOf(o order.Options) []string {
	if o.Network == "host" {
		return []string{string(entitlements.EntitlementNetworkHost)}
	}
	return nil
}

func cacheImports(o order.Options) *controlapi.CacheOptions {
	c := &controlapi.CacheOptions{}
	for _, ref := range o.CacheFrom {
		c.Imports = append(c.Imports, &controlapi.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": ref}})
	}
	return c
}

// classic is one classic build under way.
type classic struct {
	b       *Builder
	o       order.Options
	session string

	mu     sync.Mutex
	report func(jsonstream.Message)
	// command is that of the instruction under way, for the error.
	command string
	did     bool // something of it was done, not found in the cache
	ran     string
}

func (c *classic) stream(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streamLocked(fmt.Sprintf(format, args...))
}

func (c *classic) streamLocked(text string) {
	if !c.o.Quiet {
		c.report(jsonstream.Message{Stream: text})
	}
}

// begin tells the head of an instruction.
func (c *classic) begin(i, n int, head, command string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.command, c.did, c.ran = command, false, ""
	c.streamLocked(fmt.Sprintf("Step %d/%d : %s\n", i, n, head))
}

// triggers tells how many instructions of its base a FROM brings along.
func (c *classic) triggers(n int) {
	switch n {
	case 0:
	case 1:
		c.stream("# Executing 1 build trigger\n")
	default:
		c.stream("# Executing %d build triggers\n", n)
	}
}

func (c *classic) running(stepID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.did, c.ran = true, stepID
	c.streamLocked(fmt.Sprintf(" ---> Running in %s\n", stepID[:12]))
}

func (c *classic) worked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.did = true
}

func (c *classic) output() io.Writer { return classicOutput{c} }

type classicOutput struct{ c *classic }

func (o classicOutput) Write(p []byte) (int, error) {
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	o.c.streamLocked(string(p))
	return len(p), nil
}

// state tells the image that an instruction has led to. cacheable says whether
// the instruction could have been in the cache.
func (c *classic) state(id string, cacheable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cacheable && !c.did {
		c.streamLocked(" ---> Using cache\n")
	}
	if c.ran != "" && c.o.Remove {
		c.streamLocked(fmt.Sprintf(" ---> Removed intermediate container %s\n", c.ran[:12]))
	}
	c.streamLocked(fmt.Sprintf(" ---> %s\n", shortID(id)))
}

func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// finish tells the result.
func (c *classic) finish(id string) {
	if aux, err := json.Marshal(map[string]string{"ID": id}); err == nil {
		raw := json.RawMessage(aux)
		c.report(jsonstream.Message{Aux: &raw})
	}
	if c.o.Quiet {
		c.report(jsonstream.Message{Stream: id + "\n"})
		return
	}
	c.stream("Successfully built %s\n", shortID(id))
	for _, tag := range c.o.Tags {
		if ref, err := reference.ParseNormalizedNamed(tag); err == nil {
			tag = reference.FamiliarString(reference.TagNameOnly(ref))
		}
		c.stream("Successfully tagged %s\n", tag)
	}
}

// failure words an error as the classic builder does.
func (c *classic) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var exit *gatewayapi.ExitError
	if !errors.As(err, &exit) || exit.ExitCode == gatewayapi.UnknownExitStatus {
		return &order.Failure{Message: describeError(err), Code: 1, Err: err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	message := fmt.Sprintf("The command '%s' returned a non-zero code: %d", c.command, exit.ExitCode)
	if known, ok := errors.AsType[*stepFailure](exit.Err); ok {
		message += ": " + known.reason
	}
	if c.ran != "" {
		err = problem.WithHint(err, "enter what the step has left with: "+EnterCommand(c.ran))
	}
	return &order.Failure{Message: message, Code: int(exit.ExitCode), Err: err}
}

// describeError adds the place in the Dockerfile to an error.
func describeError(err error) string {
	text := err.Error()
	for _, s := range solvererrors.Sources(err) {
		if s.Info == nil || len(s.Ranges) == 0 {
			continue
		}
		line := s.Ranges[0].GetStart().GetLine()
		if strings.Contains(text, fmt.Sprintf("on line %d", line)) {
			return text // as the parser has it
		}
		return fmt.Sprintf("%s:%d: %s", s.Info.Filename, line, text)
	}
	return text
}

// classicBuilds finds a build by the reference that its frontend has.
type classicBuilds struct {
	mu   sync.Mutex
	list map[string]*classic
}

func (cb *classicBuilds) put(ref string, c *classic) (remove func()) {
	cb.mu.Lock()
	defer cb.mu.Unlock()
	if cb.list == nil {
		cb.list = map[string]*classic{}
	}
	cb.list[ref] = c
	return func() {
		cb.mu.Lock()
		defer cb.mu.Unlock()
		delete(cb.list, ref)
	}
}

func (cb *classicBuilds) get(ref string) *classic {
	cb.mu.Lock()
	defer cb.mu.Unlock()
	return cb.list[ref]
}

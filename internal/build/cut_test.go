package build

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
)

// oneBase is a registry in which all images are the same one.
type oneBase struct{ config string }

func (b oneBase) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, digest.FromString(b.config), []byte(b.config), nil
}

// Each part of a Dockerfile that was converted once is what comes of converting the
// Dockerfile up to there, and so is the configuration.
func TestWholeFile(t *testing.T) {
	const base = `{"os":"linux","architecture":"amd64","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"history":[{"created_by":"base"}],"rootfs":{"type":"layers","diff_ids":[]}}`
	for _, c := range []struct {
		name, text, target string
		base               string
		// converted are the lines whose part or, for a RUN, configuration is not found
		// in the whole.
		converted []int
	}{
		{name: "one stage", text: `ARG V=1
FROM busybox
ENV A=1 B=$A
ARG V
RUN echo one
CMD ["x"]
RUN <<END
two
END
WORKDIR /w
RUN --mount=type=cache,target=/c three
COPY <<A <<B /dst/
a
A
b
B
ENTRYPOINT ["y"]
RUN four \
  && five
`},
		{name: "stages", text: `FROM busybox AS one
RUN a
FROM one AS two
RUN b
FROM busybox
RUN c
COPY --from=two /a /b
RUN --mount=from=one,target=/x d
`, converted: []int{2, 3, 4}},
		{name: "not needed", text: `FROM busybox AS one
RUN a
FROM busybox
RUN c
`, converted: []int{1, 2}},
		{name: "target", target: "one", text: `FROM busybox AS one
RUN a
RUN b
FROM busybox
RUN c
`},
		{name: "twice the same", text: `FROM busybox
RUN a
RUN a
COPY --link <<x /y
1
x
RUN a
`},
		{name: "triggers", base: strings.Replace(base, `"Cmd"`, `"OnBuild":["RUN t","ENV T=1","RUN u"],"Cmd"`, 1), text: `FROM busybox
RUN a
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.base == "" {
				c.base = base
			}
			options := func(target string) dockerfile2llb.ConvertOpt {
				o := dockerfile2llb.ConvertOpt{
					Config: dockerui.Config{Target: target}, MetaResolver: oneBase{c.base},
					SourceMap: llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", []byte(c.text)),
				}
				return o
			}
			whole, err := convertWhole(t.Context(), []byte(c.text), options(c.target))
			if err != nil {
				t.Fatal(err)
			}
			list, err := instructionsOf([]byte(c.text), c.target)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.SplitAfter(c.text, "\n")
			var before *dockerspec.DockerOCIImage
			var converted []int
			for _, in := range list {
				if in.early {
					continue
				}
				r, err := dockerfile2llb.Dockerfile2LLB(t.Context(), []byte(strings.Join(lines[:in.end], "")), options(""))
				if err != nil {
					t.Fatal(err)
				}
				want, err := r.State.Marshal(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				other := false
				if def := whole.upTo(in.start); def != nil {
					if diff := cmp.Diff(opsOf(t, want.ToPB()), opsOf(t, def)); diff != "" {
						t.Errorf("line %d (-converted +cut):\n%s", in.start, diff)
					}
				} else if in.works || in.from {
					other = true
				}
				if in.command != "" {
					if after := whole.afterRun(before); after == nil || !in.last {
						other = true
					} else if diff := cmp.Diff(jsonText(t, r.Image), jsonText(t, after)); diff != "" {
						t.Errorf("configuration after line %d (-converted +known):\n%s", in.start, diff)
					}
				}
				if other {
					converted = append(converted, in.start)
				}
				before = r.Image
			}
			if diff := cmp.Diff(c.converted, converted); diff != "" {
				t.Errorf("lines that are converted for themselves (-want +got):\n%s", diff)
			}
		})
	}
}

// opsOf are the operations of a definition, the one in question last.
func opsOf(t *testing.T, def *pb.Definition) map[digest.Digest]bool {
	t.Helper()
	ops := map[digest.Digest]bool{}
	for _, raw := range def.Def {
		ops[digest.FromBytes(raw)] = true
	}
	ops["head "+headOf(def)] = true
	return ops
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

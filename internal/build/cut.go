package build

import (
	"context"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/solver/pb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// wholeFile is a Dockerfile that was converted once, with all that its target
// needs, and is cut after each of its instructions. To convert it once more up to
// each instruction would take time by the square of their number, and each of these
// conversions would have files of the client of its own to ask for.
type wholeFile struct {
	def *pb.Definition
	ops map[digest.Digest]*wholeOp
	// order has the operations as the definition has, inputs before those who need
	// them.
	order []digest.Digest
	// heads are what instructions lead to, by their first lines.
	heads map[int]digest.Digest
	// history is that of the image.
	history []ocispec.History
}

type wholeOp struct {
	raw    []byte
	inputs []digest.Digest
	// first tells that nobody asks for another than the first of its outputs.
	first bool
}

// convertWhole converts a Dockerfile as a whole, up to the target in o.
func convertWhole(ctx context.Context, text []byte, o dockerfile2llb.ConvertOpt) (*wholeFile, error) {
	r, err := dockerfile2llb.Dockerfile2LLB(ctx, text, o)
	if err != nil {
		return nil, err
	}
	def, err := r.State.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	w := newWholeFile(def.ToPB())
	w.history = r.Image.History
	return w, nil
}

func newWholeFile(def *pb.Definition) *wholeFile {
	w := &wholeFile{def: def, ops: map[digest.Digest]*wholeOp{}, heads: map[int]digest.Digest{}}
	byLine := map[int][]digest.Digest{}
	for _, raw := range def.Def {
		var op pb.Op
		if op.UnmarshalVT(raw) != nil {
			continue
		}
		for _, in := range op.Inputs {
			if from := w.ops[digest.Digest(in.Digest)]; from != nil && in.Index != 0 {
				from.first = false
			}
		}
		if op.Op == nil {
			continue // stands for the result
		}
		d := digest.FromBytes(raw)
		known := &wholeOp{raw: raw, first: true}
		for _, in := range op.Inputs {
			known.inputs = append(known.inputs, digest.Digest(in.Digest))
		}
		w.ops[d] = known
		w.order = append(w.order, d)
		lines := map[int]bool{}
		for _, l := range def.GetSource().GetLocations()[string(d)].GetLocations() {
			if line, _ := linesOf(l.Ranges); l.SourceIndex == 0 && line > 0 && !lines[line] {
				lines[line] = true
				byLine[line] = append(byLine[line], d)
			}
		}
	}
	for line, list := range byLine {
		if head := w.headOf(list); head != "" {
			w.heads[line] = head
		}
	}
	return w
}

// headOf is the one operation of an instruction's that no other of them needs;
// empty: there are several.
func (w *wholeFile) headOf(list []digest.Digest) digest.Digest {
	// Inputs come first, so it can only be the last.
	head := list[len(list)-1]
	needed := w.needs(head)
	for _, d := range list {
		if !needed[d] {
			return ""
		}
	}
	if !w.ops[head].first {
		return ""
	}
	return head
}

// needs are an operation and all that it needs.
func (w *wholeFile) needs(head digest.Digest) map[digest.Digest]bool {
	needed := map[digest.Digest]bool{}
	for rest := []digest.Digest{head}; len(rest) > 0; {
		d := rest[len(rest)-1]
		rest = rest[:len(rest)-1]
		if needed[d] || w.ops[d] == nil {
			continue
		}
		needed[d] = true
		rest = append(rest, w.ops[d].inputs...)
	}
	return needed
}

// upTo is the definition that ends with the instruction in a line; nil: it is not
// known which part that is, as with the instruction of a stage that the target has no
// need of.
func (w *wholeFile) upTo(line int) *pb.Definition {
	if w == nil || w.heads[line] == "" {
		return nil
	}
	head := w.heads[line]
	needed := w.needs(head)
	def := &pb.Definition{Metadata: map[string]*pb.OpMetadata{}, Source: w.def.Source}
	for _, d := range w.order {
		if needed[d] {
			def.Def = append(def.Def, w.ops[d].raw)
			if md := w.def.Metadata[string(d)]; md != nil {
				def.Metadata[string(d)] = md
			}
		}
	}
	end, err := (&pb.Op{Inputs: []*pb.Input{{Digest: string(head)}}}).MarshalVT()
	if err != nil {
		return nil
	}
	def.Def = append(def.Def, end)
	return def
}

// afterRun is the configuration after a RUN that follows on before, in the stage that
// the result comes of; nil: it is not known without converting the Dockerfile up to
// there. A RUN adds a line to the history and changes nothing else.
func (w *wholeFile) afterRun(before *dockerspec.DockerOCIImage) *dockerspec.DockerOCIImage {
	if w == nil || before == nil {
		return nil
	}
	n := len(before.History)
	same := func(a, b ocispec.History) bool {
		return a.CreatedBy == b.CreatedBy && a.Comment == b.Comment && a.Author == b.Author && a.EmptyLayer == b.EmptyLayer
	}
	if n >= len(w.history) || !slices.EqualFunc(before.History, w.history[:n], same) {
		return nil
	}
	if next := w.history[n]; next.EmptyLayer || !strings.HasPrefix(next.CreatedBy, "RUN ") {
		return nil
	}
	after := *before
	after.History = w.history[: n+1 : n+1]
	return &after
}

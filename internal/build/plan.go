package build

import (
	"bytes"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/portholehq/porthole/api"
)

// mostText is the most that is kept of a Dockerfile.
const mostText = 1 << 20

// plan is what a definition tells of the steps to come.
type plan struct {
	file, text string          // of the first source
	steps      []api.BuildStep // in the order of their lines, without numbers
}

// planOf reads a definition. What of it cannot be read is left out: BuildKit says
// so itself.
func planOf(def *pb.Definition) plan {
	var p plan
	var sources []map[int]sourceLine
	for i, info := range def.GetSource().GetInfos() {
		sources = append(sources, sourceLines(info.Data))
		if i == 0 {
			p.file, p.text = info.Filename, string(info.Data[:min(len(info.Data), mostText)])
		}
	}
	for _, raw := range def.Def {
		var op pb.Op
		if op.UnmarshalVT(raw) != nil || op.Op == nil {
			continue // the last one stands for the result
		}
		d := digest.FromBytes(raw)
		s := api.BuildStep{Vertex: d.String(), Name: opName(&op, def.Metadata[d.String()]), State: api.StepWaiting, Runs: op.GetExec() != nil}
		place(&s, def.Source, sources)
		p.steps = append(p.steps, s)
	}
	slices.SortStableFunc(p.steps, func(a, b api.BuildStep) int { return a.First - b.First })
	return p
}

// opName is what clients call an operation.
func opName(op *pb.Op, md *pb.OpMetadata) string {
	if name := md.GetDescription()["llb.customname"]; name != "" {
		return name
	}
	switch {
	case op.GetExec() != nil:
		return strings.Join(op.GetExec().GetMeta().GetArgs(), " ")
	case op.GetSource() != nil:
		return op.GetSource().Identifier
	case op.GetFile() != nil:
		return "file operation"
	case op.GetMerge() != nil:
		return "merge"
	case op.GetDiff() != nil:
		return "diff"
	}
	return "build"
}

// sourceLine is an instruction by its first line.
type sourceLine struct {
	text string
	last int
}

// sourceLines finds the instructions of a Dockerfile.
func sourceLines(text []byte) map[int]sourceLine {
	lines := map[int]sourceLine{}
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return lines
	}
	for _, node := range parsed.AST.Children {
		lines[node.StartLine] = sourceLine{text: node.Original, last: node.EndLine}
	}
	return lines
}

// place finds where the instruction of a step stands. A base that several stages
// have stands in several places, and is shown in the first.
func place(s *api.BuildStep, source *pb.Source, sources []map[int]sourceLine) {
	for _, l := range source.GetLocations()[s.Vertex].GetLocations() {
		i := int(l.SourceIndex)
		if i < 0 || i >= len(sources) || len(l.Ranges) == 0 {
			continue
		}
		first := int(l.Ranges[0].GetStart().GetLine())
		if first <= 0 || s.First > 0 && s.First <= first {
			continue
		}
		s.File, s.First, s.Last = source.Infos[i].Filename, first, first
		for _, r := range l.Ranges {
			s.Last = max(s.Last, int(r.GetEnd().GetLine()))
		}
		if in, ok := sources[i][first]; ok {
			s.Instruction, s.Last = in.text, in.last
		}
		// A trigger of the base stands in the line of the FROM.
		if name := plainName(s.Name); strings.HasPrefix(name, "ONBUILD ") {
			s.Instruction = name
		}
	}
}

// withoutCache is what BuildKit calls a vertex that must not come from the cache
// while another build has it from there.
func withoutCache(d digest.Digest) digest.Digest {
	return digest.FromString(d.String() + "-ignorecache")
}

package build

import (
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"

	"github.com/portholehq/porthole/internal/build/history"
)

// localScheme begins the identifiers of what a client sends.
const localScheme = "local://"

// localName is the name of what a client sends; empty: it is something else.
func localName(op *pb.Op) string {
	name, _ := strings.CutPrefix(op.GetSource().GetIdentifier(), localScheme)
	if name == op.GetSource().GetIdentifier() {
		return ""
	}
	return name
}

// vertexInputs are what a vertex is made of, with its parents by their digests.
type vertexInputs struct {
	history.StepInputs
	parents []digest.Digest // the one whose files it starts from comes first
	sources []digest.Digest // of what a client sends, which it takes files of
	// root is what a RUN starts from, and mounted what it mounts files of, by
	// destination.
	root    digest.Digest
	mounted map[string]digest.Digest
}

// inputsOf reads what the vertices of a definition are made of. Digests of vertices
// cannot be compared between builds: a client's session is in them.
func inputsOf(def *pb.Definition, hash func(...string) string) map[digest.Digest]*vertexInputs {
	ops := map[digest.Digest]*pb.Op{}
	for _, raw := range def.Def {
		op := &pb.Op{}
		if op.UnmarshalVT(raw) == nil && op.Op != nil {
			ops[digest.FromBytes(raw)] = op
		}
	}
	locals := map[digest.Digest]string{} // their names
	for d, op := range ops {
		if name := localName(op); name != "" {
			locals[d] = name
		}
	}
	all := map[digest.Digest]*vertexInputs{}
	for d, op := range ops {
		v := &vertexInputs{}
		v.NoCache = def.Metadata[string(d)].GetIgnoreCache()
		for _, in := range op.Inputs {
			if p := digest.Digest(in.Digest); locals[p] == "" && !slices.Contains(v.parents, p) {
				v.parents = append(v.parents, p)
			}
		}
		switch {
		case op.GetExec() != nil:
			v.exec(op, locals, hash)
		case op.GetFile() != nil:
			v.file(op, locals)
		case op.GetSource() != nil && locals[d] == "":
			v.Source = op.GetSource().Identifier
		}
		op.Inputs = nil
		if src := op.GetSource(); src != nil {
			// Sessions and the like are in the attributes of what a client sends.
			src.Identifier = ""
			if locals[d] != "" {
				src.Attrs = nil
			}
		}
		if raw, err := (proto.MarshalOptions{Deterministic: true}).Marshal(op); err == nil {
			v.set("meaning", hash(string(raw)))
		}
		all[d] = v
	}
	return all
}

func (v *vertexInputs) set(name, hash string) {
	if v.Settings == nil {
		v.Settings = map[string]string{}
	}
	v.Settings[name] = hash
}

// exec takes over what a RUN is made of, and takes it out of the operation.
func (v *vertexInputs) exec(op *pb.Op, locals map[digest.Digest]string, hash func(...string) string) {
	x := op.GetExec()
	v.Env, v.Mounts = map[string]string{}, map[string]string{}
	for _, e := range x.GetMeta().GetEnv() {
		name, value, _ := strings.Cut(e, "=")
		v.Env[name] = hash(value)
	}
	for _, m := range x.Mounts {
		var source digest.Digest
		if m.Input >= 0 && int(m.Input) < len(op.Inputs) {
			source = digest.Digest(op.Inputs[m.Input].Digest)
		}
		if name := locals[source]; name != "" {
			v.sources = append(v.sources, source)
			v.Takes = append(v.Takes, history.Take{Context: name, Path: "/" + strings.TrimPrefix(m.Selector, "/")})
		}
		if m.Dest == "/" {
			v.root = source
			continue
		}
		if source != "" && locals[source] == "" {
			if v.mounted == nil {
				v.mounted = map[string]digest.Digest{}
			}
			v.mounted[m.Dest] = source
		}
		// Numbers of inputs and outputs say nothing by themselves.
		m.Input, m.Output = 0, 0
		if raw, err := (proto.MarshalOptions{Deterministic: true}).Marshal(m); err == nil {
			v.Mounts[m.Dest] = hash(string(raw))
		}
	}
	if meta := x.Meta; meta != nil {
		v.set("user", hash(meta.User))
		v.set("working directory", hash(meta.Cwd))
		v.set("command", hash(meta.Args...))
		meta.Env, meta.User, meta.Cwd, meta.Args = nil, "", "", nil
	}
	v.set("network", hash(x.Network.String()))
	x.Mounts, x.Network = nil, 0
}

// file takes over what a COPY or an ADD takes of a client's files.
func (v *vertexInputs) file(op *pb.Op, locals map[digest.Digest]string) {
	for _, a := range op.GetFile().GetActions() {
		c := a.GetCopy()
		if c == nil || a.SecondaryInput < 0 || int(a.SecondaryInput) >= len(op.Inputs) {
			continue
		}
		source := digest.Digest(op.Inputs[a.SecondaryInput].Digest)
		name := locals[source]
		if name == "" {
			continue
		}
		v.sources = append(v.sources, source)
		v.Takes = append(v.Takes, history.Take{
			Context: name, Path: "/" + strings.TrimPrefix(c.Src, "/"), Wildcard: c.AllowWildcard,
			Include: c.IncludePatterns, Exclude: c.ExcludePatterns,
		})
	}
}

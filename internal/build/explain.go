package build

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/build/history"
)

// inputsLocked are what the steps were made of; nil: that is not recorded.
func (r *recording) inputsLocked() *history.Inputs {
	if r.hash == nil || r.build.Door == doorDebug {
		return nil
	}
	in := &history.Inputs{Steps: map[int]history.StepInputs{}, Files: r.files}
	for i := range r.build.Steps {
		s := &r.build.Steps[i]
		v := r.inputs[digest.Digest(s.Vertex)]
		if v == nil || s.Number == 0 {
			continue
		}
		step := v.StepInputs
		number := func(p digest.Digest) int {
			if k, ok := r.known[p]; ok && k != i {
				return r.build.Steps[k].Number
			}
			return 0
		}
		for _, p := range v.parents {
			if n := number(p); n > 0 {
				step.Parents = append(step.Parents, n)
			}
		}
		step.Root = number(v.root)
		for dest, p := range v.mounted {
			if n := number(p); n > 0 {
				if step.MountsFrom == nil {
					step.MountsFrom = map[string]int{}
				}
				step.MountsFrom[dest] = n
			}
		}
		in.Steps[s.Number] = step
	}
	return in
}

// explain fills in why the steps of a build that has ended were done or not, and
// keeps what the next one is compared with.
func (r *recording) explain(b *api.Build, in *history.Inputs) {
	if in == nil {
		return
	}
	e := &explainer{build: b, in: in, causes: map[int][]api.BuildCause{}}
	var err error
	if e.before, err = r.store.Newest(func(old *api.Build) bool { return sameThing(b, old) }); err != nil {
		r.log.Warn("steps of a build are not explained", "build", b.ID, "err", err)
		return
	}
	if e.before != nil {
		b.Before = e.before.ID
		if e.old, err = r.store.Inputs(e.before.ID); err != nil {
			e.old = nil
			if !errdefs.IsNotFound(err) {
				r.log.Warn("inputs of a build cannot be read", "build", e.before.ID, "err", err)
			}
		}
		e.match()
	}
	for i := range b.Steps {
		if s := &b.Steps[i]; s.Number > 0 {
			s.Causes = e.why(s)
		}
	}
	if err := r.store.PutInputs(b.ID, in); err != nil {
		r.log.Warn("inputs of a build are not recorded", "build", b.ID, "err", err)
	}
}

// sameThing tells whether a build that has ended is one of what b builds: of the
// same context, as far as that has a name, Dockerfile, target, platforms and tags,
// with an instruction in common besides what begins a stage. The names of
// directories on a client's side are not known.
func sameThing(b, old *api.Build) bool {
	if old.ID == b.ID || old.Door == doorDebug || old.State == api.BuildRunning || !old.CreatedAt.Before(b.CreatedAt) ||
		old.Context != b.Context || old.Dockerfile != b.Dockerfile || old.Target != b.Target || !slices.Equal(old.Platforms, b.Platforms) {
		return false
	}
	tags := func(b *api.Build) []string { return slices.Sorted(slices.Values(b.Tags)) }
	if !slices.Equal(tags(old), tags(b)) {
		return false
	}
	if len(b.Tags) > 0 {
		return true
	}
	alone := true // there are none besides what begins a stage
	for _, s := range b.Steps {
		if s.Number == 0 || s.Instruction == "" || isFrom(&s) {
			continue
		}
		alone = false
		if slices.ContainsFunc(old.Steps, func(o api.BuildStep) bool { return o.Instruction == s.Instruction }) {
			return true
		}
	}
	return alone && old.Text == b.Text
}

func isFrom(s *api.BuildStep) bool {
	verb, _, _ := strings.Cut(s.Instruction, " ")
	return strings.EqualFold(verb, "FROM")
}

// explainer compares a build with the one before.
type explainer struct {
	build, before *api.Build // before: nil if there is none
	in, old       *history.Inputs
	pairs         map[int]*api.BuildStep // the step of before for each of build
	replaced      map[int]bool           // the instruction there is another
	causes        map[int][]api.BuildCause
	declared      map[string]bool // names of build arguments; nil: not read yet
}

// match finds for each step the one of the build before that it is to be compared
// with: that of the same instruction, in order, or else what stands in its place.
func (e *explainer) match() {
	e.pairs, e.replaced = map[int]*api.BuildStep{}, map[int]bool{}
	used := map[int]bool{}
	key := func(s *api.BuildStep) string {
		platform, _, _ := strings.Cut(strings.TrimPrefix(s.Name, "["), " ")
		if !strings.Contains(platform, "/") || !strings.HasPrefix(s.Name, "[") || strings.Contains(platform, "]") {
			platform = ""
		}
		return platform + "\x00" + title(s)
	}
	for i := range e.build.Steps {
		s := &e.build.Steps[i]
		for k := range e.before.Steps {
			o := &e.before.Steps[k]
			if s.Number > 0 && o.Number > 0 && !used[o.Number] && key(o) == key(s) {
				e.pairs[s.Number], used[o.Number] = o, true
				break
			}
		}
	}
	for i := range e.build.Steps {
		s := &e.build.Steps[i]
		if o := e.before.Step(s.Number); o != nil && e.pairs[s.Number] == nil && !used[o.Number] {
			e.pairs[s.Number], used[o.Number], e.replaced[s.Number] = o, true, true
		}
	}
}

// title is what stands for a step in a Dockerfile, or its name.
func title(s *api.BuildStep) string {
	if s.Instruction != "" {
		return s.Instruction
	}
	return plainName(s.Name)
}

// why tells why a step was done, or was not.
func (e *explainer) why(s *api.BuildStep) []api.BuildCause {
	switch s.State {
	case api.StepNotRun:
		return []api.BuildCause{e.notRun()}
	case api.StepCached:
		return []api.BuildCause{e.hit(s)}
	}
	in, known := e.in.Steps[s.Number]
	switch {
	case !known && s.Vertex == "":
		return []api.BuildCause{{Kind: api.CauseSame, Text: "the same as a step before it"}}
	case !known:
		return []api.BuildCause{{Kind: api.CauseUnknown, Text: "not known: what it is made of was not told"}}
	case in.NoCache:
		return []api.BuildCause{{Kind: api.CauseNoCache, Text: "not looked for in the cache (--no-cache)"}}
	case e.before == nil:
		return []api.BuildCause{{Kind: api.CauseFirst, Text: "never built before, as far as is recorded"}}
	}
	list := e.changes(s.Number)
	if len(list) == 0 {
		list = append(list, e.lost(s, in))
	}
	return list
}

// notRun tells why a step was not done.
func (e *explainer) notRun() api.BuildCause {
	for _, s := range e.build.Steps {
		if s.State == api.BuildFailed && s.Number > 0 {
			return api.BuildCause{Kind: api.CauseNotRun, Step: s.Number, Text: fmt.Sprintf("not run: step %d failed", s.Number)}
		}
	}
	text := "not run: the build " + e.build.State
	switch e.build.State {
	case api.BuildDone:
		text = "not needed: the result of a later step was in the cache, or nothing uses it"
	case api.BuildFailed:
		text = "not run: the build failed before it"
	case api.BuildCanceled:
		text = "not run: the build was canceled"
	}
	return api.BuildCause{Kind: api.CauseNotRun, Text: text}
}

// hit tells of a step whose result was in the cache.
func (e *explainer) hit(s *api.BuildStep) api.BuildCause {
	text := "in the cache"
	if e.before != nil && e.old != nil {
		switch known := e.known(s.Number); {
		case known && len(e.changes(s.Number)) == 0:
			text = "in the cache: nothing has changed"
		case known:
			text = "in the cache, from a build before the last"
		}
	}
	return api.BuildCause{Kind: api.CauseHit, Text: text}
}

// known tells whether a step can be compared.
func (e *explainer) known(n int) bool {
	if e.old == nil || e.pairs[n] == nil {
		return false
	}
	_, now := e.in.Steps[n]
	_, then := e.old.Steps[e.pairs[n].Number]
	return now && then
}

// lost tells of a step that was done though nothing of it has changed.
func (e *explainer) lost(s *api.BuildStep, in history.StepInputs) api.BuildCause {
	o := e.pairs[s.Number]
	switch {
	case o.State == api.BuildFailed:
		return api.BuildCause{Kind: api.CauseBefore, Text: "it failed in the build before"}
	case o.State != api.BuildDone && o.State != api.StepCached:
		return api.BuildCause{Kind: api.CauseBefore, Text: "it did not come to an end in the build before: " + o.State}
	case !e.known(s.Number):
		return api.BuildCause{Kind: api.CauseUnknown, Text: "not known: of the build before is not recorded what it was made of"}
	case in.Source != "":
		return api.BuildCause{Kind: api.CauseSame, Text: "looked up: the same as before"}
	case e.uncertain(in):
		return api.BuildCause{Kind: api.CauseUnknown, Text: fmt.Sprintf("not known: no more than %d files of the context are recorded one by one", mostFiles)}
	}
	for _, p := range in.Parents {
		switch causes := e.causesOf(p); {
		case len(causes) == 1 && (causes[0].Kind == api.CauseNoCache || causes[0].Kind == api.CauseUnknown):
			return api.BuildCause{Kind: api.CauseParent, Step: p, Text: fmt.Sprintf("step %d was done again", p)}
		case e.fetches(p) != "":
			return api.BuildCause{Kind: api.CauseUnknown, Step: p, Text: fmt.Sprintf("not known: what is behind step %d is not compared, or it is not in the cache any more", p)}
		}
	}
	return api.BuildCause{Kind: api.CausePruned, Text: "nothing has changed: its result is not in the cache any more"}
}

// causesOf are those of another step of the same build, which stands before.
func (e *explainer) causesOf(n int) []api.BuildCause {
	if s := e.build.Step(n); s != nil {
		return s.Causes
	}
	return nil
}

// fetches is what a step fetches that may be another thing each time.
func (e *explainer) fetches(n int) string {
	src := e.in.Steps[n].Source
	if strings.Contains(src, "@sha256:") {
		return ""
	}
	return src
}

// uncertain tells that a step takes files of a context that was not listed whole
// and is another one than before.
func (e *explainer) uncertain(in history.StepInputs) bool {
	for _, t := range in.Takes {
		now, then := e.in.Files[t.Context], e.old.Files[t.Context]
		if now == nil || then == nil || now.Root != then.Root && (now.Cut || then.Cut) {
			return true
		}
	}
	return false
}

// changes are the differences of a step to the one of the build before.
func (e *explainer) changes(n int) []api.BuildCause {
	if list, ok := e.causes[n]; ok {
		return list
	}
	e.causes[n] = nil // definitions have no cycles; a record that has must not end us
	o := e.pairs[n]
	switch {
	case o == nil:
		e.causes[n] = []api.BuildCause{{Kind: api.CauseNew, Text: "new: the build before has no such instruction"}}
		return e.causes[n]
	case e.replaced[n]:
		was := strings.Join(strings.Fields(title(o)), " ")
		e.causes[n] = append(e.mountsAlone(n, o.Number), api.BuildCause{Kind: api.CauseInstruction, Text: "instruction changed, was: " + was})
		return e.causes[n]
	case !e.known(n):
		return nil
	}
	now, then := e.in.Steps[n], e.old.Steps[o.Number]
	var list []api.BuildCause
	if now.Source != then.Source {
		list = append(list, sourceChange(now.Source, then.Source))
	}
	list = append(list, e.ownChanges(n, now, then)...)
	if c, ok := e.filesChange(now.Takes); ok {
		list = append(list, c)
	}
	for _, p := range now.Parents {
		if len(e.changes(p)) > 0 {
			list = append(list, parentChange(now, p))
		}
	}
	e.causes[n] = list
	return list
}

// parentChange tells that a step has changed which another starts from, copies from,
// or mounts.
func parentChange(now history.StepInputs, p int) api.BuildCause {
	for dest, from := range now.MountsFrom {
		if from == p && p != now.Root {
			return api.BuildCause{Kind: api.CauseMount, Name: dest, Step: p, Text: fmt.Sprintf("mount %s changed: it is of step %d", dest, p)}
		}
	}
	return api.BuildCause{Kind: api.CauseParent, Step: p, Text: fmt.Sprintf("parent changed (step %d)", p)}
}

// mountsAlone tells of the mounts of a RUN that stands in the place of one with the
// same command: step was of the build before.
func (e *explainer) mountsAlone(n, was int) []api.BuildCause {
	if e.old == nil {
		return nil
	}
	now, then := e.in.Steps[n], e.old.Steps[was]
	if c := now.Settings["command"]; c == "" || c != then.Settings["command"] {
		return nil
	}
	return mountChanges(now, then)
}

// mountChanges are the mounts that two steps do not have alike.
func mountChanges(now, then history.StepInputs) []api.BuildCause {
	var list []api.BuildCause
	for _, dest := range differing(now.Mounts, then.Mounts) {
		how := "changed"
		if _, ok := then.Mounts[dest]; !ok {
			how = "added"
		} else if _, ok := now.Mounts[dest]; !ok {
			how = "removed"
		}
		list = append(list, api.BuildCause{Kind: api.CauseMount, Name: dest, Text: "mount " + dest + " " + how})
	}
	return list
}

// sourceChange tells that another thing is fetched.
func sourceChange(now, then string) api.BuildCause {
	c := api.BuildCause{Kind: api.CauseBase, Text: "fetches " + now + ", was " + then}
	a, nowDigest, ok := strings.Cut(now, "@sha256:")
	b, thenDigest, was := strings.Cut(then, "@sha256:")
	if ok && was && a == b {
		c.Text = fmt.Sprintf("digest of the base image changed: %s, was %s", shortID(nowDigest), shortID(thenDigest))
	}
	return c
}

// ownChanges are those of what a step is run with.
func (e *explainer) ownChanges(n int, now, then history.StepInputs) []api.BuildCause {
	var list []api.BuildCause
	if e.declared == nil {
		e.declared = argNames(e.build.Text)
	}
	for _, name := range differing(now.Env, then.Env) {
		c := api.BuildCause{Kind: api.CauseEnv, Name: name, Text: "environment variable " + name + " changed"}
		if e.declared[name] {
			c.Kind, c.Text = api.CauseArgument, "build argument "+name+" changed"
		}
		list = append(list, c)
	}
	list = append(list, mountChanges(now, then)...)
	settings := differing(now.Settings, then.Settings)
	if len(list) > 0 {
		// Arguments are in the operation itself as well.
		settings = slices.DeleteFunc(settings, func(s string) bool { return s == "meaning" })
	}
	for _, name := range settings {
		if name != "meaning" || now.Source == "" {
			list = append(list, e.settingChange(n, name))
		}
	}
	return list
}

// settingChange tells of something else that a step is run with. What the
// instruction's own variables stand for is in its meaning.
func (e *explainer) settingChange(n int, name string) api.BuildCause {
	if name != "meaning" {
		return api.BuildCause{Kind: api.CauseSetting, Name: name, Text: name + " changed"}
	}
	instruction := e.build.Step(n).Instruction
	for _, arg := range differing(e.build.Args, e.before.Args) {
		if strings.Contains(instruction, "$"+arg) || strings.Contains(instruction, "${"+arg) {
			return api.BuildCause{Kind: api.CauseArgument, Name: arg, Text: "build argument " + arg + " changed"}
		}
	}
	return api.BuildCause{Kind: api.CauseSetting, Name: name, Text: "what the instruction stands for changed: a variable in it, its options, or what an inline file holds"}
}

// differing are the names that two maps do not agree on, sorted.
func differing(now, then map[string]string) []string {
	names := map[string]bool{}
	for name, v := range now {
		if w, ok := then[name]; !ok || v != w {
			names[name] = true
		}
	}
	for name := range then {
		if _, ok := now[name]; !ok {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// argNames are the build arguments that a Dockerfile declares.
func argNames(text string) map[string]bool {
	names := map[string]bool{}
	for _, in := range sourceLines([]byte(text)) {
		verb, rest, _ := strings.Cut(in.text, " ")
		if !strings.EqualFold(verb, "ARG") {
			continue
		}
		for word := range strings.FieldsSeq(rest) {
			name, _, _ := strings.Cut(word, "=")
			names[name] = true
		}
	}
	return names
}

// mostChanges is how many files a cause names.
const mostChanges = 20

// filesChange tells of the files that differ in what a step takes of contexts;
// false: there are none that are known.
func (e *explainer) filesChange(takes []history.Take) (api.BuildCause, bool) {
	c := api.BuildCause{Kind: api.CauseFiles}
	cut := false
	for _, t := range takes {
		now, then := e.in.Files[t.Context], e.old.Files[t.Context]
		if now == nil || then == nil || now.Root == then.Root {
			continue
		}
		cut = cut || now.Cut || then.Cut
		for _, f := range fileChanges(t, now, then) {
			if !slices.Contains(c.Files, f) {
				c.Files = append(c.Files, f)
			}
		}
	}
	if len(c.Files) == 0 {
		return c, false
	}
	slices.SortFunc(c.Files, func(a, b api.BuildFileChange) int { return strings.Compare(a.Path, b.Path) })
	if len(c.Files) > mostChanges {
		c.More, c.Files = len(c.Files)-mostChanges, c.Files[:mostChanges]
	}
	c.Text = filesText(&c, cut)
	return c, true
}

// fileChanges are the differences of what a step takes of a context.
func fileChanges(t history.Take, now, then *history.Files) []api.BuildFileChange {
	taken, err := newTaker(t, now)
	if err != nil {
		return nil // BuildKit has refused the pattern
	}
	was, err := newTaker(t, then)
	if err != nil {
		return nil
	}
	var list []api.BuildFileChange
	for name, f := range now.List {
		if !taken.takes(name) {
			continue
		}
		o, ok := then.List[name]
		switch ok = ok && was.takes(name); {
		case !ok && !then.Cut:
			list = append(list, api.BuildFileChange{Path: name, Change: "added"})
		case ok && f.Mode != o.Mode && f.Size == o.Size && !f.Whole && !o.Whole:
			list = append(list, api.BuildFileChange{Path: name, Change: "mode"})
		case ok && f.Whole != o.Whole:
			// What is in it was listed in one of them only.
		case ok && f.Whole:
			if f != o && taken.include == nil && taken.exclude == nil {
				list = append(list, api.BuildFileChange{Path: name + "/", Change: "changed"})
			}
		case ok && f != o:
			list = append(list, api.BuildFileChange{Path: name, Change: "changed"})
		}
	}
	for name := range then.List {
		if _, ok := now.List[name]; was.takes(name) && (!ok || !taken.takes(name)) && !now.Cut {
			list = append(list, api.BuildFileChange{Path: name, Change: "removed"})
		}
	}
	return list
}

// shownChanges is how many files the text of a cause names.
const shownChanges = 3

func filesText(c *api.BuildCause, cut bool) string {
	var parts []string
	for _, f := range c.Files[:min(len(c.Files), shownChanges)] {
		how := f.Change
		if how == "mode" {
			how = "has another mode"
		}
		parts = append(parts, f.Path+" "+how)
	}
	text := "files of the context: " + strings.Join(parts, ", ")
	if more := len(c.Files) + c.More - len(parts); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if cut {
		text += fmt.Sprintf(" (of more than %d files: some directories are compared as a whole)", mostFiles)
	}
	return text
}

package build

import (
	"strings"

	"github.com/portholehq/porthole/api"
)

// LocateLayers fills in where the instructions stand that made the layers of an
// image, lowest first, by the record of the newest build that made it, and returns
// the ID of that; empty: there is none. Only an instruction that is the same to
// the letter counts: a wrong line is worse than none.
func (b *Builder) LocateLayers(imageID string, layers []api.ImageLayer) string {
	s := b.buildOf(imageID)
	if s == nil {
		return ""
	}
	// Of two stages the one that stands further down is more likely the image's, and
	// the layers of what it is based on come first.
	rest := s.Steps
	for n := len(layers) - 1; n >= 0; n-- {
		want := plainInstruction(layers[n].CreatedBy)
		for k := len(rest) - 1; k >= 0; k-- {
			if st := rest[k]; st.First > 0 && plainInstruction(st.Instruction) == want {
				layers[n].File, layers[n].Line = st.File, st.First
				rest = rest[:k]
				break
			}
		}
	}
	return s.ID
}

// buildOf is the record of the newest build that made an image; nil: there is
// none.
func (b *Builder) buildOf(imageID string) *api.Build {
	list, err := b.Builds()
	if err != nil {
		b.log.Warn("records of builds cannot be read", "err", err)
		return nil
	}
	for _, s := range list {
		if s.Image != imageID {
			continue
		}
		if full, err := b.Build(s.ID); err == nil {
			return full
		}
	}
	return nil
}

// plainInstruction takes away what builders add to an instruction in a history:
// "RUN |1 V=1 /bin/sh -c make # buildkit" is "RUN make".
func plainInstruction(s string) string {
	s = strings.TrimSuffix(strings.TrimSpace(s), "# buildkit")
	verb, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
	if strings.EqualFold(verb, "RUN") {
		if _, command, ok := strings.Cut(rest, "/bin/sh -c "); ok && (strings.HasPrefix(rest, "|") || strings.HasPrefix(rest, "/bin/sh -c ")) {
			rest = command
		}
	}
	return strings.ToUpper(verb) + " " + strings.Join(strings.Fields(rest), " ")
}

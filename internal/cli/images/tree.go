package images

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/containerd/platforms"
	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"
)

// writeTree prints images with the platforms that each has, as Docker does where its output is no terminal.
func writeTree(out io.Writer, list []image.Summary) error {
	slices.SortStableFunc(list, func(a, b image.Summary) int {
		x, y := names(a), names(b)
		if untagged := (len(a.RepoTags) == 0); untagged != (len(b.RepoTags) == 0) {
			if untagged {
				return 1
			}
			return -1
		}
		return strings.Compare(x[0], y[0])
	})
	w := tabwriter.NewWriter(out, 0, 1, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tEXTRA")
	for _, img := range list {
		all := names(img)
		for _, name := range all[:len(all)-1] {
			_, _ = fmt.Fprintln(w, name+"\t\t\t\t")
		}
		var content int64
		children := manifests(img)
		for _, m := range children {
			content += m.Size.Content
		}
		treeLine(w, all[len(all)-1], img.ID, img.Size, content, img.Containers > 0)
		for i, m := range children {
			branch := "├─ "
			if i == len(children)-1 {
				branch = "└─ "
			}
			treeLine(w, branch+platforms.Format(m.ImageData.Platform), m.ID, m.Size.Total, m.Size.Content, len(m.ImageData.Containers) > 0)
		}
	}
	return w.Flush()
}

// names are an image's names, sorted, or what stands for none.
func names(img image.Summary) []string {
	if len(img.RepoTags) == 0 {
		return []string{"<untagged>"}
	}
	return slices.Sorted(slices.Values(img.RepoTags))
}

func manifests(img image.Summary) []image.ManifestSummary {
	return slices.DeleteFunc(slices.Clone(img.Manifests), func(m image.ManifestSummary) bool { return m.ImageData == nil })
}

func treeLine(w io.Writer, name, id string, total, content int64, used bool) {
	extra := ""
	if used {
		extra = "U"
	}
	size := func(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
	_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, formatter.TruncateID(id), size(total), size(content), extra)
}

package server

import (
	"context"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/image/layers"
)

// layersFake has images of two layers.
type layersFake struct{ Backend }

func (layersFake) ImageLayers(_ context.Context, _ string, hidden int) (image.Layering, error) {
	l := image.Layering{ID: "sha256:2", Layers: []image.Layer{{Usage: layers.Usage{Files: 2, Bytes: 5, HiddenFiles: 1, HiddenBytes: 3}}, {}}}
	if hidden > 0 {
		l.Hidden = []layers.Hidden{{Path: "/a", By: 1, Bytes: 3, Removed: true}}
	}
	return l, nil
}

func (layersFake) ImageBlame(_ context.Context, ref, path string) (image.Blame, error) {
	if path != "/etc/a" {
		return image.Blame{}, errdefs.ErrNotFound.WithMessage("no layer of image " + ref + " has " + path)
	}
	return image.Blame{
		ID: "sha256:2", Path: path, Layers: []image.Layer{{CreatedBy: "one"}, {CreatedBy: "two"}},
		Touches: []layers.Touch{
			{Layer: 1, Action: layers.Removed, What: []string{"/etc"}},
			{Layer: 0, Action: layers.Added, Stat: unix.Stat_t{Mode: 0o100644, Uid: 7, Size: 3, Mtim: unix.Timespec{Sec: 1e9}}},
		},
	}, nil
}

func TestImageLayers(t *testing.T) {
	d := serve(t, &fake{Backend: layersFake{}})
	two := `{"Image":"sha256:2","Layers":[{"Number":1,"DiffId":"","Files":2,"Bytes":5,"HiddenFiles":1,"HiddenBytes":3},{"Number":2,"DiffId":""}],`
	for _, c := range []struct {
		path   string
		status int
		want   string
	}{
		{"a/b:1/layers", 200, two + `"Hidden":[{"Path":"/a","Layer":1,"By":2,"Bytes":3,"Removed":true}]}`},
		{"a/layers?hidden=0", 200, two + `"Hidden":[]}`},
		{"a/layers?hidden=-1", 400, `hidden must be from 0 to 10000`},
		{"a/layers?hidden=x", 400, `invalid syntax`},
		{"a/blame?path=/etc/a", 200, `{"Image":"sha256:2","Path":"/etc/a","Touches":[` +
			`{"Number":2,"DiffId":"","CreatedBy":"two","Action":"removed","What":["/etc"]},` +
			`{"Number":1,"DiffId":"","CreatedBy":"one","Action":"added","Mode":33188,"Uid":7,"Size":3,"ModifiedAt":"2001-09-09T01:46:40Z"}]}`},
		{"a/blame", 400, `path is missing`},
		{"a/blame?path=/b", 404, `no layer of image a has /b`},
	} {
		resp, body := d.ask(t, get, "/porthole/images/"+c.path, "")
		if resp.StatusCode != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d %s, want %d %s", c.path, resp.StatusCode, body, c.status, c.want)
		}
	}
}

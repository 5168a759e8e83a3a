package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/engine"
)

// archiver is a backend that only knows about files.
type archiver struct {
	fake
	got      string // what was asked for last
	breakOff bool
}

func (a *archiver) ContainerStatPath(_ context.Context, ref, path string) (container.PathStat, error) {
	a.got = "stat " + ref + " " + path
	if path == "/nosuch" {
		return container.PathStat{}, errdefs.ErrNotFound.WithMessage("Could not find the file /nosuch in container " + ref)
	}
	return container.PathStat{Name: "etc", Mode: fs.ModeDir | 0o755, Size: 4096, LinkTarget: ""}, nil
}

func (a *archiver) ContainerArchive(ctx context.Context, ref, path string, open func(container.PathStat) (io.Writer, error)) error {
	st, err := a.ContainerStatPath(ctx, ref, path)
	if err != nil {
		return err
	}
	w, err := open(st)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, "archive"); err != nil || a.breakOff {
		return errors.New("disk on fire")
	}
	return nil
}

func (a *archiver) ContainerExport(_ context.Context, _ string, open func() (io.Writer, error)) error {
	w, err := open()
	if err == nil {
		_, err = io.WriteString(w, "everything")
	}
	return err
}

func (a *archiver) ContainerExtract(_ context.Context, ref, path string, r io.Reader, o engine.ExtractOptions) error {
	data, err := io.ReadAll(r)
	a.got = fmt.Sprintf("extract %s %s %s %+v", ref, path, data, o)
	return err
}

func (a *archiver) ContainerChanges(context.Context, string) ([]container.FilesystemChange, error) {
	return []container.FilesystemChange{{Path: "/a", Kind: container.ChangeAdd}, {Path: "/d", Kind: container.ChangeDelete}}, nil
}

func (a *archiver) ContainerCommit(_ context.Context, ref string, o engine.CommitOptions) (string, error) {
	user := "-"
	if o.Config != nil {
		user = o.Config.User
	}
	a.got = fmt.Sprintf("commit %s %s:%s by %s: %s %q pause=%t user %s", ref, o.Repo, o.Tag, o.Author, o.Comment, o.Changes, o.Pause, user)
	return "sha256:1", nil
}

func TestArchiveEndpoints(t *testing.T) {
	a := &archiver{}
	d := serve(t, nil, func(o *Options) { o.Backend = a })
	tests := []struct {
		name         string
		method, path string
		body         string
		status       int
		want, got    string
	}{
		{"get", get, "/containers/web/archive?path=/etc", "", 200, "archive", "stat web /etc"},
		{"get nothing", get, "/containers/web/archive?path=/nosuch", "", 404, `{"message":"Could not find the file /nosuch in container web"}`, "stat web /nosuch"},
		{"no path", get, "/containers/web/archive", "", 400, `{"message":"bad parameter: path cannot be empty"}`, ""},
		{"put", put, "/containers/web/archive?path=/etc&noOverwriteDirNonDir=true", "tar", 200, "", "extract web /etc tar {KeepKinds:true ToUser:false}"},
		{"put with owner", put, "/containers/web/archive?path=.&copyUIDGID=1", "tar", 200, "", "extract web . tar {KeepKinds:false ToUser:true}"},
		{"export", get, "/containers/web/export", "", 200, "everything", ""},
		{"changes", get, "/containers/web/changes", "", 200, `[{"Kind":1,"Path":"/a"},{"Kind":2,"Path":"/d"}]`, ""},
		{
			"commit", post, "/commit?container=web&repo=my/app&tag=v1&author=me&comment=why&changes=CMD+x&changes=ENV+a%3Db", "null",
			201, `{"Id":"sha256:1"}`, `commit web my/app:v1 by me: why ["CMD x" "ENV a=b"] pause=true user -`,
		},
		{"commit without pause or name", post, "/commit?container=web&pause=0", `{"User":"joe"}`, 201, `{"Id":"sha256:1"}`, `commit web : by :  [] pause=false user joe`},
		{"commit to a bad name", post, "/commit?container=web&repo=UP", "", 400, `{"message":"invalid reference format: repository name (library/UP) must be lowercase"}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a.got = ""
			resp, body := d.ask(t, tt.method, tt.path, tt.body)
			if resp.StatusCode != tt.status || strings.TrimSuffix(body, "\n") != tt.want {
				t.Errorf("answer %d %s\nwant %d %s", resp.StatusCode, body, tt.status, tt.want)
			}
			if diff := cmp.Diff(tt.got, a.got); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPathStatHeader(t *testing.T) {
	d := serve(t, nil, func(o *Options) { o.Backend = &archiver{} })
	for _, method := range []string{get, head} {
		resp, _ := d.ask(t, method, "/containers/web/archive?path=/etc", "")
		text, err := base64.StdEncoding.DecodeString(resp.Header.Get(pathStat))
		if err != nil {
			t.Fatal(err)
		}
		var st container.PathStat
		if err := json.Unmarshal(text, &st); err != nil || st.Name != "etc" || !st.Mode.IsDir() || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d, %+v, %v", method, resp.StatusCode, st, err)
		}
	}
}

func TestArchiveThatBreaksOffIsNoArchive(t *testing.T) {
	d := serve(t, nil, func(o *Options) { o.Backend = &archiver{breakOff: true} })
	req, _ := http.NewRequestWithContext(t.Context(), get, "http://d/containers/web/archive?path=/etc", http.NoBody)
	resp, err := d.http.Do(req)
	if err == nil {
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		t.Error("an archive that broke off looks whole")
	}
}

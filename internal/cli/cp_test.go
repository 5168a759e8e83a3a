package cli

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/cli/copytar"
)

// cpCases copy between a container and the working directory, both of which
// have: the file f, the directory d with the file d/x, and the directory e.
var cpCases = []struct {
	line string
	want []string // new files on the side that was written to
	fail string
}{
	{"c:/f .", []string{"f=c"}, ""},
	{"c:/f new", []string{"new=c"}, ""},
	{"c:/f f", []string{"f=c"}, ""},
	{"c:/f e", []string{"e/f=c"}, ""},
	{"c:/f e/new", []string{"e/new=c"}, ""},
	{"c:/f no/", nil, "no such directory"},
	{"c:/f no/new", nil, "invalid output path"},
	{"c:/d .", []string{"d/x=c"}, ""},
	{"c:/d new", []string{"new/x=c"}, ""},
	{"c:/d e", []string{"e/d/x=c"}, ""},
	{"c:/d/. e", []string{"e/x=c"}, ""},
	{"c:/d/. new", []string{"new/x=c"}, ""},
	{"c:/d f", nil, "cannot copy directory"},
	{"c:/no .", nil, "Could not find the file /no in container c"},
	{"f c:/", []string{"f=l"}, ""},
	{"f c:/new", []string{"new=l"}, ""},
	{"f c:/e", []string{"e/f=l"}, ""},
	{"f c:/e/new", []string{"e/new=l"}, ""},
	{"f c:/no/", nil, "no such directory"},
	{"d c:/", []string{"d/x=l"}, ""},
	{"d c:/new", []string{"new/x=l"}, ""},
	{"d c:/e", []string{"e/d/x=l"}, ""},
	{"d/. c:/e", []string{"e/x=l"}, ""},
	{"d c:/f", nil, "cannot copy directory"},
	{"no c:/", nil, "no such file or directory"},
	{"f d", nil, "must specify at least one container source"},
	{"c:/f c:/e", nil, "copying between containers is not supported"},
	{"- c:/f", nil, `destination "c:/f" must be a directory`},
}

func TestCp(t *testing.T) {
	programs := map[string]program{"porthole": porthole(t)}
	if *update { // the table is ours; this says whether it is Docker's too
		programs["docker"] = docker28(t)
	}
	for name, p := range programs {
		for _, c := range cpCases {
			t.Run(name+" "+c.line, func(t *testing.T) {
				t.Parallel()
				if name == "docker" && c.line == "c:/d/. new" {
					return // wants its daemon's "./x" where the fixture has "x"
				}
				local, remote := cpTree(t, "l"), cpTree(t, "c")
				cmd := p.command(t, newFakeAPI(t, archiveFixture(remote)).host, append([]string{"cp"}, strings.Fields(c.line)...)...)
				cmd.Dir = local
				out, err := cmd.CombinedOutput()
				if c.fail != "" {
					if err == nil || !strings.Contains(string(out), c.fail) {
						t.Errorf("%v: %s, want %q", err, out, c.fail)
					}
				} else if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				side, before := local, cpFiles(t, cpTree(t, "l"))
				if strings.Contains(c.line, " c:") {
					side, before = remote, cpFiles(t, cpTree(t, "c"))
				}
				want := before
				for _, f := range c.want {
					file, text, _ := strings.Cut(f, "=")
					want[file] = text
				}
				if diff := cmp.Diff(want, cpFiles(t, side)); diff != "" {
					t.Errorf("files (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func cpTree(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "d"), 0o755), os.Mkdir(filepath.Join(dir, "e"), 0o755),
		os.WriteFile(filepath.Join(dir, "f"), []byte(text), 0o644), os.WriteFile(filepath.Join(dir, "d", "x"), []byte(text), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func cpFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// archiveFixture is a container "c" whose files are those of root.
func archiveFixture(root string) *http.ServeMux {
	mux := http.NewServeMux()
	stat := func(w http.ResponseWriter, r *http.Request) (file string, ok bool) {
		name := r.URL.Query().Get("path")
		file = filepath.Join(root, name)
		info, err := os.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			refuse(w, http.StatusNotFound, "Could not find the file "+name+" in container c")
			return "", false
		}
		text, _ := json.Marshal(object{"name": info.Name(), "size": info.Size(), "mode": info.Mode(), "mtime": info.ModTime()})
		w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(text))
		return file, true
	}
	mux.HandleFunc("HEAD /containers/c/archive", func(w http.ResponseWriter, r *http.Request) { stat(w, r) })
	mux.HandleFunc("GET /containers/c/archive", func(w http.ResponseWriter, r *http.Request) {
		if file, ok := stat(w, r); ok {
			w.Header().Set("Content-Type", "application/x-tar")
			_, name := copytar.Split(r.URL.Query().Get("path"))
			_ = copytar.Pack(w, file, name)
		}
	})
	mux.HandleFunc("PUT /containers/c/archive", func(w http.ResponseWriter, r *http.Request) {
		file, ok := stat(w, r)
		if !ok {
			return
		}
		if err := copytar.Unpack(r.Body, file, ".", ".", copytar.Caller); err != nil {
			refuse(w, http.StatusInternalServerError, err.Error())
		}
	})
	return mux
}

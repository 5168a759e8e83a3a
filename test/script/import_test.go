package script

import (
	"archive/tar"
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// TestImportURL has the daemon fetch an archive from a web server, by both command lines.
func TestImportURL(t *testing.T) {
	begin(t, "busybox")
	ctx := t.Context()
	const secret = "hush-hush"
	archive := oneFile(t, "word", "from afar\n")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/root.tar" && r.URL.Query().Get("sig") == secret:
			http.ServeContent(w, r, "root.tar", time.Time{}, bytes.NewReader(archive))
		case r.URL.Path == "/cut.tar":
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(archive)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	for name, run := range map[string]func(args ...string) (string, error){
		"porthole": func(args ...string) (string, error) { return daemon.Porthole(ctx, args...) },
		"docker":   func(args ...string) (string, error) { return daemon.Run(ctx, "docker", args...) },
	} {
		t.Run(name, func(t *testing.T) {
			out, err := run("import", "--change", "CMD /x", server.URL+"/root.tar?sig="+secret, "afar:1")
			if err != nil || !strings.Contains(out, "sha256:") {
				t.Fatalf("import: %q, %v", out, err)
			}
			defer func() {
				if _, err := run("rmi", "afar:1"); err != nil {
					t.Error(err)
				}
			}()
			if out, err := run("history", "--no-trunc", "--format", "{{.Comment}}", "afar:1"); err != nil || strings.TrimSpace(out) != "Imported from "+server.URL+"/root.tar" {
				t.Errorf("history: %q, %v", out, err)
			}
			if out, err := run("run", "--rm", "--mount", "type=image,src=afar:1,dst=/m", "busybox", "cat", "/m/word"); err != nil || out != "from afar" {
				t.Errorf("content: %q, %v", out, err)
			}
			if out, err := run("import", server.URL+"/none?sig="+secret); err == nil || !strings.Contains(err.Error(), server.URL+"/none answers 404 Not Found") {
				t.Errorf("a file that is not there: %q, %v", out, err)
			}
			had := contentFiles(t)
			if out, err := run("import", server.URL+"/cut.tar", "cut:1"); err == nil {
				t.Errorf("a download that breaks off: %q", out)
			}
			if now := contentFiles(t); strings.Join(now, " ") != strings.Join(had, " ") {
				t.Errorf("the store has %q, it had %q", now, had)
			}
		})
	}
	for deadline := time.Now().Add(settling); ; time.Sleep(100 * time.Millisecond) {
		out, err := daemon.Porthole(ctx, "events", "--since", "5m", "--until", "0s", "--filter", "type=image", "--format", "json")
		if err != nil || strings.Contains(out, secret) {
			t.Fatalf("events have the secret of the address: %v\n%s", err, out)
		}
		if strings.Contains(out, `"Action":"import"`) { // the time is cut to the second
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no event of the import:\n%s", out)
		}
	}
	log, err := os.ReadFile(daemon.LogPath())
	if err != nil || strings.Contains(string(log), secret) {
		t.Errorf("the log has the secret of the address, or cannot be read: %v", err)
	}
}

// oneFile is an archive of one file.
func oneFile(t *testing.T, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

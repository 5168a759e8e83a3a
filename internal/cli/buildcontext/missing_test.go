package buildcontext

import "testing"

func TestMissing(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		".dockerignore": "# comment\n*.log\ndist\n", "Dockerfile": "FROM x", "x.log": "", "dist/app": "", "config.yaml": "", "src/main.go": "",
	})
	c, err := Open(dir, "Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"/x.log":      "x.log is in the context's directory, but .dockerignore:2 leaves it out: *.log",
		"/dist/app":   "dist/app is in the context's directory, but .dockerignore:3 leaves it out: dist",
		"/config.yml": "there is no config.yml in " + dir + "; near it: config.yaml",
		"/main.go":    "there is no main.go in " + dir + "; near it: src/main.go",
		"/y.log":      "there is no y.log in " + dir + "; near it: x.log (left out by .dockerignore:2)",
		"/nothing":    "there is no nothing in " + dir,
		"/src":        "",
	} {
		if got := c.Missing(t.Context(), name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

package command

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/internal/cli/tty"
)

func testApp(t *testing.T, config string) (*App, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	a := New(tty.New(strings.NewReader(""), &out, &errOut))
	a.Global.ConfigDir = dir
	return a, &out, &errOut
}

func TestNormalHost(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "unix:///run/porthole/porthole.sock",
		"unix://":              "unix:///run/porthole/porthole.sock",
		"unix:///x.sock":       "unix:///x.sock",
		"/x.sock":              "unix:///x.sock",
		"host":                 "tcp://host:2375",
		"host:1":               "tcp://host:1",
		":1":                   "tcp://localhost:1",
		"tcp://":               "tcp://localhost:2375",
		"tcp://h":              "tcp://h:2375",
		"tcp://[::1]":          "tcp://[::1]:2375",
		"tcp://[::1]:7":        "tcp://[::1]:7",
		"tcp://h:1/base":       "tcp://h:1/base",
		"https://h":            "https://h:2376",
		"ssh://user@h/x.sock":  "ssh://user@h/x.sock",
		"npipe:////./pipe/eng": "npipe:////./pipe/eng",
		"foo://x":              "error",
	} {
		got, err := normalHost(in, false)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("normalHost(%q) = %q, want %q", in, got, want)
		}
	}
	if got, _ := normalHost("h", true); got != "tcp://h:2376" {
		t.Errorf("with TLS: %q", got)
	}
}

func TestCompareNatural(t *testing.T) {
	names := []string{"net10", "net2", "a", "net02", "net2b", "b9", "b10", "net"}
	slices.SortFunc(names, CompareNatural)
	if diff := cmp.Diff([]string{"a", "b9", "b10", "net", "net02", "net2", "net2b", "net10"}, names); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestMessage(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain",
		"a\nfailed to connect to the docker API at tcp://a:1: lookup a: no such host":                                                   "a\nfailed to connect to the Porthole daemon at tcp://a:1: lookup a: no such host",
		"failed to connect to the docker API at unix:///x; check if the path is correct and if the daemon is running: dial unix /x: no": "Cannot connect to the Porthole daemon at unix:///x. Is the porthole daemon running?",
		"permission denied while trying to connect to the docker API at unix:///x":                                                      "permission denied while trying to connect to the Porthole daemon at unix:///x",
	} {
		if got := Message(errors.New(in)); got != want {
			t.Errorf("Message(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{Exit(0), 0},
		{Exit(42), 42},
		{Cancelled("no"), 0},
		{errors.Join(errors.New("x"), &StatusError{Code: 64}), 64},
		{&StatusError{Text: "x"}, 1},
	} {
		if got := ExitCode(c.err); got != c.want {
			t.Errorf("ExitCode(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

// TestEach: names come in order although the work does not, and errors are
// joined.
func TestEach(t *testing.T) {
	a, out, _ := testApp(t, "{}")
	release := make(chan struct{})
	err := a.Each(t.Context(), []string{"a", "b", "c", "d"}, func(_ context.Context, name string) error {
		switch name {
		case "a":
			<-release
		case "b":
			return errors.New("b fails")
		case "c":
			return errors.New("ignored")
		case "d":
			close(release)
		}
		return nil
	}, func(err error) bool { return err.Error() == "ignored" })
	if out.String() != "a\nd\n" || err == nil || err.Error() != "b fails" {
		t.Errorf("out %q, error %v", out, err)
	}
}

func TestPruneFilters(t *testing.T) {
	a, _, _ := testApp(t, `{"pruneFilters":["label=keep","label!=x","until=1h","bad"]}`)
	got := a.PruneFilters(mobyclient.Filters{}.Add("label", "x").Add("label!", "keep"))
	want := mobyclient.Filters{}.Add("label", "x").Add("label!", "keep").Add("until", "1h")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("filters (-want +got):\n%s", diff)
	}
}

func TestBrokenConfigIsReported(t *testing.T) {
	a, _, errOut := testApp(t, "{")
	if a.Config() == nil || !strings.Contains(errOut.String(), "WARNING: Error loading config file") {
		t.Errorf("stderr = %q", errOut)
	}
}

func TestInspectPrinters(t *testing.T) {
	fetch := func(name string) (Object, error) {
		if name == "none" {
			return Object{}, errors.New("error: no such object: none")
		}
		return Object{Value: Value(struct{ Name string }{name}), Raw: []byte(`{"Name":"` + name + `","Big":12345678901234567890}`)}, nil
	}
	for name, c := range map[string]struct{ format, want string }{
		"indented":        {"", "[\n    {\n        \"Name\": \"a\",\n        \"Big\": 12345678901234567890\n    },\n    {\n        \"Name\": \"b\",\n        \"Big\": 12345678901234567890\n    }\n]\n"},
		"compact":         {"json", `[{"Name":"a","Big":12345678901234567890},{"Name":"b","Big":12345678901234567890}]` + "\n"},
		"typed template":  {"{{.Name}}", "a\nb\n"},
		"raw template":    {"{{.Big}}", "12345678901234567890\n12345678901234567890\n"},
		"failed template": {"{{.Nope}}", "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			a, out, _ := testApp(t, "{}")
			err := a.Inspect([]string{"a", "none", "b"}, c.format, fetch)
			if out.String() != c.want {
				t.Errorf("got %q, want %q", out, c.want)
			}
			if err == nil || !strings.Contains(err.Error(), "no such object: none") {
				t.Errorf("error = %v", err)
			}
		})
	}
	a, _, _ := testApp(t, "{}")
	if code := ExitCode(a.Inspect(nil, "{{", fetch)); code != 64 {
		t.Errorf("bad template gives %d", code)
	}
}

func TestArchiveAppearsWhole(t *testing.T) {
	a, out, _ := testApp(t, "{}")
	path := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	ar, err := a.OpenArchive(path, "save image")
	if err != nil {
		t.Fatal(err)
	}
	ar.Discard()
	if text, _ := os.ReadFile(path); string(text) != "old" {
		t.Errorf("discarded archive left %q", text)
	}
	if ar, err = a.OpenArchive(path, "save image"); err != nil {
		t.Fatal(err)
	}
	if err := ar.Fill(strings.NewReader("new")); err != nil {
		t.Fatal(err)
	}
	ar.Discard()
	if text, _ := os.ReadFile(path); string(text) != "new" {
		t.Errorf("archive = %q", text)
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(names) != 1 {
		t.Errorf("left behind: %q", names)
	}
	if ar, err = a.OpenArchive("", "save image"); err != nil {
		t.Fatal(err)
	}
	if err := ar.Fill(strings.NewReader("bytes")); err != nil || out.String() != "bytes" {
		t.Errorf("standard output = %q, %v", out, err)
	}
	if _, err := a.OpenArchive(t.TempDir(), "save image"); err == nil {
		t.Error("a directory was opened")
	}
}

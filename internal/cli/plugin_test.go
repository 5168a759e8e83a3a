package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/system"
	"github.com/portholehq/porthole/internal/cli/tty"
)

func TestWithoutPlugin(t *testing.T) {
	for line, want := range map[string]string{
		"porthole why web":                    "why web",
		"-H unix:///x porthole why web":       "-H unix:///x why web",
		"-H porthole porthole ps":             "-H porthole ps",
		"--log-level=debug porthole run -d x": "--log-level=debug run -d x",
		"porthole why porthole":               "why porthole",
		"help porthole":                       "help",
		"__complete porthole why ”":           "__complete why ”",
		"porthole":                            "",
		"":                                    "",
	} {
		app := command.New(tty.New(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}))
		if got := withoutPlugin(app, strings.Fields(line)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("withoutPlugin(%q) = %q, want %q", line, got, want)
		}
	}
}

func TestPluginMetadata(t *testing.T) {
	var out bytes.Buffer
	code := Main(Streams{In: strings.NewReader(""), Out: &out, Err: &out, Program: "/x/docker-porthole"}, []string{pluginMetadata}, system.Build{Version: "1.2"})
	if code != 0 || !strings.Contains(out.String(), `"SchemaVersion": "0.1.0"`) || !strings.Contains(out.String(), `"Version": "1.2"`) {
		t.Errorf("code %d, %s", code, out.String())
	}
}

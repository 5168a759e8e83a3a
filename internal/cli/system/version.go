package system

import (
	"context"
	"fmt"
	"io"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/docker/cli/templates"
	apisystem "github.com/moby/moby/api/types/system"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// Build says what this program was built from.
type Build struct{ Version, Commit, Time string }

// ThisBuild returns the Build of the running program from what the linker has
// been told. For what is empty it takes what the Go tool has recorded.
func ThisBuild(version, commit, built string) Build {
	b := Build{Version: version, Commit: commit, Time: built}
	if version != "" {
		return b
	}
	b.Commit = "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version = info.Main.Version
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value[:min(7, len(s.Value))]
		case "vcs.time":
			b.Time = s.Value
		}
	}
	return b
}

type versionInfo struct {
	Client clientVersion
	Server *serverVersion
}

type clientVersion struct {
	Version           string `json:"Version,omitempty"`
	APIVersion        string `json:"ApiVersion,omitempty"`
	DefaultAPIVersion string `json:"DefaultAPIVersion,omitempty"`
	GitCommit         string `json:"GitCommit,omitempty"`
	GoVersion         string `json:"GoVersion,omitempty"`
	Os                string `json:"Os,omitempty"`
	Arch              string `json:"Arch,omitempty"`
	BuildTime         string `json:"BuildTime,omitempty"`
	Context           string `json:"Context"`
}

type serverVersion struct {
	Platform      mobyclient.PlatformInfo      `json:"Platform"`
	Version       string                       `json:"Version"`
	APIVersion    string                       `json:"ApiVersion"`
	MinAPIVersion string                       `json:"MinAPIVersion,omitempty"`
	Os            string                       `json:"Os"`
	Arch          string                       `json:"Arch"`
	Components    []apisystem.ComponentVersion `json:"Components,omitempty"`
	GitCommit     string                       `json:"GitCommit,omitempty"`
	GoVersion     string                       `json:"GoVersion,omitempty"`
	KernelVersion string                       `json:"KernelVersion,omitempty"`
	Experimental  bool                         `json:"Experimental,omitempty"`
	BuildTime     string                       `json:"BuildTime,omitempty"`
}

// NewVersion returns the constructor of "version" for a program of build b.
func NewVersion(b Build) func(*command.App) *cobra.Command {
	return func(a *command.App) *cobra.Command {
		var format string
		cmd := &cobra.Command{
			Use:   "version [OPTIONS]",
			Short: "Show the Porthole version information",
			Args:  command.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return printVersion(cmd.Context(), a, b, format)
			},
			ValidArgsFunction:     cobra.NoFileCompletions,
			DisableFlagsInUseLine: true,
		}
		cmd.Flags().StringVarP(&format, "format", "f", "", command.InspectFormatHelp)
		return command.Top(cmd, 10)
	}
}

// printVersion prints both versions; without a daemon the client's, and the
// error besides.
func printVersion(ctx context.Context, a *command.App, b Build, format string) error {
	write := func(w io.Writer, v versionInfo) error { return writeVersion(w, v) }
	if format != "" {
		if format == "json" {
			format = "{{json .}}"
		}
		tmpl, err := templates.New("version").Funcs(template.FuncMap{"getDetailsOrder": detailsOrder}).Parse(format)
		if err != nil {
			return &command.StatusError{Code: 64, Text: "template parsing error: " + err.Error()}
		}
		write = func(w io.Writer, v versionInfo) error { return tmpl.Execute(w, v) }
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	v := versionInfo{Client: newClientVersion(b)}
	server, serverErr := c.ServerVersion(ctx, mobyclient.ServerVersionOptions{})
	v.Client.APIVersion = c.ClientVersion()
	if serverErr == nil {
		v.Server = newServerVersion(server)
	}
	w := tabwriter.NewWriter(a.Out, 20, 1, 1, ' ', 0)
	err = write(w, v)
	_, _ = io.WriteString(w, "\n")
	_ = w.Flush()
	if serverErr != nil {
		return serverErr
	}
	return err
}

func newClientVersion(b Build) clientVersion {
	return clientVersion{
		Version: b.Version, DefaultAPIVersion: mobyclient.MaxAPIVersion, APIVersion: mobyclient.MaxAPIVersion,
		GitCommit: b.Commit, GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH,
		BuildTime: readableTime(b.Time), Context: "default",
	}
}

func newServerVersion(v mobyclient.ServerVersionResult) *serverVersion {
	out := &serverVersion{
		Platform: v.Platform, Version: v.Version, APIVersion: v.APIVersion, MinAPIVersion: v.MinAPIVersion,
		Os: v.Os, Arch: v.Arch, Components: v.Components,
	}
	for _, component := range out.Components {
		if component.Name != "Engine" {
			continue
		}
		d := component.Details
		out.BuildTime, out.GitCommit, out.GoVersion, out.KernelVersion = d["BuildTime"], d["GitCommit"], d["GoVersion"], d["KernelVersion"]
		out.Experimental, _ = strconv.ParseBool(d["Experimental"])
		if d["BuildTime"] != "" {
			d["BuildTime"] = readableTime(d["BuildTime"])
		}
		return out
	}
	out.Components = append(out.Components, apisystem.ComponentVersion{Name: "Engine", Version: v.Version, Details: map[string]string{
		"ApiVersion": v.APIVersion, "MinAPIVersion": v.MinAPIVersion, "Os": v.Os, "Arch": v.Arch,
	}})
	return out
}

func readableTime(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return s
	}
	return t.Format(time.ANSIC)
}

// writeVersion writes the two blocks for a tabwriter.
func writeVersion(w io.Writer, v versionInfo) error {
	c := v.Client
	api := c.APIVersion
	if api != c.DefaultAPIVersion {
		api += " (downgraded from " + c.DefaultAPIVersion + ")"
	}
	_, _ = fmt.Fprintf(w, "Client:\n Version:\t%s\n API version:\t%s\n Go version:\t%s\n Git commit:\t%s\n Built:\t%s\n OS/Arch:\t%s/%s\n Context:\t%s",
		c.Version, api, c.GoVersion, c.GitCommit, c.BuildTime, c.Os, c.Arch, c.Context)
	s := v.Server
	if s == nil {
		return nil
	}
	_, _ = io.WriteString(w, "\n\nServer:")
	if s.Platform.Name != "" {
		_, _ = io.WriteString(w, " "+s.Platform.Name)
	}
	for _, component := range s.Components {
		d := component.Details
		_, _ = fmt.Fprintf(w, "\n %s:\n  Version:\t%s", component.Name, component.Version)
		if component.Name == "Engine" {
			_, _ = fmt.Fprintf(w, "\n  API version:\t%s (minimum version %s)\n  Go version:\t%s\n  Git commit:\t%s\n  Built:\t%s\n  OS/Arch:\t%s/%s\n  Experimental:\t%s",
				d["ApiVersion"], d["MinAPIVersion"], d["GoVersion"], d["GitCommit"], d["BuildTime"], d["Os"], d["Arch"], d["Experimental"])
			continue
		}
		for _, key := range detailsOrder(component) {
			_, _ = fmt.Fprintf(w, "\n  %s:\t%s", key, d[key])
		}
	}
	return nil
}

func detailsOrder(c apisystem.ComponentVersion) []string {
	return slices.Sorted(maps.Keys(c.Details))
}

// Command porthole-oci is the OCI runtime: it makes containers of bundles for other
// engines, as runc does, with Porthole's isolation. porthole-shim becomes it when it is
// called with one of its commands; it finds porthole-shim beside itself.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/oci"
)

// version is set by the linker (make build).
var version = "dev"

// app is what all commands share: the global options.
type app struct {
	root, log, logFormat string
	debug, systemdCgroup bool
}

func main() {
	a := &app{}
	cmd := a.command()
	err := cmd.Execute()
	if err == nil {
		return
	}
	if code := (*oci.ExitError)(nil); errors.As(err, &code) {
		os.Exit(code.Code)
	}
	a.tell("error", err.Error())
	fmt.Fprintf(os.Stderr, "porthole-oci: %v\n", err)
	os.Exit(1)
}

func (a *app) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "porthole-oci", Short: "Run containers of OCI bundles", Version: version,
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.check() },
	}
	cmd.SetVersionTemplate("porthole-oci version {{.Version}}\nspec: " + specs.Version + "\n")
	f := cmd.PersistentFlags()
	f.StringVar(&a.root, "root", "/run/porthole-oci", "directory of the containers' records, best on a tmpfs")
	f.StringVar(&a.log, "log", "", "file to which errors and warnings are added")
	f.StringVar(&a.logFormat, "log-format", "text", "form of the log: text or json")
	f.BoolVar(&a.debug, "debug", false, "accepted for the sake of others; there is nothing more to tell")
	f.BoolVar(&a.systemdCgroup, "systemd-cgroup", false, "refused: cgroups are made directly")
	cmd.AddCommand(a.create(), a.start(), a.state(), a.kill(), a.remove(), a.list(), a.ps(), a.pause(), a.resume(),
		a.exec(), a.update(), a.events(), a.spec(), a.features())
	return cmd
}

func (a *app) check() error {
	if a.systemdCgroup {
		return errors.New("--systemd-cgroup is not supported: cgroups are made directly, use the cgroupfs driver")
	}
	if a.logFormat != "text" && a.logFormat != "json" {
		return fmt.Errorf("unknown log-format %q: it is text or json", a.logFormat)
	}
	return nil
}

// runtime is the one that the global options ask for.
func (a *app) runtime() (*oci.Runtime, error) {
	root, err := filepath.Abs(a.root)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &oci.Runtime{Root: root, Shim: filepath.Join(filepath.Dir(self), "porthole-shim"), Warn: func(text string) {
		a.tell("warning", text)
		fmt.Fprintf(os.Stderr, "porthole-oci: warning: %s\n", text)
	}}, nil
}

// tell adds a line to the log, if there is one.
func (a *app) tell(level, text string) {
	if a.log == "" {
		return
	}
	f, err := os.OpenFile(a.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		fmt.Fprintf(os.Stderr, "porthole-oci: log: %v\n", err)
		return
	}
	defer f.Close()
	now := time.Now().Format(time.RFC3339)
	if a.logFormat == "json" {
		// Two strings and a time: it cannot fail to be encoded.
		_ = json.NewEncoder(f).Encode(map[string]string{"level": level, "msg": text, "time": now})
		return
	}
	fmt.Fprintf(f, "time=%q level=%s msg=%q\n", now, level, text)
}

// withID makes a command that takes a container's id and nothing more.
func (a *app) withID(use, short string, run func(rt *oci.Runtime, id string) error) *cobra.Command {
	return &cobra.Command{Use: use + " CONTAINER", Short: short, Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		rt, err := a.runtime()
		if err != nil {
			return err
		}
		return run(rt, args[0])
	}}
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

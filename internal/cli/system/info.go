package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker/cli/templates"
	"github.com/docker/go-units"
	apisystem "github.com/moby/moby/api/types/system"
	mobyclient "github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/security"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

// info is what templates of "info" see. The daemon's fields stand at the top,
// as they do in Docker's.
type info struct {
	*apisystem.Info `json:",omitempty"`
	ServerErrors    []string    `json:",omitempty"`
	ClientInfo      *clientInfo `json:",omitempty"`
	ClientErrors    []string    `json:",omitempty"`
	// Porthole is what only our daemon tells; nil: it is another one.
	Porthole *api.Info `json:",omitempty"`
}

type clientInfo struct {
	Debug bool
	clientVersion
	Plugins  []string
	Warnings []string
}

// NewInfo returns the constructor of "info" for a program of build b.
func NewInfo(b Build) func(*command.App) *cobra.Command {
	return func(a *command.App) *cobra.Command {
		var format string
		var o securityOptions
		cmd := &cobra.Command{
			Use:   "info [OPTIONS]",
			Short: "Display system-wide information",
			Args:  command.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if o.security {
					return o.print(cmd.Context(), a)
				}
				if cmd.Flags().Changed("json") {
					format = "json"
				}
				return printInfo(cmd.Context(), a, b, format)
			},
			ValidArgsFunction:     cobra.NoFileCompletions,
			DisableFlagsInUseLine: true,
		}
		cmd.Flags().StringVarP(&format, "format", "f", "", command.InspectFormatHelp)
		cmd.Flags().BoolVar(&o.security, "security", false, "Show what protects the host, what of it is off, and which containers have given it up")
		o.AddJSON(cmd.Flags())
		cmd.Flags().Lookup("json").Usage = "Print the daemon's answer as JSON, for machines"
		cmd.MarkFlagsMutuallyExclusive("json", "format")
		cmd.MarkFlagsMutuallyExclusive("security", "format")
		return command.Common(cmd, 12, "system info", "info")
	}
}

func printInfo(ctx context.Context, a *command.App, b Build, format string) error {
	v := info{
		Info:       &apisystem.Info{},
		ClientInfo: &clientInfo{Debug: a.Global.Debug(), clientVersion: newClientVersion(b), Plugins: []string{}},
	}
	v.ClientInfo.APIVersion = ""
	var serverErr error
	if needsServer(format, v) {
		serverErr = v.ask(ctx, a, format)
	}
	if format == "" {
		return errors.Join(v.write(a), serverErr)
	}
	return errors.Join(serverErr, v.writeFormat(a.Out, format))
}

// ask asks the daemon. An error of the daemon is part of the answer; that it
// cannot be reached is returned.
func (v *info) ask(ctx context.Context, a *command.App, format string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	res, err := c.Info(ctx, mobyclient.InfoOptions{})
	if err == nil {
		v.Info = &res.Info
		facts, err := c.Facts(ctx)
		switch {
		case errors.Is(err, client.ErrNotPorthole):
		case err != nil:
			v.ServerErrors = append(v.ServerErrors, err.Error())
		default:
			v.Porthole = &facts
		}
		return nil
	}
	if format == "" {
		v.Info = nil
	}
	if mobyclient.IsErrConnectionFailed(err) {
		return err
	}
	v.ServerErrors = append(v.ServerErrors, err.Error())
	if format != "" {
		a.Report(err)
	}
	return nil
}

// needsServer tells whether a template shows anything of the daemon: it does
// when it fails on what is known of the client.
func needsServer(format string, v info) bool {
	if format == "" || format == "json" || !regexp.MustCompile(`\.[a-zA-Z]`).MatchString(format) {
		return true
	}
	tmpl, err := templates.Parse(format)
	if err != nil {
		return true
	}
	return tmpl.Execute(io.Discard, struct {
		ClientInfo   *clientInfo
		ClientErrors []string
	}{v.ClientInfo, v.ClientErrors}) != nil
}

func (v *info) writeFormat(w io.Writer, format string) error {
	if format == "json" {
		format = "{{json .}}"
	}
	tmpl, err := templates.Parse(format)
	if err != nil {
		return &command.StatusError{Code: 64, Text: "template parsing error: " + err.Error()}
	}
	err = tmpl.Execute(w, v)
	_, _ = io.WriteString(w, "\n")
	return err
}

func (v *info) write(a *command.App) error {
	p := printer{a.Out}
	p.line("Client:")
	p.some(" Version:   ", v.ClientInfo.Version)
	p.line(" Context:   ", v.ClientInfo.Context)
	p.line(" Debug Mode:", v.ClientInfo.Debug)
	p.line()
	p.line("Server:")
	if v.Info != nil {
		p.server(v.Info, a.Global.Debug())
		p.ours(v.Porthole)
		p.line()
		for _, warning := range v.Info.Warnings {
			_, _ = fmt.Fprintln(a.Err, warning)
		}
	}
	for _, e := range v.ServerErrors {
		_, _ = fmt.Fprintln(a.Err, "ERROR:", e)
	}
	if len(v.ServerErrors) > 0 {
		return errors.New("errors pretty printing info")
	}
	return nil
}

// printer writes the lines of "info".
type printer struct{ w io.Writer }

func (p printer) line(a ...any) { _, _ = fmt.Fprintln(p.w, a...) }

// some writes nothing for an empty value.
func (p printer) some(label, value string) {
	if value != "" {
		p.line(label, value)
	}
}

// list writes a heading and its items, or nothing for none.
func (p printer) list(heading string, items []string) {
	if len(items) == 0 {
		return
	}
	p.line(heading)
	for _, item := range items {
		p.line("  " + item)
	}
}

func pairs(list [][2]string) []string {
	var out []string
	for _, pair := range list {
		out = append(out, pair[0]+": "+pair[1])
	}
	return out
}

func (p printer) server(i *apisystem.Info, clientDebug bool) {
	p.line(" Containers:", i.Containers)
	p.line("  Running:", i.ContainersRunning)
	p.line("  Paused:", i.ContainersPaused)
	p.line("  Stopped:", i.ContainersStopped)
	p.line(" Images:", i.Images)
	p.some(" Server Version:", i.ServerVersion)
	p.some(" Storage Driver:", i.Driver)
	for _, pair := range pairs(i.DriverStatus) {
		p.line("  " + pair)
	}
	for _, pair := range pairs(i.SystemStatus) {
		p.line(" " + pair)
	}
	p.some(" Logging Driver:", i.LoggingDriver)
	p.some(" Cgroup Driver:", i.CgroupDriver)
	p.some(" Cgroup Version:", i.CgroupVersion)
	p.plugins(i)
	p.runtimes(i)
	p.host(i)
	p.debug(i, clientDebug)
	p.registries(i)
	p.line(" Live Restore Enabled:", i.LiveRestoreEnabled)
	p.some(" Product License:", i.ProductLicense)
	if len(i.DefaultAddressPools) > 0 {
		p.line(" Default Address Pools:")
		for _, pool := range i.DefaultAddressPools {
			p.line(fmt.Sprintf("   Base: %s, Size: %d", pool.Base, pool.Size))
		}
	}
	if i.FirewallBackend != nil {
		p.line(" Firewall Backend:", i.FirewallBackend.Driver)
		for _, pair := range pairs(i.FirewallBackend.Info) {
			p.line("  " + pair)
		}
	}
}

// ours writes what only our daemon tells.
func (p printer) ours(i *api.Info) {
	if i == nil {
		return
	}
	p.line(" Isolation:")
	if i.Isolation.UserNamespaces {
		p.line(fmt.Sprintf("  User Namespaces: one for each container, %d ids, files ID-mapped", i.Isolation.IDsPerContainer))
	} else {
		p.line("  User Namespaces: the host's:", i.Isolation.Why)
	}
	p.some("  Seccomp Profile:", i.Isolation.Seccomp)
	p.some("  AppArmor Profile:", i.Isolation.AppArmorProfile)
	p.line("  Cgroup Namespaces:", i.Isolation.CgroupNamespaces)
	p.line(fmt.Sprintf(" Cgroups: %s, below %s", i.Cgroup.Mode, i.Cgroup.Parent))
	j := i.Journal
	kept := j.Last + 1 - j.First
	p.line(fmt.Sprintf(" Events Kept: %d, at most %s and %s", kept, units.HumanSize(float64(j.MaxSize)*float64(j.MaxSegments)),
		units.HumanDuration(time.Duration(j.MaxAgeSeconds)*time.Second)))
	size := "without limit"
	if i.Log.MaxSize >= 0 {
		size = fmt.Sprintf("%d files of %s", i.Log.MaxFiles, units.HumanSize(float64(i.Log.MaxSize)))
	}
	p.line(" Output Kept of a Container:", size)
	switch ev := i.Evidence; {
	case ev.Signals != "":
		p.line(fmt.Sprintf(" Signals Watched: by %s, %d seen, %d lost", ev.Signals, ev.SignalsSeen, ev.SignalsLost))
		p.line(fmt.Sprintf(" Programs and Connections Watched: by %s, %d seen, %d lost", ev.Signals, ev.DeedsSeen, ev.DeedsLost))
	case ev.SignalsWhy != "":
		p.line(" Signals Watched: no:", ev.SignalsWhy)
		p.line(" Programs and Connections Watched: no:", ev.SignalsWhy)
	}
	switch ev := i.Evidence; {
	case ev.Cores:
		p.line(" Cores Kept: yes")
	case ev.CoresWhy != "":
		p.line(" Cores Kept: no:", ev.CoresWhy)
	}
}

func (p printer) plugins(i *apisystem.Info) {
	p.line(" Plugins:")
	p.line("  Volume:", strings.Join(i.Plugins.Volume, " "))
	p.line("  Network:", strings.Join(i.Plugins.Network, " "))
	if len(i.Plugins.Authorization) > 0 {
		p.line("  Authorization:", strings.Join(i.Plugins.Authorization, " "))
	}
	p.line("  Log:", strings.Join(i.Plugins.Log, " "))
	p.list(" CDI spec directories:", i.CDISpecDirs)
	var devices []string
	for _, d := range i.DiscoveredDevices {
		devices = append(devices, d.Source+": "+d.ID)
	}
	p.list(" Discovered Devices:", devices)
	p.line(" Swarm:", i.Swarm.LocalNodeState)
}

func (p printer) runtimes(i *apisystem.Info) {
	if len(i.Runtimes) > 0 {
		p.line(" Runtimes:", strings.Join(slices.Sorted(maps.Keys(i.Runtimes)), " "))
		p.line(" Default Runtime:", i.DefaultRuntime)
	}
	if i.OSType == "windows" {
		p.line(" Default Isolation:", i.Isolation)
	}
	if i.OSType != "linux" {
		return
	}
	p.line(" Init Binary:", i.InitBinary)
	p.line(" containerd version:", i.ContainerdCommit.ID)
	p.line(" runc version:", i.RuncCommit.ID)
	p.line(" init version:", i.InitCommit.ID)
	options := security.DecodeOptions(i.SecurityOptions)
	if len(options) == 0 {
		return
	}
	p.line(" Security Options:")
	for _, o := range options {
		p.line("  " + o.Name)
		for _, kv := range o.Options {
			if kv.Key == "profile" {
				p.line("   Profile:", kv.Value)
			}
		}
	}
}

func (p printer) host(i *apisystem.Info) {
	p.some(" Kernel Version:", i.KernelVersion)
	p.some(" Operating System:", i.OperatingSystem)
	p.some(" OSType:", i.OSType)
	p.some(" Architecture:", i.Architecture)
	p.line(" CPUs:", i.NCPU)
	p.line(" Total Memory:", units.BytesSize(float64(i.MemTotal)))
	p.some(" Name:", i.Name)
	p.some(" ID:", i.ID)
	p.line(" Porthole Root Dir:", i.DockerRootDir)
}

func (p printer) debug(i *apisystem.Info, clientDebug bool) {
	p.line(" Debug Mode:", i.Debug)
	if i.Debug || clientDebug {
		p.line("  File Descriptors:", i.NFd)
		p.line("  Goroutines:", i.NGoroutines)
		p.line("  System Time:", i.SystemTime)
		p.line("  EventsListeners:", i.NEventsListener)
	}
	p.some(" HTTP Proxy:", i.HTTPProxy)
	p.some(" HTTPS Proxy:", i.HTTPSProxy)
	p.some(" No Proxy:", i.NoProxy)
	p.list(" Labels:", i.Labels)
	p.line(" Experimental:", i.ExperimentalBuild)
}

func (p printer) registries(i *apisystem.Info) {
	r := i.RegistryConfig
	if r == nil {
		return
	}
	if len(r.InsecureRegistryCIDRs) > 0 || len(r.IndexConfigs) > 0 {
		p.line(" Insecure Registries:")
		for _, name := range slices.Sorted(maps.Keys(r.IndexConfigs)) {
			if !r.IndexConfigs[name].Secure {
				p.line("  " + r.IndexConfigs[name].Name)
			}
		}
		for _, cidr := range r.InsecureRegistryCIDRs {
			p.line("  " + cidr.String())
		}
	}
	p.list(" Registry Mirrors:", r.Mirrors)
}

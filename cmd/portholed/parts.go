package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/system"

	"github.com/portholehq/porthole/internal/build"
	"github.com/portholehq/porthole/internal/daemon"
	"github.com/portholehq/porthole/internal/debug"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/image/remote"
	"github.com/portholehq/porthole/internal/linux/apparmor"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/witness"
	"github.com/portholehq/porthole/internal/network"
	"github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/record/core"
	"github.com/portholehq/porthole/internal/record/death"
	"github.com/portholehq/porthole/internal/record/sampler"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/runtime/spec"
	"github.com/portholehq/porthole/internal/runtime/spec/hostinfo"
	"github.com/portholehq/porthole/internal/toolbox"
	"github.com/portholehq/porthole/internal/undo"
	"github.com/portholehq/porthole/internal/volume"
)

// parts are what the daemon is made of, from the bottom to the top.
type parts struct {
	state      *state.DB
	events     *event.Journal
	sampler    *sampler.Sampler
	deaths     *death.Store
	cores      *core.Store
	images     *image.Store
	registries *remote.Registries
	volumes    *volume.Store
	keeper     *keeper.Client
	network    *network.Manager
	pids       cgroup.PidsBounds
	noPids     error // why there are no such bounds
	runtime    *runtime.Runtime
	witness    *witness.Pending
	engine     *engine.Engine
	builder    *build.Builder
	tools      func() (string, error) // unpacks them, once
	log        *slog.Logger
}

// open opens the parts and puts their closing onto steps, in the order of the
// daemon's end.
func open(ctx context.Context, p *process, steps *undo.Stack) (*parts, error) {
	c, log := p.config.Load(), p.log
	out := &parts{log: log}
	shim, err := daemon.FindShim(c.ShimPath)
	if err != nil {
		return nil, err
	}
	if err := build.UseTempDir(filepath.Join(c.DataRoot, "build", "tmp"), log); err != nil {
		return nil, err
	}
	stateFile := filepath.Join(c.DataRoot, "state.db")
	if err := state.Expect(stateFile, filepath.Join(c.DataRoot, "containers")); err != nil {
		return nil, err
	}
	if out.state, err = state.Open(stateFile); err != nil {
		return nil, err
	}
	steps.Add(out.state.Close)
	if out.events, err = event.Open(filepath.Join(c.DataRoot, "events"), event.Options{}); err != nil {
		return nil, err
	}
	steps.Add(out.events.Close)
	if out.deaths, err = death.Open(filepath.Join(c.DataRoot, "deaths"), death.Options{}); err != nil {
		return nil, err
	}
	if out.cores, err = core.Open(filepath.Join(c.DataRoot, "cores"), core.Options{}); err != nil {
		return nil, err
	}
	if out.sampler, err = sampler.New(sampler.Options{Logger: log}); err != nil {
		return nil, err
	}
	steps.Add(out.sampler.Close)
	if out.registries, err = remote.New(registryOptions(c)); err != nil {
		return nil, err
	}
	out.images, err = image.Open(ctx, image.Options{
		Root: filepath.Join(c.DataRoot, "images"), Logger: log, Registries: out.registries,
		Transfers: image.Transfers{Downloads: c.Downloads, Uploads: c.Uploads, Attempts: c.DownloadAttempts},
	})
	if err != nil {
		return nil, err
	}
	steps.Add(out.images.Close)
	if err := loadToolbox(ctx, out.images, log); err != nil {
		return nil, err
	}
	if out.volumes, err = volume.Open(filepath.Join(c.DataRoot, "volumes"), log); err != nil {
		return nil, err
	}
	steps.Add(out.volumes.Close)
	if err = out.openNetwork(ctx, c); err != nil {
		return nil, err
	}
	steps.Add(out.network.Close)
	out.boundPids(c.CgroupParent)
	if out.runtime, err = runtime.New(runtime.Options{
		ExecRoot: c.ExecRoot, CgroupParent: c.CgroupParent, Pids: out.pids, ShimPath: shim, Logger: log,
	}); err != nil {
		return nil, err
	}
	steps.Add(out.runtime.Close)
	out.witness = witness.Begin(containersGroup(c.CgroupParent))
	steps.Add(out.witness.Close)
	out.tools = sync.OnceValues(func() (string, error) { return toolbox.Unpack(c.ExecRoot) })
	if out.engine, err = out.openEngine(ctx, p); err != nil {
		return nil, err
	}
	steps.Add(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return out.engine.Shutdown(ctx)
	})
	if out.builder, err = build.Open(ctx, build.Options{
		Root: filepath.Join(c.DataRoot, "build"), Store: out.images.Backend(), Runner: out.engine,
		Publish: out.publish, Tools: out.tools, Hosts: out.registries.Hosts, Version: version, Logger: log,
	}); err != nil {
		return nil, err
	}
	steps.Add(out.builder.Close)
	out.images.UseStates(out.builder.StateImage)
	return out, nil
}

// openNetwork opens the networks and brings the default bridge up.
func (o *parts) openNetwork(ctx context.Context, c *daemon.Config) error {
	options := network.Options{
		StatePath: filepath.Join(c.DataRoot, "network"), Bridge: c.Bridge, MTU: c.MTU, NoMasquerade: !c.IPMasq, Logger: o.log,
		OnRestored: o.firewallRestored,
	}
	if c.BIP != "" {
		var err error
		if options.BIP, err = netip.ParsePrefix(c.BIP); err != nil {
			return fmt.Errorf("bip: %w", err)
		}
	}
	options.Default = defaultBridge(c)
	for _, p := range c.Pools {
		options.Pools = append(options.Pools, network.Pool(p))
	}
	o.keeper = keeper.NewClient(keeper.Options{
		Socket: filepath.Join(c.ExecRoot, "keeper.sock"), Version: version + " " + commit,
	})
	options.Keeper = o.keeper
	m, err := network.Open(options)
	if err != nil {
		return err
	}
	o.network = m
	if err := m.EnsureDefault(ctx); err != nil {
		return errors.Join(err, m.Close())
	}
	return nil
}

// defaultBridge is what the settings say of it. They were checked before.
func defaultBridge(c *daemon.Config) network.DefaultBridgeOptions {
	d := network.DefaultBridgeOptions{IPv6: c.IPv6, Apart: !c.ICC}
	d.Range, _ = netip.ParsePrefix(c.FixedCIDR)
	d.Subnet6, _ = netip.ParsePrefix(c.FixedCIDR6)
	d.Binding, _ = netip.ParseAddr(c.BindIP)
	return d
}

// publish records an event about what the engine knows nothing of.
func (o *parts) publish(ctx context.Context, m events.Message) {
	if _, err := o.events.PublishBy(event.OriginOf(ctx), m); err != nil {
		o.log.Error("event was not recorded", "action", string(m.Action), "err", err)
	}
}

// firewallRestored tells those who follow events that somebody has changed our
// nftables table, and that it is whole again.
func (o *parts) firewallRestored(table string) {
	m := events.Message{
		Type: events.DaemonEventType, Action: "firewall restored", Scope: "local",
		Actor: events.Actor{ID: table, Attributes: map[string]string{"name": table}},
	}
	if _, err := o.events.Publish(m); err != nil {
		o.log.Error("event was not recorded", "action", string(m.Action), "err", err)
	}
}

func (o *parts) openEngine(ctx context.Context, p *process) (*engine.Engine, error) {
	c := p.config.Load()
	host, err := hostinfo.Gather(c.CgroupParent)
	if err != nil {
		return nil, fmt.Errorf("gather facts about the host: %w", err)
	}
	appArmor, noAppArmor := o.appArmor(ctx, &host)
	return engine.New(ctx, engine.Deps{
		Logger: o.log,
		Config: engine.Config{
			DataRoot: c.DataRoot, ExecRoot: c.ExecRoot, CgroupParent: c.CgroupParent, Pids: o.pids, NoPids: o.noPids, NoAppArmor: noAppArmor,
			Version: version, GitCommit: commit, BuildTime: built,
			Labels: p.labels, Debug: p.debug, Init: c.Init, LogConfig: logConfig(c), Warnings: c.Warnings(),
			Sockets: c.Sockets(), AddressPools: addressPools(c), DNS: c.DNS, DNSSearch: c.DNSSearch, DNSOptions: c.DNSOptions,
			StopTimeout: time.Duration(c.DefaultStopTimeout) * time.Second, KeepFailed: true,
			CoreDumps: c.CoreDumps,
		},
		State: o.state, Events: o.events, Sampler: o.sampler, Deaths: o.deaths, Cores: o.cores, Diagnose: debug.Preflight, KernelLog: true, Witness: o.witness, Host: host, AppArmor: appArmor,
		Tools:   o.tools,
		Runtime: engine.NewRuntime(o.runtime), Images: o.images, Registries: o.registries, Network: o.network, Volumes: o.volumes,
	})
}

// addressPools are those of the settings, as info shows them.
func addressPools(c *daemon.Config) []system.NetworkAddressPool {
	var list []system.NetworkAddressPool
	for _, p := range c.Pools {
		list = append(list, system.NetworkAddressPool(p))
	}
	return list
}

// logConfig is how containers are logged that do not say.
func logConfig(c *daemon.Config) container.LogConfig {
	return container.LogConfig{Type: c.LogDriver, Config: c.LogOptions}
}

// boundPids keeps containers from taking all processes of the host, and this one's threads with them. Where that cannot be
// done they run all the same.
func (o *parts) boundPids(parent string) {
	tree, err := cgroup.Current()
	if err == nil {
		o.pids, err = tree.BoundPids(parent)
	}
	if o.noPids = err; err != nil {
		o.log.Warn("containers can take all processes of the host", "err", err)
	}
}

// containersGroup makes the group that all containers' groups are in, if there is
// none, and tells its cgroup id.
func containersGroup(parent string) func() (uint64, error) {
	return func() (uint64, error) {
		tree, err := cgroup.Current()
		if err == nil {
			err = tree.Prepare(parent)
		}
		if err != nil {
			return 0, err
		}
		return tree.Group(parent).ID("")
	}
}

// appArmor loads the profile for containers where AppArmor is on. Without it they
// run all the same, with what else confines them. The result loads it again if
// somebody has unloaded it; the error is why it could not be loaded.
func (o *parts) appArmor(ctx context.Context, host *spec.Host) (func(context.Context) error, error) {
	if !host.AppArmor {
		return nil, nil
	}
	load := func(ctx context.Context) error { return apparmor.Host{}.Ensure(ctx, apparmor.DefaultProfile) }
	if err := load(ctx); err != nil {
		o.log.Warn("AppArmor is on, but containers run without a profile unless they name one", "profile", apparmor.DefaultProfile, "err", err)
		return nil, err
	}
	host.AppArmorProfile = apparmor.DefaultProfile
	return load, nil
}

// registryOptions are the settings of registries.
func registryOptions(c *daemon.Config) remote.Options {
	return remote.Options{
		Mirrors: c.RegistryMirrors, Insecure: c.InsecureRegistries, CertDirs: c.CertDirs,
		UserAgent: "porthole/" + version,
	}
}

// reloaded tells those who follow events that the settings have changed.
func (o *parts) reloaded(ctx context.Context, settings map[string]string) {
	m := events.Message{Type: events.DaemonEventType, Action: events.ActionReload, Scope: "local"}
	info, err := o.engine.Info(ctx)
	if err == nil {
		settings["name"] = info.Name
		m.Actor = events.Actor{ID: info.ID, Attributes: settings}
		_, err = o.events.Publish(m)
	}
	if err != nil {
		o.log.Error("event was not recorded", "action", "reload", "err", err)
	}
}

// inspect shows what the parts tell of themselves besides the engine.
func (o *parts) inspect() map[string]any {
	return map[string]any{
		"events": map[string]any{"readers": o.events.Readers()},
	}
}

package server

import (
	"context"
	"io"
	"net/netip"
	"os"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
	phimg "github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/ledger"
	phnet "github.com/portholehq/porthole/internal/network"
	"github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/ps"
	"github.com/portholehq/porthole/internal/record/activity"
	"github.com/portholehq/porthole/internal/record/core"
	"github.com/portholehq/porthole/internal/record/death"
	"github.com/portholehq/porthole/internal/record/health"
)

// Backend is what the routes of the Engine API need: in the daemon the engine,
// in tests a fake. The parts stand for the files that use them.
type Backend interface {
	systemBackend
	containerBackend
	archiveBackend
	streamBackend
	execBackend
	imageBackend
	registryBackend
	networkBackend
	volumeBackend
	lookBackend
}

type systemBackend interface {
	Info(ctx context.Context) (*system.Info, error)
	Version(ctx context.Context) (*system.VersionResponse, error)
	Events(ctx context.Context, o engine.EventsOptions, fn engine.EventFunc) error
	SystemDiskUsage(ctx context.Context, kinds []system.DiskUsageObject, verbose bool) (*system.DiskUsage, error)
	Facts() engine.Facts
	Surrendered(ctx context.Context) []engine.Surrender
	Ledger(ctx context.Context) (*ledger.Ledger, error)
	Residents() []engine.Resident
	Claim(ctx context.Context, path string) (ledger.Claim, error)
	Places() engine.Places
	OrphansPrune(ctx context.Context) ([]ledger.Account, error)
	Inspector() engine.Inspection
	Operations(ref string) ([]engine.Operation, error)
}

type containerBackend interface {
	ContainerCreate(ctx context.Context, name string, req container.CreateRequest, platform *ocispec.Platform) (container.CreateResponse, error)
	ContainerRun(ctx context.Context, o engine.RunOptions, made func(container.CreateResponse) (engine.Stream, error)) (engine.RunEnd, error)
	ContainerStart(ctx context.Context, ref string) error
	ContainerOnce(ctx context.Context, ref string, o engine.OnceOptions) (token string, err error)
	ContainerStartOnce(ctx context.Context, ref, token string) error
	ContainerStop(ctx context.Context, ref string, o engine.StopOptions) error
	ContainerKill(ctx context.Context, ref, signal string) error
	ContainerRestart(ctx context.Context, ref string, o engine.StopOptions) error
	ContainerRemove(ctx context.Context, ref string, o engine.RemoveOptions) error
	ContainerPause(ctx context.Context, ref string) error
	ContainerUnpause(ctx context.Context, ref string) error
	ContainerRename(ctx context.Context, ref, name string) error
	ContainerUpdate(ctx context.Context, ref string, u container.UpdateConfig) (container.UpdateResponse, error)
	ContainerWait(ctx context.Context, ref string, condition container.WaitCondition) (<-chan container.WaitResponse, error)
	ContainerList(ctx context.Context, o engine.ListOptions) ([]*container.Summary, error)
	ContainerIsolation(ref string) (engine.Isolation, error)
	ContainerProspect(ctx context.Context, ref string) (engine.Prospect, error)
	ContainerRuns(ref string) ([]state.Run, error)
	ContainerOOMKills(ref string) ([]death.OOMKill, error)
	Deaths(o engine.DeathsOptions) ([]*death.Record, error)
	Cores(container string) ([]*core.Record, error)
	Core(ref string) (*core.Record, error)
	CoreRead(r *core.Record) (io.ReadCloser, error)
	CoreRemove(ref string) error
	Subject(ref string) (engine.Subject, error)
	Trace(ref string) (t engine.TraceTarget, release func(), err error)
	Recorded(ref string, run int) (*engine.Recorded, error)
	TraceQueries(ref string) (t engine.QueriesTarget, release func(), err error)
	VolumeUsers(volume, but string) []string
	LastLines(ref string) ([]death.Line, error)
	LookIntoFiles(ctx context.Context, ref string, fn func(engine.OpenFiles)) error
	ContainerHealth(ref string) (*container.Health, []health.Result, error)
	ContainerInspect(ctx context.Context, ref string, size bool) (*container.InspectResponse, error)
	ContainerTop(ctx context.Context, ref, psArgs string) (*container.TopResponse, error)
	ContainersPrune(ctx context.Context, f engine.Filters) (container.PruneReport, error)
}

type archiveBackend interface {
	ContainerStatPath(ctx context.Context, ref, path string) (container.PathStat, error)
	ContainerArchive(ctx context.Context, ref, path string, open func(container.PathStat) (io.Writer, error)) error
	ContainerExtract(ctx context.Context, ref, path string, archive io.Reader, o engine.ExtractOptions) error
	ContainerExport(ctx context.Context, ref string, open func() (io.Writer, error)) error
	ContainerChanges(ctx context.Context, ref string) ([]container.FilesystemChange, error)
	ContainerCommit(ctx context.Context, ref string, o engine.CommitOptions) (string, error)
}

type streamBackend interface {
	ContainerTTY(ref string) (bool, error)
	ContainerLogs(ctx context.Context, ref string, o engine.LogsOptions, fn func(engine.LogEntry) error) error
	ContainerStats(ctx context.Context, ref string, stream, oneShot bool, fn func(*api.Stats) error) error
	ContainerUnwatched(ref string) ([]engine.Unwatched, error)
	ContainerActivity(ctx context.Context, ref string) (list []activity.Entry, why, err error)
	ContainerSamples(ctx context.Context, ref string, o engine.SamplesOptions, fn func(*api.Sample) error) error
	ContainerAttach(ctx context.Context, ref string, o engine.AttachOptions, open func() (engine.Stream, error)) error
	ContainerResize(ctx context.Context, ref string, height, width uint) error
}

type execBackend interface {
	ContainerExecCreate(ctx context.Context, ref string, req container.ExecCreateRequest) (string, error)
	ContainerExecStart(ctx context.Context, execID string, o engine.ExecStartOptions, open func() (engine.Stream, error)) error
	ContainerExecInspect(ctx context.Context, execID string) (*container.ExecInspectResponse, error)
	ContainerExecs(ctx context.Context, ref string) ([]engine.ExecSession, error)
	ExecSignal(ctx context.Context, ref, signal string) (engine.ExecSession, error)
	ExecDieWithClient(ctx context.Context, execID string, dies bool) error
	ExecHint(execID string) (string, error)
	ContainerExecResize(ctx context.Context, execID string, height, width uint) error
	DebugCreate(ctx context.Context, req api.DebugRequest) (api.DebugSession, error)
	DebugSession(ctx context.Context, id string) (engine.DebugSession, error)
	DebugSessions(ctx context.Context) ([]engine.DebugSession, error)
}

type imageBackend interface {
	ImageLoad(ctx context.Context, r io.Reader, o engine.ImageLoadOptions, progress func(any)) ([]string, error)
	ImageSave(ctx context.Context, w io.Writer, refs []string, platforms []ocispec.Platform) error
	ImageImportURL(ctx context.Context, address string, o engine.ImageImportOptions, progress func(any)) (string, error)
	ImageImport(ctx context.Context, r io.Reader, o engine.ImageImportOptions) (string, error)
	ImageList(ctx context.Context, o engine.ImageListOptions) ([]image.Summary, error)
	ImageInspect(ctx context.Context, ref string) (image.InspectResponse, error)
	ImageHistory(ctx context.Context, ref string) ([]image.HistoryResponseItem, error)
	ImageLayers(ctx context.Context, ref string, hidden int) (phimg.Layering, error)
	ImageBlame(ctx context.Context, ref, path string) (phimg.Blame, error)
	ImageTag(ctx context.Context, src, dst string) error
	ImageRemove(ctx context.Context, ref string, o engine.ImageRemoveOptions) ([]image.DeleteResponse, error)
	ImagesPrune(ctx context.Context, f engine.Filters) (image.PruneReport, error)
}

type registryBackend interface {
	ImagePull(ctx context.Context, ref reference.Named, o engine.ImagePullOptions, progress func(any)) error
	ImagePush(ctx context.Context, ref reference.Named, all bool, o engine.ImagePushOptions, progress func(any), pushed func(engine.ImagePushed)) error
	ImageDistribution(ctx context.Context, ref reference.Named, creds engine.RegistryCredentials) (engine.ImageDistribution, error)
	RegistryLogin(ctx context.Context, server string, creds engine.RegistryCredentials) (identity string, err error)
	RegistrySearch(ctx context.Context, term string, limit int, creds engine.RegistryCredentials) ([]engine.RegistryFound, error)
}

type networkBackend interface {
	NetworkList(ctx context.Context, f engine.Filters) ([]network.Summary, error)
	NetworkInspect(ctx context.Context, ref string) (*network.Inspect, error)
	NetworkCreate(ctx context.Context, req network.CreateRequest) (network.CreateResponse, error)
	NetworkRemove(ctx context.Context, ref string) error
	NetworkConnect(ctx context.Context, ref string, req network.ConnectRequest) error
	NetworkDisconnect(ctx context.Context, ref string, req network.DisconnectRequest) error
	NetworksPrune(ctx context.Context, f engine.Filters) (network.PruneReport, error)
	NetworkCheck(ctx context.Context, from, target string) ([]phnet.Hop, error)
	ContainerCapture(ctx context.Context, ref string, o engine.CaptureOptions, open func(context.Context) io.Writer) error
	ContainerReach(ref string, port uint16) ([]phnet.ReachPort, bool, error)
	NetworkSurvey() (phnet.Survey, error)
	Sockets(ns *os.File) ([]phnet.Socket, error)
	ContainerForward(ctx context.Context, ref string, p phnet.PortSpec) ([]phnet.Published, error)
	ContainerUnforward(ctx context.Context, ref string, hostPort uint16) error
	ContainerForwards(ref string) ([]phnet.Published, error)
	ContainerQueries(ctx context.Context, ref string) (keeper.Queries, error)
}

type volumeBackend interface {
	VolumeCreate(ctx context.Context, req volume.CreateRequest) (*volume.Volume, error)
	VolumeList(ctx context.Context, f engine.Filters) (*volume.ListResponse, error)
	VolumeInspect(ctx context.Context, name string) (*volume.Volume, error)
	VolumeRemove(ctx context.Context, name string, force bool) error
	VolumesPrune(ctx context.Context, f engine.Filters) (volume.PruneReport, error)
}

// lookBackend is what package debug/look needs beyond the other verbs.
type lookBackend interface {
	Subjects() []engine.Subject
	Processes(ref string) ([]ps.Info, error)
	Addresses() map[netip.Addr]string
	ContainerGraft(ctx context.Context, ref string, g engine.GraftSpec) (state.Graft, error)
	ContainerUngraft(ctx context.Context, ref, destination string) error
	ContainerGrafts(ref string) ([]state.Graft, error)
}

var _ Backend = (*engine.Engine)(nil)

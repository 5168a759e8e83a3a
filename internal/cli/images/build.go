package images

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/containerd/platforms"
	"github.com/docker/cli/opts"
	units "github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/buildspec"
	"github.com/portholehq/porthole/internal/cli/buildcontext"
	"github.com/portholehq/porthole/internal/cli/builds"
	"github.com/portholehq/porthole/internal/cli/command"
)

// buildOptions are the flags of "build".
type buildOptions struct {
	tags, buildArgs, labels, extraHosts opts.ListOpts
	cacheFrom                           []string
	ulimits                             *opts.UlimitOpt
	memory, shmSize                     opts.MemBytes
	memorySwap                          opts.MemSwapBytes
	file, target, network               string
	platforms                           []string
	iidFile, cpusetCPUs, cpusetMems     string
	cpuShares, cpuPeriod, cpuQuota      int64
	quiet, noCache, pull, rm, forceRm   bool
	explain                             bool
	id                                  string // of the build, with explain
	debugFlags
	kitFlags
}

// newBuildOptions returns options of which nothing is set.
func newBuildOptions() *buildOptions {
	return &buildOptions{
		tags: opts.NewListOpts(nil), buildArgs: opts.NewListOpts(opts.ValidateEnv), labels: opts.NewListOpts(opts.ValidateLabel),
		extraHosts: opts.NewListOpts(opts.ValidateExtraHost), ulimits: opts.NewUlimitOpt(nil),
	}
}

// NewBuild returns "build".
func NewBuild(a *command.App) *cobra.Command {
	o := newBuildOptions()
	cmd := &cobra.Command{
		Use:   "build [OPTIONS] PATH | URL | -",
		Short: "Build an image from a Dockerfile",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.wanted(a) {
				if o.explain {
					return errExplainDebug
				}
				return o.debug(cmd.Context(), a, args[0])
			}
			return o.explained(cmd.Context(), a, args[0])
		},
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.VarP(&o.tags, "tag", "t", `Name and optionally a tag in the "name:tag" format`)
	set.StringVarP(&o.file, "file", "f", "", `Name of the Dockerfile (Default is "PATH/Dockerfile")`)
	set.Var(&o.buildArgs, "build-arg", "Set build-time variables")
	set.Var(&o.labels, "label", "Set metadata for an image")
	set.Var(&o.extraHosts, "add-host", `Add a custom host-to-IP mapping ("host:ip")`)
	set.StringArrayVar(&o.cacheFrom, "cache-from", nil, "External cache sources (e.g., \"user/app:cache\", \"type=local,src=path/to/dir\")")
	set.Var(o.ulimits, "ulimit", "Ulimit options")
	set.VarP(&o.memory, "memory", "m", "Memory limit of each step")
	set.Var(&o.memorySwap, "memory-swap", `Swap limit equal to memory plus swap: -1 to enable unlimited swap`)
	set.Var(&o.shmSize, "shm-size", `Size of "/dev/shm"`)
	set.Int64VarP(&o.cpuShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	set.Int64Var(&o.cpuPeriod, "cpu-period", 0, "Limit the CPU CFS (Completely Fair Scheduler) period")
	set.Int64Var(&o.cpuQuota, "cpu-quota", 0, "Limit the CPU CFS (Completely Fair Scheduler) quota")
	set.StringVar(&o.cpusetCPUs, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	set.StringVar(&o.cpusetMems, "cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)")
	set.StringVar(&o.target, "target", "", "Set the target build stage to build")
	set.StringSliceVar(&o.platforms, "platform", defaultPlatforms(), "Set target platforms for build")
	set.StringVar(&o.network, "network", "default", "Set the networking mode for the RUN instructions during build")
	set.StringVar(&o.iidFile, "iidfile", "", "Write the image ID to a file")
	set.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress the build output and print image ID on success")
	set.BoolVar(&o.noCache, "no-cache", false, "Do not use cache when building the image")
	set.BoolVar(&o.pull, "pull", false, "Always attempt to pull all referenced images")
	set.BoolVar(&o.rm, "rm", true, "Remove intermediate containers after a successful build")
	set.BoolVar(&o.forceRm, "force-rm", false, "Always remove intermediate containers")
	set.BoolVar(&o.explain, "explain", false, "Tell in the end why each step was done or not (on standard error)")
	o.debugFlags.add(set)
	o.kitFlags.add(set)
	cmd.AddCommand(newBuildContext(a))
	cmd.AddCommand(builds.New(a)...)
	return command.Common(cmd, 4, "image build", "build")
}

func (o *buildOptions) run(ctx context.Context, a *command.App, where string) error {
	options, err := o.options(a)
	if err != nil {
		return err
	}
	if o.iidFile != "" {
		// What an earlier build has left must not be taken for this one's.
		if err := os.Remove(o.iidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	source, err := o.source(ctx, a, where, &options)
	if err != nil {
		return err
	}
	if source != nil {
		defer source.Close()
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	result, err := c.ImageBuild(ctx, source, options)
	if err != nil {
		return err
	}
	defer result.Body.Close()
	id := ""
	note := func(m jsonstream.Message) {
		var aux struct{ ID string }
		if m.Aux != nil && json.Unmarshal(*m.Aux, &aux) == nil && aux.ID != "" {
			id = aux.ID
		}
	}
	if err := a.ProgressAux(ctx, result.Body, a.Out, note); err != nil {
		return buildFailure(err)
	}
	if o.iidFile != "" {
		return os.WriteFile(o.iidFile, []byte(id), 0o666)
	}
	return nil
}

// buildFailure ends the program as the failed step has ended.
func buildFailure(err error) error {
	if e, ok := errors.AsType[*jsonstream.Error](err); ok && e.Code > 0 {
		return &command.StatusError{Code: e.Code, Text: e.Message, Err: err}
	}
	return err
}

// options brings the flags into the API's form.
func (o *buildOptions) options(a *command.App) (mobyclient.ImageBuildOptions, error) {
	out := mobyclient.ImageBuildOptions{
		Tags: o.tags.GetSlice(), SuppressOutput: o.quiet, NoCache: o.noCache, Remove: o.rm, ForceRemove: o.forceRm, PullParent: o.pull,
		CPUSetCPUs: o.cpusetCPUs, CPUSetMems: o.cpusetMems, CPUShares: o.cpuShares, CPUQuota: o.cpuQuota, CPUPeriod: o.cpuPeriod,
		Memory: o.memory.Value(), MemorySwap: o.memorySwap.Value(), NetworkMode: o.network, ShmSize: o.shmSize.Value(),
		Ulimits: o.ulimits.GetList(), BuildArgs: opts.ConvertKVStringsToMapWithNil(o.buildArgs.GetSlice()),
		Labels: opts.ConvertKVStringsToMap(o.labels.GetSlice()), CacheFrom: o.cacheFrom, ExtraHosts: o.extraHosts.GetSlice(),
		Target: o.target, Dockerfile: o.file, BuildID: o.id,
	}
	for _, text := range o.platforms {
		p, err := platforms.Parse(text)
		if err != nil {
			return out, err
		}
		out.Platforms = append(out.Platforms, p)
	}
	all, err := a.Config().GetAllCredentials()
	if err != nil {
		return out, err
	}
	out.AuthConfigs = map[string]registry.AuthConfig{}
	for server, stored := range all {
		out.AuthConfigs[server] = registry.AuthConfig{
			Username: stored.Username, Password: stored.Password, Auth: stored.Auth, ServerAddress: stored.ServerAddress,
			IdentityToken: stored.IdentityToken, RegistryToken: stored.RegistryToken,
		}
	}
	return out, nil
}

// source opens the build's context as a tar stream; nil for one that the daemon
// fetches.
func (o *buildOptions) source(ctx context.Context, a *command.App, where string, options *mobyclient.ImageBuildOptions) (io.ReadCloser, error) {
	switch {
	case where == "-":
		return o.fromStdin(a.In, options)
	case buildspec.IsURL(where):
		options.RemoteContext = where
		return nil, nil
	}
	file := o.file
	if file == "" {
		file = "Dockerfile"
	} else if inside, ok := pathInside(where, file); ok {
		file = inside
	} else {
		return nil, fmt.Errorf("unable to prepare context: the Dockerfile (%s) must be within the build context", o.file)
	}
	options.Dockerfile = filepath.ToSlash(file)
	if _, err := os.Stat(filepath.Join(where, file)); err != nil {
		return nil, fmt.Errorf("unable to prepare context: unable to evaluate symlinks in Dockerfile path: %w", err)
	}
	bc, err := buildcontext.Open(where, options.Dockerfile)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(bc.Send(ctx, w)) }()
	return r, nil
}

// pathInside is the path of file, which is given from here, in the directory.
func pathInside(dir, file string) (string, bool) {
	absDir, err := filepath.Abs(dir)
	if err != nil {
		return "", false
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(absDir, abs)
	return rel, err == nil && filepath.IsLocal(rel)
}

// fromStdin takes a tar stream, packed or not, or the text of a Dockerfile.
func (o *buildOptions) fromStdin(in io.Reader, options *mobyclient.ImageBuildOptions) (io.ReadCloser, error) {
	r := bufio.NewReader(in)
	head, err := r.Peek(512)
	if len(head) == 0 {
		return nil, fmt.Errorf("failed to peek context header from STDIN: %w", err)
	}
	if buildspec.IsArchive(head) {
		return io.NopCloser(r), nil
	}
	if o.file != "" {
		return nil, errors.New("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
	}
	text, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return nil, err
	}
	options.Dockerfile = "Dockerfile"
	return buildcontext.Single("Dockerfile", text), nil
}

// newBuildContext returns "build context", which has "ls".
func newBuildContext(a *command.App) *cobra.Command {
	file, all := "", false
	ls := &cobra.Command{
		Use:   "ls [OPTIONS] [PATH]",
		Short: "List the files that a build would be sent, and what leaves out the others",
		Args:  command.MaxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			where := "."
			if len(args) > 0 {
				where = args[0]
			}
			return listContext(cmd.Context(), a.Out, where, file, all)
		},
		DisableFlagsInUseLine: true,
	}
	ls.Flags().StringVarP(&file, "file", "f", "Dockerfile", "Path of the Dockerfile in the context")
	ls.Flags().BoolVar(&all, "all", false, "Show directories as well")
	return command.Group(a, "context", "Look at what a build is given", ls)
}

func listContext(ctx context.Context, out io.Writer, where, file string, all bool) error {
	bc, err := buildcontext.Open(where, filepath.ToSlash(file))
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 10, 1, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "PATH\tSIZE\tLEFT OUT BY")
	var sent, files int64
	err = bc.Walk(ctx, func(e buildcontext.Entry) error {
		if e.Info.IsDir() && e.Rule == nil && !all {
			return nil
		}
		size, rule, path := units.HumanSize(float64(e.Info.Size())), "", e.Path
		if e.Info.IsDir() {
			size, path = "", path+"/"
		}
		if e.Rule != nil {
			rule = e.Rule.String()
		} else if e.Info.Mode().IsRegular() {
			sent += e.Info.Size()
			files++
		}
		_, err := fmt.Fprintf(w, "%s\t%s\t%s\n", path, size, rule)
		return err
	})
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(w, "\nSent: %d files, %s\n", files, units.HumanSize(float64(sent)))
	return w.Flush()
}

package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/copytar"
)

type cpOptions struct {
	followLink, archive, quiet bool
}

// NewCp returns "cp".
func NewCp(a *command.App) *cobra.Command {
	var o cpOptions
	cmd := &cobra.Command{
		Use: `cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-
	porthole cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH`,
		Short: "Copy files/folders between a container and the local filesystem",
		Long: `Copy files/folders between a container and the local filesystem

Use '-' as the source to read a tar archive from stdin
and extract it to a directory destination in a container.
Use '-' as the destination to stream a tar archive of a
container source to stdout.`,
		Args: command.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("quiet") {
				o.quiet = !a.OutIsTerminal()
			}
			return o.run(cmd.Context(), a, args[0], args[1])
		},
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.followLink, "follow-link", "L", false, "Always follow symbol link in SRC_PATH")
	set.BoolVarP(&o.archive, "archive", "a", false, "Archive mode (copy all uid/gid information)")
	set.BoolVarP(&o.quiet, "quiet", "q", false,
		"Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached")
	return command.Common(cmd, 0, "container cp", "cp")
}

func (o *cpOptions) run(ctx context.Context, a *command.App, source, destination string) error {
	switch {
	case source == "":
		return errors.New("source can not be empty")
	case destination == "":
		return errors.New("destination can not be empty")
	}
	from, src := splitContainer(source)
	to, dst := splitContainer(destination)
	c, err := a.Client()
	if err != nil {
		return err
	}
	switch {
	case from != "" && to != "":
		return errors.New("copying between containers is not supported")
	case from != "":
		return (&fromContainer{o, a, c, from}).copy(ctx, src, dst)
	case to != "":
		return (&toContainer{o, a, c, to}).copy(ctx, src, dst)
	}
	return errors.New("must specify at least one container source")
}

// splitContainer splits CONTAINER:PATH. A local path with a colon is told by
// its beginning: a slash or a dot.
func splitContainer(arg string) (container, file string) {
	if filepath.IsAbs(arg) || strings.HasPrefix(arg, string(os.PathSeparator)) {
		return "", arg
	}
	container, file, ok := strings.Cut(arg, ":")
	if !ok || strings.HasPrefix(container, ".") {
		return "", arg
	}
	return container, file
}

// absolute keeps the ending of a local path, which has a meaning.
func absolute(file string) (string, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	return copytar.KeepEnding(filepath.ToSlash(abs), filepath.ToSlash(file)), nil
}

// localEnd looks at a local destination.
func localEnd(file string) (copytar.End, error) {
	dir, _ := copytar.Split(file)
	if info, err := os.Stat(filepath.FromSlash(dir)); err != nil || !info.IsDir() {
		return copytar.End{}, fmt.Errorf("invalid output path: directory %q does not exist", dir)
	}
	end := copytar.End{Path: file}
	info, err := os.Stat(filepath.FromSlash(strings.TrimSuffix(file, "/")))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return end, nil
	case err != nil:
		return end, err
	case info.Mode()&(fs.ModeDevice|fs.ModeIrregular) != 0:
		return end, fmt.Errorf("invalid output path: %q must be a directory or a regular file: got %s", file, special(info.Mode()))
	}
	end.Exists, end.IsDir = true, info.IsDir()
	return end, nil
}

func special(mode fs.FileMode) string {
	if mode&fs.ModeDevice != 0 {
		return "a device"
	}
	return "an irregular file"
}

type fromContainer struct {
	*cpOptions
	app       *command.App
	client    *client.Client
	container string
}

func (f *fromContainer) copy(ctx context.Context, src, dst string) error {
	toStdout := dst == "-"
	var end copytar.End
	if !toStdout {
		abs, err := absolute(dst)
		if err != nil {
			return err
		}
		if end, err = localEnd(abs); err != nil {
			return err
		}
	}
	shown := src
	if f.followLink {
		src = f.follow(ctx, src)
	}
	res, err := f.client.CopyFromContainer(ctx, f.container, mobyclient.CopyFromContainerOptions{SourcePath: src})
	if err != nil {
		return err
	}
	defer func() { _ = res.Content.Close() }()
	if toStdout {
		_, err := io.Copy(f.app.Out, res.Content)
		return err
	}
	dir, name, err := copytar.Place(copytar.End{Path: shown, Exists: true, IsDir: res.Stat.Mode.IsDir()}, end)
	if err != nil {
		return err
	}
	return f.unpack(ctx, res, src, dir, name, end.Path)
}

func (f *fromContainer) unpack(ctx context.Context, res mobyclient.CopyFromContainerResult, src, dir, name, shown string) error {
	p := startProgress(ctx, f.app, f.quiet, "Copying from container - ")
	owner := copytar.Caller
	if f.archive {
		owner = copytar.Archive
	}
	_, oldName := copytar.Split(src)
	err := copytar.Unpack(p.reader(res.Content), filepath.FromSlash(dir), oldName, name, owner)
	size := p.stop()
	if err != nil || f.quiet {
		return err
	}
	p.summary(size, filepath.FromSlash(shown))
	return nil
}

// follow returns what a symbolic link in the container points to.
func (f *fromContainer) follow(ctx context.Context, src string) string {
	res, err := f.client.ContainerStatPath(ctx, f.container, mobyclient.ContainerStatPathOptions{Path: src})
	if err != nil || res.Stat.Mode&fs.ModeSymlink == 0 {
		return src // the copy itself tells what is wrong
	}
	return linkTarget(src, res.Stat.LinkTarget)
}

func linkTarget(link, target string) string {
	if !path.IsAbs(target) {
		dir, _ := copytar.Split(link)
		target = path.Join(dir, target)
	}
	return copytar.KeepEnding(target, link)
}

type toContainer struct {
	*cpOptions
	app       *command.App
	client    *client.Client
	container string
}

func (t *toContainer) copy(ctx context.Context, src, dst string) error {
	end, err := t.containerEnd(ctx, dst)
	if err != nil {
		return err
	}
	if src == "-" {
		if !end.IsDir {
			return fmt.Errorf(`destination "%s:%s" must be a directory`, t.container, dst)
		}
		return t.send(ctx, t.app.In, end.Path, end.Path)
	}
	abs, err := absolute(src)
	if err != nil {
		return err
	}
	file := filepath.FromSlash(abs)
	if t.followLink || strings.HasSuffix(abs, "/") || strings.HasSuffix(abs, "/.") {
		if file, err = filepath.EvalSymlinks(file); err != nil {
			return err
		}
	}
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	dir, name, err := copytar.Place(copytar.End{Path: abs, Exists: true, IsDir: info.IsDir()}, end)
	if err != nil {
		return err
	}
	return t.pack(ctx, file, dir, name, end.Path)
}

// containerEnd looks at a destination in the container. One that cannot be
// seen may still do: the daemon decides.
func (t *toContainer) containerEnd(ctx context.Context, dst string) (copytar.End, error) {
	end := copytar.End{Path: dst}
	res, err := t.client.ContainerStatPath(ctx, t.container, mobyclient.ContainerStatPathOptions{Path: dst})
	if err == nil && res.Stat.Mode&fs.ModeSymlink != 0 {
		end.Path = linkTarget(dst, res.Stat.LinkTarget)
		res, err = t.client.ContainerStatPath(ctx, t.container, mobyclient.ContainerStatPathOptions{Path: end.Path})
	}
	if err != nil {
		return end, nil //nolint:nilerr // see above
	}
	if mode := res.Stat.Mode; mode&(fs.ModeDevice|fs.ModeIrregular) != 0 {
		return end, fmt.Errorf(`destination "%s:%s" must be a directory or a regular file: got %s`, t.container, dst, special(mode))
	}
	end.Exists, end.IsDir = true, res.Stat.Mode.IsDir()
	return end, nil
}

func (t *toContainer) pack(ctx context.Context, file, dir, name, shown string) error {
	r, w := io.Pipe()
	defer func() { _ = r.Close() }()
	go func() { _ = w.CloseWithError(copytar.Pack(w, file, name)) }()
	return t.send(ctx, r, dir, shown)
}

// send sends an archive.
func (t *toContainer) send(ctx context.Context, archive io.Reader, dir, shown string) error {
	p := startProgress(ctx, t.app, t.quiet, "Copying to container - ")
	_, err := t.client.CopyToContainer(ctx, t.container, mobyclient.CopyToContainerOptions{
		DestinationPath: dir, Content: p.reader(archive), CopyUIDGID: t.archive,
	})
	size := p.stop()
	if err != nil || t.quiet {
		return err
	}
	p.summary(size, t.container+":"+shown)
	return nil
}

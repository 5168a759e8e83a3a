package logship

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker/cli/templates"
)

// Info is what is known of a container where its log is sent. Fields and methods
// have the names that Docker's tag templates use.
type Info struct {
	Config              map[string]string // log options
	ContainerID         string
	ContainerName       string // with a leading slash
	ContainerEntrypoint string
	ContainerArgs       []string
	ContainerImageID    string
	ContainerImageName  string
	ContainerCreated    time.Time
	ContainerEnv        []string
	ContainerLabels     map[string]string
	LogPath             string
	DaemonName          string
}

// shortID is the length of an id as people see it.
const shortID = 12

// ID is the container's id, shortened.
func (i *Info) ID() string { return i.ContainerID[:min(shortID, len(i.ContainerID))] }

// FullID is the container's id.
func (i *Info) FullID() string { return i.ContainerID }

// Name is the container's name.
func (i *Info) Name() string { return strings.TrimPrefix(i.ContainerName, "/") }

// ImageID is the image's id, shortened as Docker does: with the algorithm.
func (i *Info) ImageID() string { return i.ContainerImageID[:min(shortID, len(i.ContainerImageID))] }

// ImageFullID is the image's id.
func (i *Info) ImageFullID() string { return i.ContainerImageID }

// ImageName is the name that the image was asked for by.
func (i *Info) ImageName() string { return i.ContainerImageName }

// Hostname is the host's.
func (i *Info) Hostname() (string, error) { return os.Hostname() }

// Command is the container's command line.
func (i *Info) Command() string {
	return strings.Join(append([]string{i.ContainerEntrypoint}, i.ContainerArgs...), " ")
}

// CheckTag reports what is wrong with a tag template.
func CheckTag(text string) error {
	_, err := (&Info{Config: map[string]string{"tag": text}}).Tag("")
	return err
}

// Tag executes the template of the option tag, or fallback where there is none.
func (i *Info) Tag(fallback string) (string, error) {
	text := i.Config["tag"]
	if text == "" {
		text = fallback
	}
	tmpl, err := templates.New("log-tag").Parse(text)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, i); err != nil {
		return "", err
	}
	return b.String(), nil
}

// Extra are the labels and variables that the options labels, labels-regex, env
// and env-regex name. key may be nil, or changes their names.
func (i *Info) Extra(key func(string) string) (map[string]string, error) {
	if key == nil {
		key = func(s string) string { return s }
	}
	env := map[string]string{}
	for _, e := range i.ContainerEnv {
		if k, v, ok := strings.Cut(e, "="); ok {
			env[k] = v
		}
	}
	extra := map[string]string{}
	for _, from := range []struct {
		option string
		values map[string]string
	}{{"labels", i.ContainerLabels}, {"env", env}} {
		for name := range strings.SplitSeq(i.Config[from.option], ",") {
			if v, ok := from.values[name]; ok {
				extra[key(name)] = v
			}
		}
		pattern := i.Config[from.option+"-regex"]
		if pattern == "" {
			continue
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, fmt.Errorf("invalid value for %s-regex: %w", from.option, err)
		}
		for _, name := range slices.Sorted(maps.Keys(from.values)) {
			if re.MatchString(name) {
				extra[key(name)] = from.values[name]
			}
		}
	}
	return extra, nil
}

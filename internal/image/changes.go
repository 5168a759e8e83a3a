package image

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/linux/signals"
)

// ApplyChanges changes an image configuration by Dockerfile instructions, as
// `import --change` and `commit --change` take them: CMD, ENTRYPOINT, ENV,
// EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR.
// The configuration is only changed when all instructions are good.
func ApplyChanges(config *dockerspec.DockerOCIImageConfig, changes []string) error {
	c, err := cloneConfig(*config)
	if err != nil {
		return err
	}
	for _, line := range changes {
		if err := applyChange(&c, line); err != nil {
			return err
		}
	}
	*config = c
	return nil
}

func cloneConfig(c dockerspec.DockerOCIImageConfig) (clone dockerspec.DockerOCIImageConfig, err error) {
	data, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(data, &clone)
	}
	if err != nil {
		return clone, fmt.Errorf("copy image configuration: %w", err)
	}
	return clone, nil
}

func applyChange(c *dockerspec.DockerOCIImageConfig, line string) error {
	line = strings.TrimSpace(line)
	if line == "" {
		return nil
	}
	word, rest, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
	name, rest := strings.ToUpper(word), strings.TrimSpace(rest)
	apply, ok := changeInstructions[name]
	if !ok {
		return failf(errdefs.ErrInvalidArgument, "%s is not a valid change command", strings.ToLower(word))
	}
	if rest == "" && name != "CMD" && name != "ENTRYPOINT" {
		return failf(errdefs.ErrInvalidArgument, "%s requires at least one argument", name)
	}
	if err := apply(c, rest); err != nil {
		return failf(errdefs.ErrInvalidArgument, "%s: %s", name, err)
	}
	return nil
}

var changeInstructions = map[string]func(*dockerspec.DockerOCIImageConfig, string) error{
	"CMD":         changeCmd,
	"ENTRYPOINT":  changeEntrypoint,
	"ENV":         changeEnv,
	"EXPOSE":      changeExpose,
	"HEALTHCHECK": changeHealthcheck,
	"LABEL":       changeLabel,
	"ONBUILD":     changeOnbuild,
	"STOPSIGNAL":  changeStopSignal,
	"USER":        changeUser,
	"VOLUME":      changeVolume,
	"WORKDIR":     changeWorkdir,
}

// command reads the exec form (a JSON list of strings) or else makes the shell
// form.
func command(c *dockerspec.DockerOCIImageConfig, text string) []string {
	if list, ok := jsonList(text); ok {
		return list
	}
	if text == "" {
		return nil
	}
	shell := c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), text)
}

func jsonList(text string) ([]string, bool) {
	if !strings.HasPrefix(text, "[") {
		return nil, false
	}
	list := []string{}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, false
	}
	return list, true
}

func changeCmd(c *dockerspec.DockerOCIImageConfig, text string) error {
	c.Cmd = command(c, text)
	return nil
}

func changeEntrypoint(c *dockerspec.DockerOCIImageConfig, text string) error {
	c.Entrypoint = command(c, text)
	// As a Dockerfile does: the inherited command was for the old entrypoint.
	c.Cmd = nil
	return nil
}

func changeEnv(c *dockerspec.DockerOCIImageConfig, text string) error {
	pairs, err := keyValues(text)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		entry := p.key + "=" + p.value
		i := slices.IndexFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, p.key+"=") })
		if i >= 0 {
			c.Env[i] = entry
		} else {
			c.Env = append(c.Env, entry)
		}
	}
	return nil
}

func changeLabel(c *dockerspec.DockerOCIImageConfig, text string) error {
	pairs, err := keyValues(text)
	if err != nil {
		return err
	}
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	for _, p := range pairs {
		c.Labels[p.key] = p.value
	}
	return nil
}

func changeExpose(c *dockerspec.DockerOCIImageConfig, text string) error {
	words, err := splitWords(text)
	if err != nil {
		return err
	}
	if c.ExposedPorts == nil {
		c.ExposedPorts = map[string]struct{}{}
	}
	for _, w := range words {
		ports, err := expandPorts(w)
		if err != nil {
			return err
		}
		for _, p := range ports {
			c.ExposedPorts[p] = struct{}{}
		}
	}
	return nil
}

// expandPorts reads PORT or FROM-TO, with an optional /tcp, /udp or /sctp.
func expandPorts(text string) ([]string, error) {
	ports, proto, ok := strings.Cut(text, "/")
	proto = strings.ToLower(proto)
	if !ok {
		proto = "tcp"
	}
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, proto) {
		return nil, fmt.Errorf("invalid proto: %s", proto)
	}
	first, last, ranged := strings.Cut(ports, "-")
	if !ranged {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("invalid containerPort: %s", text)
	}
	to, err := strconv.ParseUint(last, 10, 16)
	if err != nil || to < from {
		return nil, fmt.Errorf("invalid containerPort: %s", text)
	}
	var list []string
	for p := from; p <= to; p++ {
		list = append(list, strconv.FormatUint(p, 10)+"/"+proto)
	}
	return list, nil
}

func changeVolume(c *dockerspec.DockerOCIImageConfig, text string) error {
	words, ok := jsonList(text)
	if !ok {
		var err error
		if words, err = splitWords(text); err != nil {
			return err
		}
	}
	if c.Volumes == nil {
		c.Volumes = map[string]struct{}{}
	}
	for _, w := range words {
		if w = strings.TrimSpace(w); w == "" {
			return fmt.Errorf("VOLUME specified can not be an empty string")
		}
		c.Volumes[w] = struct{}{}
	}
	return nil
}

func changeUser(c *dockerspec.DockerOCIImageConfig, text string) error {
	words, err := splitWords(text)
	if err != nil {
		return err
	}
	if len(words) != 1 {
		return fmt.Errorf("USER requires exactly one argument")
	}
	c.User = words[0]
	return nil
}

func changeWorkdir(c *dockerspec.DockerOCIImageConfig, text string) error {
	words, err := splitWords(text)
	if err != nil {
		return err
	}
	if len(words) != 1 {
		return fmt.Errorf("WORKDIR requires exactly one argument")
	}
	dir := words[0]
	if !path.IsAbs(dir) {
		dir = path.Join("/", c.WorkingDir, dir)
	}
	c.WorkingDir = path.Clean(dir)
	return nil
}

func changeStopSignal(c *dockerspec.DockerOCIImageConfig, text string) error {
	if _, err := signals.Parse(text); err != nil {
		return err
	}
	c.StopSignal = text
	return nil
}

func changeOnbuild(c *dockerspec.DockerOCIImageConfig, text string) error {
	word, _, _ := strings.Cut(text, " ")
	switch strings.ToUpper(word) {
	case "ONBUILD":
		return fmt.Errorf("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
	case "MAINTAINER", "FROM":
		return fmt.Errorf("%s isn't allowed as an ONBUILD trigger", strings.ToUpper(word))
	}
	c.OnBuild = append(c.OnBuild, text)
	return nil
}

func changeHealthcheck(c *dockerspec.DockerOCIImageConfig, text string) error {
	h := &dockerspec.HealthcheckConfig{}
	for {
		word, rest, _ := strings.Cut(text, " ")
		flag, ok := strings.CutPrefix(word, "--")
		if !ok {
			break
		}
		if err := healthFlag(h, flag); err != nil {
			return err
		}
		text = strings.TrimSpace(rest)
	}
	kind, rest, _ := strings.Cut(text, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToUpper(kind) {
	case "NONE":
		if rest != "" {
			return fmt.Errorf("HEALTHCHECK NONE takes no arguments")
		}
		h.Test = []string{"NONE"}
	case "CMD":
		list, exec := jsonList(rest)
		switch {
		case rest == "" || exec && len(list) == 0:
			return fmt.Errorf("missing command after HEALTHCHECK CMD")
		case exec:
			h.Test = append([]string{"CMD"}, list...)
		default:
			h.Test = []string{"CMD-SHELL", rest}
		}
	default:
		return fmt.Errorf("unknown type %q in HEALTHCHECK (try CMD)", strings.ToUpper(kind))
	}
	c.Healthcheck = h
	return nil
}

func healthFlag(h *dockerspec.HealthcheckConfig, flag string) error {
	name, value, _ := strings.Cut(flag, "=")
	if name == "retries" {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return fmt.Errorf("--retries cannot be %q", value)
		}
		h.Retries = n
		return nil
	}
	targets := map[string]*time.Duration{
		"interval": &h.Interval, "timeout": &h.Timeout,
		"start-period": &h.StartPeriod, "start-interval": &h.StartInterval,
	}
	target, ok := targets[name]
	if !ok {
		return fmt.Errorf("unknown flag: --%s", name)
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return err
	}
	if d != 0 && d < time.Millisecond {
		return fmt.Errorf("interval %q cannot be less than 1ms", name)
	}
	*target = d
	return nil
}

type keyValue struct{ key, value string }

// keyValues reads "k=v k2="v 2"", or the old form "k the whole rest".
func keyValues(text string) ([]keyValue, error) {
	first, rest, _ := strings.Cut(text, " ")
	if !strings.Contains(first, "=") {
		if strings.TrimSpace(rest) == "" {
			return nil, fmt.Errorf("must have two arguments")
		}
		return []keyValue{{first, strings.TrimSpace(rest)}}, nil
	}
	words, err := splitWords(text)
	if err != nil {
		return nil, err
	}
	var pairs []keyValue
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return nil, fmt.Errorf("syntax error - can't find = in %q. Must be of the form: name=value", w)
		}
		if k == "" {
			return nil, fmt.Errorf("names can not be blank")
		}
		pairs = append(pairs, keyValue{k, v})
	}
	return pairs, nil
}

// splitWords splits at spaces; quotes and backslashes are as in a Dockerfile.
func splitWords(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	started := false
	quote := rune(0)
	escaped := false
	for _, r := range text {
		switch {
		case escaped:
			// In double quotes a backslash only escapes what would end them.
			if quote == '"' && r != '"' && r != '\\' {
				word.WriteRune('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, started = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, started = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if started {
				words = append(words, word.String())
				word.Reset()
				started = false
			}
		default:
			word.WriteRune(r)
			started = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("unexpected end of statement while looking for matching %q", quote)
	}
	if escaped {
		word.WriteRune('\\')
	}
	if started {
		words = append(words, word.String())
	}
	return words, nil
}

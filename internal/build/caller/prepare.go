package caller

import (
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/tonistiigi/fsutil"

	"github.com/portholehq/porthole/internal/build/order"
	"github.com/portholehq/porthole/internal/buildspec"
	"github.com/portholehq/porthole/internal/undo"
)

// build is one build under way.
type build struct {
	o     Options
	r     buildspec.Request
	solve client.SolveOpt
	// display shows how far it has come.
	display progressui.Display
	// steps remove what is needed no more afterwards.
	steps undo.Stack
}

// prepare turns what is asked for into BuildKit's words.
func (b *build) prepare() error {
	attrs, err := b.attributes()
	if err != nil {
		return err
	}
	mode := progressui.DisplayMode(b.r.Progress)
	if b.r.SuppressOutput {
		mode = progressui.QuietMode
	}
	if b.display, err = progressui.NewDisplay(b.o.Err, mode); err != nil {
		return err
	}
	b.solve = client.SolveOpt{Ref: b.r.BuildID, Frontend: "dockerfile.v0", FrontendAttrs: attrs, LocalMounts: map[string]fsutil.FS{}}
	if b.r.NetworkMode == "host" {
		b.solve.AllowedEntitlements = append(b.solve.AllowedEntitlements, entitlements.EntitlementNetworkHost.String())
	}
	for _, step := range []func() error{b.context, b.namedContexts, b.secrets, b.ssh, b.outputs, b.caches, b.attests} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// attributes are those that the classic build has as well, and the ones that
// need no more than a word.
func (b *build) attributes() (map[string]string, error) {
	r := &b.r
	o := order.Options{
		NoCache: r.NoCache, Pull: r.PullParent, Target: r.Target, Platform: strings.Join(r.Platforms, ","), BuildArgs: r.BuildArgs,
		Labels: r.Labels, Network: r.NetworkMode, ExtraHosts: r.ExtraHosts, ShmSize: r.ShmSize, Memory: r.Memory, MemorySwap: r.MemorySwap,
		CPUShares: r.CPUShares, CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota, CPUSetCPUs: r.CPUSetCPUs, CPUSetMems: r.CPUSetMems,
	}
	for _, u := range r.Ulimits {
		o.Ulimits = append(o.Ulimits, u.String())
	}
	attrs, err := o.Attributes()
	if err != nil {
		return nil, err
	}
	for name, value := range r.BuildArgs {
		if own, set := os.LookupEnv(name); value == nil && set {
			attrs["build-arg:"+name] = own
		}
	}
	if len(r.NoCacheFilter) > 0 {
		if r.NoCache {
			return nil, errors.New("--no-cache and --no-cache-filter cannot currently be used together")
		}
		attrs["no-cache"] = strings.Join(r.NoCacheFilter, ",")
	}
	return attrs, nil
}

// fields reads "key=value,key=value"; a field without a value stands for true.
func fields(flag, text string) (map[string]string, error) {
	row, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, fmt.Errorf("invalid value for %s: %q: %w", flag, text, err)
	}
	out := map[string]string{}
	for _, field := range row {
		key, value, given := strings.Cut(field, "=")
		if key = strings.ToLower(strings.TrimSpace(key)); key == "" {
			return nil, fmt.Errorf("invalid value for %s: %q", flag, text)
		}
		if !given {
			value = "true"
		}
		out[key] = value
	}
	return out, nil
}

// take removes the first of the keys that is there and returns its value.
func take(m map[string]string, keys ...string) (value string) {
	for _, key := range keys {
		if v, ok := m[key]; ok && value == "" {
			value = v
		}
		delete(m, key)
	}
	return value
}

// unknown is the error of fields that a flag does not have.
func unknown(flag string, left map[string]string) error {
	if len(left) == 0 {
		return nil
	}
	return fmt.Errorf("invalid value for %s: unexpected key '%s'", flag, slices.Min(slices.Collect(maps.Keys(left))))
}

// secrets are read when a step asks for them, and were looked for before.
func (b *build) secrets() error {
	var sources []secretsprovider.Source
	for _, text := range b.r.Secrets {
		f, err := fields("--secret", text)
		if err != nil {
			return err
		}
		kind := take(f, "type")
		s := secretsprovider.Source{ID: take(f, "id"), FilePath: take(f, "src", "source"), Env: take(f, "env")}
		switch {
		case kind != "" && kind != "file" && kind != "env":
			return fmt.Errorf("unsupported secret type %q", kind)
		case s.ID == "":
			return fmt.Errorf("invalid value for --secret: %q has no id", text)
		}
		if kind == "env" && s.Env == "" {
			s.Env, s.FilePath = s.FilePath, ""
		}
		if err := unknown("--secret", f); err != nil {
			return err
		}
		sources = append(sources, s)
	}
	if len(sources) == 0 {
		return nil
	}
	store, err := secretsprovider.NewStore(sources)
	if err != nil {
		return err
	}
	b.solve.Session = append(b.solve.Session, secretsprovider.NewSecretProvider(store))
	return nil
}

// ssh are agents and keys, as "default" or "ID=SOCKET|KEY[,KEY]".
func (b *build) ssh() error {
	var agents []sshprovider.AgentConfig
	for _, text := range b.r.SSH {
		id, paths, given := strings.Cut(text, "=")
		a := sshprovider.AgentConfig{ID: id}
		if given {
			a.Paths = strings.Split(paths, ",")
		}
		agents = append(agents, a)
	}
	if len(agents) == 0 {
		return nil
	}
	provider, err := sshprovider.NewSSHAgentProvider(agents)
	if err != nil {
		return err
	}
	b.solve.Session = append(b.solve.Session, provider)
	return nil
}

// caches are where results are looked for and left, by "type=…,…" or the name of
// an image.
func (b *build) caches() error {
	for flag, list := range map[string][]string{"--cache-from": b.r.CacheFrom, "--cache-to": b.r.CacheTo} {
		for _, text := range list {
			f := map[string]string{"type": "registry", "ref": text}
			if strings.Contains(text, "=") {
				var err error
				if f, err = fields(flag, text); err != nil {
					return err
				}
			}
			e := client.CacheOptionsEntry{Type: take(f, "type"), Attrs: f}
			switch {
			case e.Type == "local" || e.Type == "registry" || e.Type == "inline" && flag == "--cache-to":
			case e.Type == "":
				return fmt.Errorf("invalid value for %s: %q has no type", flag, text)
			default:
				return fmt.Errorf("invalid value for %s: type %q is not supported: want local, registry or, for --cache-to, inline", flag, e.Type)
			}
			if flag == "--cache-from" {
				b.solve.CacheImports = append(b.solve.CacheImports, e)
			} else {
				b.solve.CacheExports = append(b.solve.CacheExports, e)
			}
		}
	}
	return nil
}

// attests are what is to be told about the result, as "type=provenance,…".
func (b *build) attests() error {
	for _, text := range b.r.Attests {
		f, err := fields("--attest", text)
		if err != nil {
			return err
		}
		kind, off := take(f, "type"), take(f, "disabled")
		switch kind {
		case "provenance", "sbom":
		case "":
			return fmt.Errorf("invalid value for --attest: %q has no type", text)
		default:
			return fmt.Errorf("invalid value for --attest: type %q is not supported: want provenance or sbom", kind)
		}
		if off == "true" {
			continue
		}
		var words []string
		for _, key := range slices.Sorted(maps.Keys(f)) {
			words = append(words, key+"="+f[key])
		}
		b.solve.FrontendAttrs["attest:"+kind] = strings.Join(words, ",")
	}
	return nil
}

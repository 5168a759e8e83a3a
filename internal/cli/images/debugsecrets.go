package images

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/portholehq/porthole/client"
)

// readSecrets reads what --secret names, as buildx does: "id=ID,src=FILE",
// "id=ID,env=VARIABLE", or the ID alone for a variable or a file of that name.
func readSecrets(flags []string) (map[string][]byte, error) {
	secrets := map[string][]byte{}
	total := 0
	for _, flag := range flags {
		id, data, err := readSecret(flag)
		if err != nil {
			return nil, err
		}
		if total += len(data); total > client.MaxBuildSecrets {
			return nil, fmt.Errorf("--secret: more than %d bytes", client.MaxBuildSecrets)
		}
		secrets[id] = data
	}
	return secrets, nil
}

func readSecret(flag string) (id string, data []byte, err error) {
	fields, err := csv.NewReader(strings.NewReader(flag)).Read()
	if err != nil {
		return "", nil, fmt.Errorf("failed to parse csv secret: %w", err)
	}
	kind, file, env := "", "", ""
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return "", nil, fmt.Errorf("invalid field '%s' must be a key=value pair", field)
		}
		switch strings.ToLower(key) {
		case "type":
			if kind = value; kind != "file" && kind != "env" {
				return "", nil, fmt.Errorf("unsupported secret type %q", value)
			}
		case "id":
			id = value
		case "source", "src":
			file = value
		case "env":
			env = value
		default:
			return "", nil, fmt.Errorf("unexpected key '%s' in '%s'", key, field)
		}
	}
	if id == "" {
		return "", nil, fmt.Errorf("--secret %q has no id", flag)
	}
	if kind == "env" && env == "" {
		env, file = file, ""
	}
	if file == "" && env == "" {
		if _, set := os.LookupEnv(id); set || kind == "env" {
			env = id
		} else {
			file = id
		}
	}
	if env != "" {
		return id, []byte(os.Getenv(env)), nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	data, err = io.ReadAll(io.LimitReader(f, client.MaxBuildSecrets+1))
	return id, data, err
}

// checkDebug refuses flags that a build with a debugger has no use for: it goes
// without BuildKit's API.
func (o *buildOptions) checkDebug(where string) error {
	if name := o.kitFlag("secret"); name != "" {
		return fmt.Errorf("conflicting options: cannot specify both --debug and --%s", name)
	}
	for _, from := range o.cacheFrom {
		if strings.Contains(from, "=") {
			return errors.New("conflicting options: cannot specify both --debug and --cache-from with a type")
		}
	}
	switch {
	case len(o.platforms) > 1:
		return errors.New("several platforms cannot be debugged at once")
	case o.fileElsewhere(where):
		return errors.New("--debug: the Dockerfile must be within the build context")
	case where == "-":
		return errors.New("--debug: a build context from standard input leaves no input for the debugger")
	}
	return nil
}

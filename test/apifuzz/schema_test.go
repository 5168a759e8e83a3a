package apifuzz

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"go.yaml.in/yaml/v3"

	"github.com/portholehq/porthole/api"
)

// An operation is one method of one path.
type operation struct {
	method, path string
	parameters   []parameter
	// body is nil if the operation has none.
	body schema
}

// A parameter of a path has the name that stands in braces there.
type parameter struct {
	name   string
	in     string // query, path or header
	schema schema
}

// A schema is one of OpenAPI 2.0, as YAML has it.
type schema map[string]any

// definitions resolve references.
type definitions map[string]any

// resolve follows references and joins what allOf lists.
func (d definitions) resolve(s schema) schema {
	for range 20 {
		ref, ok := s["$ref"].(string)
		if !ok {
			break
		}
		s, _ = d[strings.TrimPrefix(ref, "#/definitions/")].(map[string]any)
	}
	parts, ok := s["allOf"].([]any)
	if !ok {
		return s
	}
	joined := map[string]any{}
	for _, part := range parts {
		one, _ := part.(map[string]any)
		properties, _ := d.resolve(one)["properties"].(map[string]any)
		maps.Copy(joined, properties)
	}
	return schema{"type": "object", "properties": joined}
}

// engineAPI reads the operations of the Engine API out of the module that the
// wire types come from.
func engineAPI(t *testing.T) ([]operation, definitions) {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output()
	if err != nil {
		t.Fatalf("find the schema of the Engine API: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "swagger.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths       map[string]map[string]any
		Definitions definitions
	}
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	var all []operation
	for path, methods := range document.Paths {
		for method, detail := range methods {
			op, ok := detail.(map[string]any)
			if !ok || method == "parameters" {
				continue
			}
			all = append(all, operationOf(strings.ToUpper(method), path, op))
		}
	}
	return all, document.Definitions
}

func operationOf(method, path string, detail map[string]any) operation {
	op := operation{method: method, path: path}
	list, _ := detail["parameters"].([]any)
	for _, each := range list {
		p, _ := each.(map[string]any)
		name, in := fmt.Sprint(p["name"]), fmt.Sprint(p["in"])
		if in != "body" {
			op.parameters = append(op.parameters, parameter{name: name, in: in, schema: p})
			continue
		}
		op.body, _ = p["schema"].(map[string]any)
	}
	return op
}

// ownBodies are what our own endpoints read.
var ownBodies = map[string]any{
	"/porthole/build/debug/{name}":           api.BuildCommand{},
	"/porthole/build/debug/{name}/exec":      api.BuildExec{},
	"/porthole/containers/{name}/exec":       container.ExecCreateRequest{},
	"/porthole/containers/{name}/once":       api.OnceRequest{},
	"/porthole/containers/run":               container.Config{},
	"/porthole/debug":                        api.DebugRequest{},
	"/porthole/containers/{name}/start-once": nil,
}

var (
	routeLine     = regexp.MustCompile(`\{(get|head|post|put|remove), "(/[^"]*)"`)
	parameterCall = regexp.MustCompile(`(?:form\.Get|form\.Has|flag|flagOn|number|size|timestamp|platforms|form)[(\[]"([a-zA-Z0-9_-]+)"`)
)

// ownAPI reads our own endpoints, and those of Docker's that the schema lacks,
// out of the server's table. Each may be asked for any parameter that one reads.
func ownAPI(t *testing.T, known []operation) []operation {
	t.Helper()
	files, err := filepath.Glob("../../internal/server/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("find the server: %v, %d files", err, len(files))
	}
	var parameters []parameter
	var all []operation
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range parameterCall.FindAllStringSubmatch(string(text), -1) {
			parameters = append(parameters, parameter{name: m[1], in: "query", schema: schema{}})
		}
		for _, m := range routeLine.FindAllStringSubmatch(string(text), -1) {
			method := strings.ToUpper(m[1])
			if method == "REMOVE" {
				method = "DELETE"
			}
			all = append(all, operation{method: method, path: m[2]})
		}
	}
	all = slices.DeleteFunc(all, func(op operation) bool {
		return strings.HasPrefix(op.path, "/debug/") || slices.ContainsFunc(known, func(k operation) bool {
			return k.method == op.method && strings.ReplaceAll(k.path, "{id}", "{name}") == op.path
		})
	})
	slices.SortFunc(parameters, func(a, b parameter) int { return strings.Compare(a.name, b.name) })
	parameters = slices.CompactFunc(parameters, func(a, b parameter) bool { return a.name == b.name })
	for i := range all {
		all[i].parameters = parameters
		if body := ownBodies[all[i].path]; body != nil {
			all[i].body = schemaOf(reflect.TypeOf(body), 0)
		}
	}
	return all
}

// schemaOf describes a Go type the way OpenAPI does.
func schemaOf(t reflect.Type, depth int) schema {
	if t == reflect.TypeFor[time.Time]() || depth > 6 {
		return schema{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), depth)
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Slice, reflect.Array:
		return schema{"type": "array", "items": map[string]any(schemaOf(t.Elem(), depth+1))}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": map[string]any(schemaOf(t.Elem(), depth+1))}
	case reflect.Struct:
		properties := map[string]any{}
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" {
				name = f.Name
			}
			if f.IsExported() && name != "-" {
				properties[name] = map[string]any(schemaOf(f.Type, depth+1))
			}
		}
		return schema{"type": "object", "properties": properties}
	case reflect.String, reflect.Interface:
		return schema{"type": "string"}
	default:
		return schema{"type": "integer"}
	}
}

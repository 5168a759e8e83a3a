package server

import (
	"strings"
)

// handler serves one request. What it returns as an error becomes the answer,
// unless it has begun to answer itself.
type handler func(r *request) error

// route ties a method and a path to its handler.
type route struct {
	method, path string
	handle       handler
}

// match tells whether path fits the route, and what {name} stands for.
func (rt *route) match(path string) (name string, ok bool) {
	before, after, variable := strings.Cut(rt.path, "{name}")
	if !variable {
		return "", path == rt.path
	}
	name, ok = strings.CutPrefix(path, before)
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, after)
	return name, ok && name != ""
}

// router finds the route of a request. Routes are kept by method and first
// segment of their path, each list in the order of the table.
type router map[string][]route

func newRouter(table []route) router {
	out := router{}
	for _, rt := range table {
		key := routeKey(rt.method, rt.path)
		out[key] = append(out[key], rt)
	}
	return out
}

func routeKey(method, path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return method + " " + first
}

// find returns the route for path, which is without a version.
func (r router) find(method, path string) (rt *route, name string, ok bool) {
	list := r[routeKey(method, path)]
	for i := range list {
		if name, ok := list[i].match(path); ok {
			return &list[i], name, true
		}
	}
	return nil, "", false
}

// splitVersion takes /v1.51 off the front of a path.
func splitVersion(path string) (ver, rest string) {
	tail, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return "", path
	}
	ver, rest, ok = strings.Cut(tail, "/")
	if !ok || ver == "" || strings.Trim(ver, "0123456789.") != "" {
		return "", path
	}
	return ver, "/" + rest
}

// Package build builds images: BuildKit as a library, with the engine's own
// isolation for RUN steps and the engine's image store for bases and results.
//
// It is the only package that knows BuildKit. [Open] wires BuildKit's worker,
// solver and frontends over the parts of the image store; nothing is copied
// between the two, and one garbage collection sees all. What runs a step is a
// [step.Runner], which is the engine.
//
// There are three doors: the gRPC API that buildx speaks ([Builder.ServeGRPC],
// [Builder.ServeSession]), the classic build of a tar stream
// ([Builder.Classic]), and what looks after the cache ([Builder.DiskUsage],
// [Builder.Prune]).
package build

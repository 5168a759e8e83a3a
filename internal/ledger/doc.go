// Package ledger tells whose the bytes below a directory are.
//
// The parts of the daemon claim paths: a layer is an image's, a log a container's. [Take] walks the directory and books
// what it finds on the nearest claim above it; what lies below no claim is an orphan. So nothing is left out, and the sum
// of all accounts is what `du -sx` says, by construction:
//
//	claims := []ledger.Claim{{Path: "volumes/db", Owner: ledger.Volume, ID: "db"}}
//	l, err := ledger.Take(ctx, root, meter, func(context.Context) ([]ledger.Claim, error) { return claims, nil })
//
// [Tree] measures one directory tree. A [Meter] remembers what it has measured for a while that depends on what the
// measuring has cost, and does not make anybody wait for a second, slow walk.
//
// Only metadata is read, on the file system of the root alone: what a container mounts, hangs in or writes meanwhile
// stops nothing here.
package ledger

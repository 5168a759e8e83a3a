// Package apifuzz asks a daemon of its own for everything its API has, in all the
// wrong ways.
//
// Requests are made from the schema of the Engine API, swagger.yaml of the module
// that our wire types come from, and for our own endpoints from the table of
// routes: bodies that the schema allows, such with a field gone, of another type,
// far too large or too deep, cut off or in bytes that are no text, and parameters
// and names likewise. Whatever comes, the daemon must not panic, must answer with
// a message in JSON where it refuses, must not call the client's fault its own,
// must go on answering, and must have nothing left when all is removed.
//
// Containers with a made-up configuration are created, changed, read and removed,
// but never started, and the file system of the host is read-only for the daemon.
//
// A run prints its seed and how many requests it made; PORTHOLE_TEST_SEED repeats
// them, PORTHOLE_TEST_API_FUZZ is for how long it goes on.
package apifuzz

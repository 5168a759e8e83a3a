package api

import "time"

// ImageLayers is what the layers of an image are made of.
// GET /porthole/images/{name}/layers; parameter: hidden=N for at most so many of
// the hidden files, 10 without it.
type ImageLayers struct {
	Image  string       `json:"Image"`  // ID
	Layers []ImageLayer `json:"Layers"` // lowest first
	// Hidden are the largest files that are in a layer and hidden by another one,
	// largest first: they are stored and sent, and nobody sees them.
	Hidden []HiddenFile `json:"Hidden"`
	// Build is the ID of the newest recorded build that made the image, if the lines
	// of layers are from it.
	Build string `json:"Build,omitempty"`
}

// ImageLayer is one layer of an image.
type ImageLayer struct {
	Number    int       `json:"Number"` // from 1, the lowest
	DiffID    string    `json:"DiffId"`
	CreatedBy string    `json:"CreatedBy,omitempty"`
	Created   time.Time `json:"Created,omitzero"`
	// File and Line are where the instruction stands, if a build is on record that
	// made the image; 0: not known.
	File string `json:"File,omitempty"`
	Line int    `json:"Line,omitempty"`

	// What follows is absent in a blame.
	Files       int   `json:"Files,omitempty"` // all but directories
	Bytes       int64 `json:"Bytes,omitempty"` // of regular files
	HiddenFiles int   `json:"HiddenFiles,omitempty"`
	HiddenBytes int64 `json:"HiddenBytes,omitempty"`
}

// HiddenFile is a file of a layer that a later one removes or replaces.
type HiddenFile struct {
	Path    string `json:"Path"`
	Layer   int    `json:"Layer"` // number of the one that has it
	By      int    `json:"By"`    // and of the one that hides it
	Bytes   int64  `json:"Bytes"`
	Removed bool   `json:"Removed,omitempty"` // and has nothing in its place
}

// ImageBlame tells which layers of an image had to do with a path.
// GET /porthole/images/{name}/blame; parameter: path. 404 if none had.
type ImageBlame struct {
	Image string `json:"Image"`
	// Path is the one that was asked for, with symbolic links in front of its last
	// element followed.
	Path    string       `json:"Path"`
	Touches []ImageTouch `json:"Touches"` // latest first
	Build   string       `json:"Build,omitempty"`
}

// ImageTouch is what one layer did to a path.
type ImageTouch struct {
	ImageLayer
	// Action is added, changed, removed, or touched: a directory that the layer has
	// for the sake of what is in it.
	Action string `json:"Action"`
	// What tells what changed; of a removal, the path that was removed.
	What []string `json:"What,omitempty"`

	// Of the path as the layer has it; absent after a removal.
	Mode       uint32    `json:"Mode,omitempty"` // st_mode
	UID        uint32    `json:"Uid,omitempty"`
	GID        uint32    `json:"Gid,omitempty"`
	Size       int64     `json:"Size,omitempty"`
	ModifiedAt time.Time `json:"ModifiedAt,omitzero"`
	Link       string    `json:"Link,omitempty"` // where a symbolic link leads
}

package wire

import (
	"gobuild/internal/activity"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

// UploadJob is the name of the network program's job that writes to a cache.
// It finds one Upload on its standard input, and writes UploadEvents.
const UploadJob = "upload"

// An Upload says what to write to a cache.
type Upload struct {
	Config           // the store and the network
	To        string // URL of the cache; its parameters say how to write
	KeepGoing bool   // after a failure copy what does not need the failed path
	Paths     []UploadPath
	Logs      []UploadLog
}

// An UploadPath is a path to be copied, as the database describes it. In a
// list it comes after those that it refers to.
type UploadPath struct {
	Path       storepath.Path
	Real       string // where its files are
	NarHash    digest.Digest
	NarSize    uint64           // bytes
	References []storepath.Path `json:",omitempty"` // sorted
	Deriver    storepath.Path   `json:",omitempty"`
	Sigs       []string         `json:",omitempty"`
	CA         string           `json:",omitempty"`
}

// An UploadLog is the build log of a derivation.
type UploadLog struct {
	Drv  storepath.Path
	File string // compressed if it ends in ".bz2"
}

// The kinds of events, beside Message.
const (
	UploadPlanned = "planned" // Paths with Bytes of archives go to URI; the others are there
	UploadStarted = "started" // Path is being archived
	UploadMoved   = "moved"   // Bytes more of Path's archive have been read
	UploadCopied  = "copied"  // Path is there
	UploadFailed  = "failed"  // Path could not be copied, or nothing if there is none
)

// An UploadEvent is news of an upload. After the last one the job ends with
// status 0, whatever has failed: that has been said.
type UploadEvent struct {
	Kind  string
	URI   string         `json:",omitempty"` // of the cache, for people
	Path  storepath.Path `json:",omitempty"`
	Paths int            `json:",omitempty"`
	Bytes uint64         `json:",omitempty"`
	Text  string         `json:",omitempty"` // of failures and messages
	Level activity.Level `json:",omitempty"` // of messages
}

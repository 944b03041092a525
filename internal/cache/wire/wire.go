// Package wire is what the engine and the network program say to each other:
// one JSON object a line, a Config first and Requests after it on the
// program's standard input, Replies on its standard output. Requests are
// answered in any order; the program ends when its input does.
package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"gobuild/internal/activity"
)

// Version is in every Config. The two programs are built together, so another
// one means that they were mixed up.
const Version = 1

// A Config is the settings of the network program. Times are in nanoseconds.
type Config struct {
	Version        int
	StoreDir       string
	Substituters   []string // URLs, in order of preference
	TrustedKeys    []string // NAME:BASE64, Ed25519
	RequireSigs    bool
	Connections    int // at once to one cache
	HTTP2          bool
	Attempts       int // for a request that fails for a passing reason
	ConnectTimeout time.Duration
	StallTimeout   time.Duration // a download that delivers nothing for so long has failed
	DownloadSpeed  int64         // KiB per second; 0: no limit
	PositiveTTL    time.Duration // how long a narinfo that was found is believed
	NegativeTTL    time.Duration // and one that was not
	CacheFile      string        // the narinfo cache's database; "": none
	NetrcFile      string
	CAFile         string // certificates; "": the system's
	UserAgent      string
	KeepXattrs     []string
	Fsync          bool // trees are on the disk before they are reported
}

// The operations.
const (
	Info   = "info"   // is there a substitute for Path?
	Fetch  = "fetch"  // unpack the substitute of Path from Source at Dest
	Cancel = "cancel" // give up the request ID; it still gets its Reply
	Log    = "log"    // the build log of the derivation Path: unpacked to Dest, from any cache
)

// A Request asks for something. IDs are the asker's choice; two requests with
// the same one must not be open at once.
type Request struct {
	ID     uint64
	Op     string
	Path   string `json:",omitempty"` // store path
	After  int    `json:",omitempty"` // Info: caches tried so far; 0 at first, then Source+1 of the last answer
	Source int    `json:",omitempty"` // Fetch: the Source of an Info answer
	// Dest is where the tree is to be made. It must not exist; its directory
	// belongs to the asker. After a failure nothing is left there.
	Dest string `json:",omitempty"`
	// Links is the directory in which equal files of the store meet; "" does
	// not link them.
	Links string `json:",omitempty"`
}

// The kinds of replies.
const (
	Found    = "found"    // to Info
	Absent   = "absent"   // to Info: no cache from After on has it
	Fetched  = "fetched"  // to Fetch and Log: Dest is complete, canonical and was verified
	Failed   = "failed"   // to Fetch and Log: see Gone
	Progress = "progress" // of a Fetch, now and then
	Message  = "message"  // for people, about no request in particular
)

// A Reply is an answer, or news.
type Reply struct {
	ID   uint64 `json:",omitempty"`
	Kind string

	// Found:
	Source int         `json:",omitempty"` // position in the order of preference
	URI    string      `json:",omitempty"` // of the cache
	URL    string      `json:",omitempty"` // of the archive, for people; "" if no network is needed
	Info   *Substitute `json:",omitempty"`

	// Absent: why some cache that is there could not say; "" when all of them
	// know that they do not have it. Failed: what went wrong.
	Error string `json:",omitempty"`
	// Failed: the cache no longer has what it promised, or is itself no longer
	// there: no reason not to build.
	Gone bool `json:",omitempty"`
	// Failed: it is a cache that is out of service, of which people have been
	// told, and which others wait for as well.
	Down bool `json:",omitempty"`

	// Fetched and Progress, in bytes:
	Downloaded uint64 `json:",omitempty"` // of the compressed file
	Unpacked   uint64 `json:",omitempty"` // of the archive
	// Fetched with Links: what linking saved.
	LinkedFiles, LinkedBytes uint64 `json:",omitempty"`

	// Message:
	Level activity.Level `json:",omitempty"`
	Text  string         `json:",omitempty"`
}

// A Substitute is what a narinfo says that the store must know. It has been
// checked: the path is the one asked for, in our store, and trusted.
type Substitute struct {
	NarHash      string // ALGORITHM:NIX32
	NarSize      uint64
	DownloadSize uint64   `json:",omitempty"` // 0: unknown
	References   []string `json:",omitempty"` // store paths, sorted
	Deriver      string   `json:",omitempty"` // store path
	Sigs         []string `json:",omitempty"`
	CA           string   `json:",omitempty"`
}

// Encode gives a value its line.
func Encode(v any) ([]byte, error) {
	line, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding a message for another program: %w", err)
	}
	return append(line, '\n'), nil
}

// MaxLine is more than any message needs, in bytes.
const MaxLine = 16 << 20

// A Splitter collects Replies from a stream that comes in pieces. The zero
// value is ready.
type Splitter struct{ rest []byte }

// Feed takes some bytes and hands each complete Reply to handle. Bytes that
// are no Reply are an error; the Splitter is of no use afterwards.
func (s *Splitter) Feed(data []byte, handle func(*Reply)) error {
	for {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			break
		}
		line := data[:end]
		data = data[end+1:]
		if len(s.rest) > 0 {
			line = append(s.rest, line...)
			s.rest = s.rest[:0]
		}
		var r Reply
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("reading an answer of the network program: %w", err)
		}
		handle(&r)
	}
	if len(s.rest)+len(data) > MaxLine {
		return fmt.Errorf("reading an answer of the network program: a line is longer than %d bytes", MaxLine)
	}
	s.rest = append(s.rest, data...)
	return nil
}

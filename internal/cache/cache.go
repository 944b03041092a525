// Package cache reads and writes binary caches by files, HTTP and S3, one at a
// time (Cache) or several in an order of preference (Set), and knows which of
// them can be reached.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/cache/wire"
	"gobuild/internal/store/narinfo"
)

// A Cache is one binary cache. Names are relative, as in a narinfo's URL. It is
// safe for concurrent use.
type Cache interface {
	// URI is the cache's address for people: without parameters and passwords.
	URI() string
	// Get opens a file of the cache; the caller closes it. ErrAbsent is in the
	// chain of the error if there is none.
	Get(ctx context.Context, name string) (*Body, error)
	// Put makes or replaces a file; nobody sees half of one. size is the number
	// of bytes in body, -1 if unknown. A body that is an io.Seeker is sent
	// again after a passing failure.
	Put(ctx context.Context, name, contentType string, body io.Reader, size int64) error
	// Exists tells whether Get would find the file.
	Exists(ctx context.Context, name string) (bool, error)
}

// A Body is a file that is being read.
type Body struct {
	io.ReadCloser
	Size int64 // in bytes, -1 if unknown
	// Encoding is the Content-Encoding that the server put around the file, ""
	// for none. It has been undone for what is small (narinfo files,
	// nix-cache-info), never for archives and logs.
	Encoding string
}

// ErrAbsent means that a cache answered, and does not have what was asked for.
var ErrAbsent = errors.New("it is not in the cache")

// A DownError means that a cache is out of service: it could not be reached,
// now or a short while ago.
type DownError struct {
	URI string
	Err error // why
}

func (e *DownError) Error() string {
	return fmt.Sprintf("cache '%s' is out of service: %v", e.URI, e.Err)
}
func (e *DownError) Unwrap() error { return e.Err }

// DefaultConnectTimeout is for a configuration that sets none. Caches are a
// shortcut: one that takes longer to answer a first packet is none.
const DefaultConnectTimeout = 5 * time.Second

// DefaultStallTimeout is for a configuration that sets none.
const DefaultStallTimeout = 300 * time.Second

// Options are the settings, and the caller's world.
type Options struct {
	wire.Config
	// Env looks up variables that name proxies; nil has none. (Credentials for
	// S3 are found by the client library, which reads the environment itself.)
	Env func(name string) string
	// Message takes texts for people, at any time, from several goroutines;
	// nil drops them.
	Message func(level activity.Level, text string)

	dial  func(ctx context.Context, network, address string) (net.Conn, error) // nil: the network
	speed *limiter                                                             // shared by a Set's caches
}

func (o *Options) say(level activity.Level, format string, args ...any) {
	if o.Message != nil {
		o.Message(level, fmt.Sprintf(format, args...))
	}
}

// complete fills in what was left open.
func (o *Options) complete() {
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = DefaultConnectTimeout
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = DefaultStallTimeout
	}
	o.Attempts = max(o.Attempts, 1)
	if o.UserAgent == "" {
		o.UserAgent = "gobuild"
	}
	if o.Env == nil {
		o.Env = func(string) string { return "" }
	}
	if o.speed == nil {
		o.speed = newLimiter(o.DownloadSpeed)
	}
}

// An address is a cache's URL, taken apart.
type address struct {
	url      *url.URL // without parameters
	params   url.Values
	priority int // if prioritised
	// the URL says so
	prioritised, trusted bool
}

// parseAddress reads the URL of a cache. Parameters that concern writing, and
// unknown ones, are left to others, as in Nix.
func parseAddress(text string) (*address, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the URL of the cache '%s' is malformed: %w", text, err)
	}
	if !slices.Contains([]string{"file", "http", "https", "s3"}, u.Scheme) {
		return nil, fmt.Errorf("don't know how to open Nix store '%s': a cache's URL begins with file://, http://, https:// or s3://", text)
	}
	a := &address{params: u.Query()}
	if p := a.params.Get("priority"); p != "" {
		a.prioritised = true
		if a.priority, err = strconv.Atoi(p); err != nil {
			return nil, fmt.Errorf("the parameter 'priority' of the cache '%s' is not a number", u.Redacted())
		}
	}
	switch t := a.params.Get("trusted"); t {
	case "", "0", "false", "no":
	case "1", "true", "yes":
		a.trusted = true
	default:
		return nil, fmt.Errorf("the parameter 'trusted' of the cache '%s' has the invalid value '%s'", u.Redacted(), t)
	}
	u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = "", false, "", ""
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	a.url = u
	return a, nil
}

// Open makes ready to use the cache at a URL: file://DIR, http(s)://HOST/PATH,
// or s3://BUCKET?region=&profile=&endpoint=&scheme=. It asks the cache nothing.
func Open(address string, o Options) (Cache, error) {
	o.complete()
	a, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	return open(a, &o)
}

func open(a *address, o *Options) (Cache, error) {
	switch a.url.Scheme {
	case "file":
		return newDirectory(a)
	case "s3":
		return newBucket(a, o)
	}
	return newServer(a, o)
}

// checkName refuses names that leave the cache, and those that cannot be part
// of a request. Narinfo files, which strangers write, contain such names.
func checkName(name string) error {
	bad := name == "" || len(name) > 1024 || name[0] == '/' || strings.Contains(name, "://")
	for i := range len(name) {
		bad = bad || name[i] <= ' ' || name[i] >= 0x7f || name[i] == '\\' || name[i] == '#'
	}
	path, _, _ := strings.Cut(name, "?")
	for part := range strings.SplitSeq(path, "/") {
		bad = bad || part == ".." || part == "." || part == ""
	}
	if bad {
		return fmt.Errorf("'%.80q' is not a name of a file in a cache", name)
	}
	return nil
}

// isSmall tells files that are read whole, quickly or not at all.
func isSmall(name string) bool {
	return name == narinfo.CacheInfoName || strings.HasSuffix(name, narinfo.Suffix)
}

// maxSmall bounds a small file, decoded, in bytes. A narinfo with references to
// 50,000 paths would fit.
const maxSmall = 4 << 20

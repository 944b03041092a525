package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/cache/infocache"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/sign"
	"gobuild/internal/store/storepath"
)

// maxPatience is how long a cache may leave everybody without an answer before
// the next one is asked as well.
const maxPatience = 2 * time.Second

// A Set is several caches in order of preference. It is safe for concurrent
// use; lookups and downloads should go on in parallel.
type Set struct {
	opt      *Options
	dir      storepath.Dir
	trusted  sign.Trusted
	memory   *infocache.DB
	sources  []*source // best first
	patience time.Duration

	ctx    context.Context // of everything that goes on
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	flights map[flightKey]*flight
	warned  map[string]bool // texts that are said once
}

// A Found says who has a path, and what.
type Found struct {
	Source int    // its place in the order of preference
	URI    string // of the cache
	Info   *narinfo.Info
}

// An UnknownError means that no cache is known to have a path, and that some of
// them could not say.
type UnknownError struct {
	Path storepath.Path
	Errs []error // one for each of these
}

func (e *UnknownError) Error() string {
	texts := make([]string, len(e.Errs))
	for i, err := range e.Errs {
		texts[i] = err.Error()
	}
	return fmt.Sprintf("cannot tell whether there is a substitute for '%s': %s", e.Path, strings.Join(texts, "; "))
}

func (e *UnknownError) Unwrap() []error { return e.Errs }

// NewSet opens caches given by their URLs. Those that have a priority, in their
// URL or their nix-cache-info, are sorted by it, smallest first; equal ones
// keep the order given. A URL that is no cache's is left out with a warning;
// malformed keys and store directories are errors. It asks the caches for their
// priorities, but waits for no cache longer than for a connection.
func NewSet(ctx context.Context, urls []string, o Options) (*Set, error) {
	o.complete()
	dir, err := storepath.ParseDir(o.StoreDir)
	if err != nil {
		return nil, err
	}
	trusted, err := sign.NewTrusted(o.TrustedKeys)
	if err != nil {
		return nil, err
	}
	s := &Set{
		opt: &o, dir: dir, trusted: trusted,
		patience: min(maxPatience, o.ConnectTimeout),
		flights:  map[flightKey]*flight{}, warned: map[string]bool{},
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, u := range urls {
		a, err := parseAddress(u)
		if err != nil {
			o.say(activity.Warn, "ignoring a substituter: %v", err)
			continue
		}
		if slices.ContainsFunc(s.sources, func(x *source) bool { return x.sameAs(a) }) {
			continue
		}
		c, err := open(a, &o)
		if err != nil {
			o.say(activity.Warn, "ignoring the substituter '%s': %v", a.url.Redacted(), err)
			continue
		}
		s.sources = append(s.sources, newSource(s, a, c))
	}
	if o.CacheFile != "" && slices.ContainsFunc(s.sources, func(x *source) bool { return x.server != nil }) {
		s.memory = infocache.Open(o.CacheFile, o.PositiveTTL, o.NegativeTTL, func(text string) { o.say(activity.Warn, "%s", text) })
	}
	s.order(ctx)
	return s, nil
}

// order sorts the sources. Positions are promises from then on: a cache whose
// priority is not known in time keeps the place that an ordinary one would have.
func (s *Set) order(ctx context.Context) {
	if len(s.sources) > 1 {
		ready := make(chan struct{}, len(s.sources))
		for _, x := range s.sources {
			s.wg.Go(func() {
				_ = x.prepare(s.ctx) // lookups will see the error
				ready <- struct{}{}
			})
		}
		late := time.NewTimer(s.opt.ConnectTimeout)
		defer late.Stop()
	wait:
		for range s.sources {
			select {
			case <-ready:
			case <-late.C:
				break wait
			case <-ctx.Done():
				break wait
			}
		}
	}
	priorities := map[*source]int{}
	for _, x := range s.sources {
		priorities[x] = x.priority()
	}
	slices.SortStableFunc(s.sources, func(a, b *source) int { return cmp.Compare(priorities[a], priorities[b]) })
}

// Close ends what is going on and gives connections and files back. Bodies that
// are open must be closed first.
func (s *Set) Close() {
	s.cancel()
	s.wg.Wait()
	for _, x := range s.sources {
		if x.server != nil {
			x.server.close()
		}
	}
	s.memory.Close()
}

// warnOnce says a text unless it was said before.
func (s *Set) warnOnce(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mu.Lock()
	said := s.warned[text]
	s.warned[text] = true
	s.mu.Unlock()
	if !said {
		s.opt.say(activity.Warn, "%s", text)
	}
}

// OpenNar opens the archive of a path that Lookup found at a source. If that
// does not have it any more, the source is asked again about the path, since
// the archive may have moved or been compressed anew: OpenNar then changes
// info's URL, Compression, FileHash and FileSize. ErrAbsent is in the chain of
// the error if it is gone.
func (s *Set) OpenNar(ctx context.Context, from int, info *narinfo.Info) (*Body, error) {
	if from < 0 || from >= len(s.sources) {
		return nil, fmt.Errorf("there is no cache number %d", from)
	}
	x := s.sources[from]
	body, err := x.cache.Get(ctx, info.URL)
	if x.server == nil || !errors.Is(err, ErrAbsent) {
		return body, err
	}
	s.memory.Forget(x.key(), info.Path.HashPart())
	now, e := x.lookup(ctx, info.Path)
	if e != nil || now.URL == info.URL || now.NarHash != info.NarHash || now.NarSize != info.NarSize {
		return nil, err
	}
	info.URL, info.Compression, info.FileHash, info.FileSize = now.URL, now.Compression, now.FileHash, now.FileSize
	return x.cache.Get(ctx, info.URL)
}

// OpenLog opens the log of a derivation, as it is stored, at the first cache
// that has it, and returns the cache's URI. ErrAbsent is in the chain of the
// error if none has it.
func (s *Set) OpenLog(ctx context.Context, drv storepath.Path) (*Body, string, error) {
	var failed []error
	for _, x := range s.sources {
		err := x.prepare(ctx)
		if err == nil && x.unfit() {
			continue
		}
		var body *Body
		if err == nil {
			body, err = x.cache.Get(ctx, "log/"+drv.Base())
		}
		if err == nil {
			return body, x.cache.URI(), nil
		}
		if !errors.Is(err, ErrAbsent) {
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		return nil, "", errors.Join(failed...)
	}
	return nil, "", fmt.Errorf("no cache has a log of '%s': %w", drv, ErrAbsent)
}

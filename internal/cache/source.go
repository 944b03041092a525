package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/sign"
	"gobuild/internal/store/storepath"
)

// descriptionTTL is how long a nix-cache-info is believed, as in Nix.
const descriptionTTL = 7 * 24 * time.Hour

// A source is a cache of a Set, and what it says about itself.
type source struct {
	set     *Set
	address *address
	cache   Cache
	server  *server // the same, if it is remote

	turn  chan struct{} // held by the one who asks for the description
	mu    sync.Mutex
	known bool // the cache described itself; until then info may be an old description
	info  narinfo.CacheInfo
	wrong bool // it is another store's, or no cache
}

func newSource(s *Set, a *address, c Cache) *source {
	x := &source{set: s, address: a, cache: c, turn: make(chan struct{}, 1)}
	x.info.Priority = narinfo.DefaultPriority
	x.server, _ = c.(*server)
	return x
}

func (x *source) sameAs(a *address) bool {
	return *x.address.url == *a.url && x.address.params.Encode() == a.params.Encode()
}

// key is the name under which the source's answers are remembered on disk.
func (x *source) key() string {
	u := *x.server.net.base
	u.User = nil
	return u.String()
}

func (x *source) priority() int {
	if x.address.prioritised {
		return x.address.priority
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.info.Priority
}

// unfit tells a source that has nothing for our store.
func (x *source) unfit() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.wrong
}

// prepare makes sure that the cache described itself. All wait for one who asks.
func (x *source) prepare(ctx context.Context) error {
	x.mu.Lock()
	known := x.known
	x.mu.Unlock()
	if known {
		return nil
	}
	select {
	case x.turn <- struct{}{}:
		defer func() { <-x.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	x.mu.Lock()
	known = x.known
	x.mu.Unlock()
	if known {
		return nil
	}
	if x.server != nil {
		text, exists, fresh := x.set.memory.Describe(x.key(), descriptionTTL)
		if exists {
			x.describe(text, fresh)
		}
		if fresh {
			return nil
		}
	}
	return x.ask(ctx)
}

// ask fetches the description.
func (x *source) ask(ctx context.Context) error {
	text, err := x.read(ctx, narinfo.CacheInfoName)
	switch {
	case err == nil:
		x.describe(string(text), true)
		if x.server != nil {
			x.set.memory.SetDescription(x.key(), string(text))
		}
		return nil
	case errors.Is(err, ErrAbsent) && x.server == nil:
		x.describe("", true) // Nix would write one
		return nil
	case errors.Is(err, ErrAbsent):
		x.set.warnOnce("'%s' does not appear to be a binary cache: %v", x.cache.URI(), err)
		x.mu.Lock()
		defer x.mu.Unlock()
		x.known, x.wrong = true, true
		return nil
	}
	down, isDown := errors.AsType[*DownError](err)
	switch {
	case ctx.Err() != nil:
	case isDown && x.server == nil:
		x.set.warnOnce("%v", down)
	case !isDown && x.server != nil:
		// It answers, but not to us: that is not asked again for every path.
		return x.server.health.refused(err, 0)
	}
	return err
}

// describe takes in a description; if it is an old one, it counts only for the
// order of preference.
func (x *source) describe(text string, fresh bool) {
	info := narinfo.ParseCacheInfo([]byte(text))
	dir := string(x.set.dir)
	wrong := info.StoreDir != "" && info.StoreDir != dir
	if wrong && fresh {
		x.set.warnOnce("binary cache '%s' is for Nix stores with prefix '%s', not '%s'", x.cache.URI(), info.StoreDir, dir)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.info, x.known, x.wrong = info, fresh, wrong
}

// read reads a small file.
func (x *source) read(ctx context.Context, name string) ([]byte, error) {
	body, err := x.cache.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxSmall+1))
	if err == nil && len(text) > maxSmall {
		err = errLarge
	}
	if err != nil {
		return nil, fmt.Errorf("reading '%s' of '%s': %w", name, x.cache.URI(), err)
	}
	return text, nil
}

// lookup asks about a path; ErrAbsent if the source has nothing that we trust.
func (x *source) lookup(ctx context.Context, path storepath.Path) (*narinfo.Info, error) {
	if err := x.prepare(ctx); err != nil {
		return nil, err
	}
	if x.unfit() {
		return nil, ErrAbsent
	}
	if info, known := x.recall(path); known {
		return x.judge(path, info)
	}
	name := narinfo.Name(path)
	text, err := x.read(ctx, name)
	if errors.Is(err, ErrAbsent) {
		x.remember(path, "")
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	info, err := narinfo.Parse(x.set.dir, name, text)
	if err != nil {
		return nil, fmt.Errorf("cache '%s': %w", x.cache.URI(), err)
	}
	x.remember(path, string(text))
	return x.judge(path, info)
}

// recall looks into the memory on disk; info is nil if there was nothing.
func (x *source) recall(path storepath.Path) (info *narinfo.Info, known bool) {
	if x.server == nil {
		return nil, false
	}
	text, known := x.set.memory.Look(x.key(), path.HashPart())
	if !known || text == "" {
		return nil, known
	}
	info, err := narinfo.Parse(x.set.dir, narinfo.Name(path), []byte(text))
	return info, err == nil
}

// remember is recall's counterpart; "" is for nothing.
func (x *source) remember(path storepath.Path, text string) {
	if x.server != nil {
		x.set.memory.Set(x.key(), path.HashPart(), text)
	}
}

// judge decides whether what a source says is about the path, and believable.
func (x *source) judge(path storepath.Path, info *narinfo.Info) (*narinfo.Info, error) {
	switch {
	case info == nil:
		return nil, ErrAbsent
	case info.Path != path:
		x.set.warnOnce("asked '%s' for '%s' but got '%s'", x.cache.URI(), path, info.Path)
		return nil, ErrAbsent
	case x.address.trusted || !x.set.opt.RequireSigs || x.set.vouched(info):
		return info, nil
	}
	x.set.warnOnce("ignoring substitute for '%s' from '%s', as it's not signed by any of the keys in 'trusted-public-keys'",
		path, x.cache.URI())
	return nil, ErrAbsent
}

// vouched tells whether a path's name follows from its contents, which are
// verified when it is unpacked, or a key that we trust signed it.
func (s *Set) vouched(info *narinfo.Info) bool {
	if info.CA.Digest.IsSet() {
		refs := storepath.ReferencesOf(info.Path, info.References)
		if p, err := s.dir.Content(info.CA, info.Path.Name(), refs); err == nil && p == info.Path {
			return true
		}
		s.warnOnce("path '%s' claims to be content-addressed but isn't", info.Path)
	}
	text, err := sign.Fingerprint(info.Path, info.NarHash, info.NarSize, info.References)
	return err == nil && s.trusted.Verify(text, info.Sigs)
}

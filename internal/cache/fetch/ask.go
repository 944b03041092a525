package fetch

import (
	"context"
	"errors"
	"slices"
	"strings"

	"gobuild/internal/cache"
	"gobuild/internal/cache/wire"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/storepath"
)

// ask answers an Info request.
func (s *server) ask(ctx context.Context, j *job) *wire.Reply {
	path, err := s.dir.ParseExact(j.Path)
	if err != nil {
		return &wire.Reply{Kind: wire.Absent, Error: err.Error()}
	}
	found, o, err := s.lookup(ctx, path, j.After)
	switch {
	case errors.Is(err, cache.ErrAbsent):
		return &wire.Reply{Kind: wire.Absent}
	case ctx.Err() != nil:
		return &wire.Reply{Kind: wire.Absent, Error: errCancelled.Error()}
	case err != nil:
		reply := &wire.Reply{Kind: wire.Absent}
		if err = withoutDown(err); err != nil {
			reply.Error = err.Error()
		}
		return reply
	}
	s.remember(path, o)
	return &wire.Reply{Kind: wire.Found, Source: found.Source, URI: found.URI, URL: urlOf(found), Info: substitute(found.Info)}
}

// urlOf is the address of an archive that comes over a network.
func urlOf(f cache.Found) string {
	if strings.HasPrefix(f.URI, "file:") {
		return ""
	}
	return strings.TrimSuffix(f.URI, "/") + "/" + f.Info.URL
}

// withoutDown leaves out the caches that are out of service, of which people
// have been told: caches are a shortcut, and one that is not there must not
// keep anybody from building.
func withoutDown(err error) error {
	unknown, ok := errors.AsType[*cache.UnknownError](err)
	if !ok {
		return err
	}
	errs := slices.DeleteFunc(slices.Clone(unknown.Errs), isDown)
	if len(errs) == 0 {
		return nil
	}
	return &cache.UnknownError{Path: unknown.Path, Errs: errs}
}

func isDown(err error) bool {
	_, down := errors.AsType[*cache.DownError](err)
	return down
}

// substitute puts a narinfo into the protocol's words.
func substitute(i *narinfo.Info) *wire.Substitute {
	sub := &wire.Substitute{
		NarHash: i.NarHash.String(), NarSize: i.NarSize, DownloadSize: i.FileSize,
		Deriver: string(i.Deriver), Sigs: i.Sigs, CA: i.CA.String(),
	}
	for _, r := range i.References {
		sub.References = append(sub.References, string(r))
	}
	return sub
}

// An offer is what must be known of a substitute to fetch it.
type offer struct {
	source int
	uri    string        // of the cache
	info   *narinfo.Info // without references, signatures and deriver
	self   bool          // the path refers to itself
}

type offerKey struct {
	path   storepath.Path
	source int
}

// maxOffers bounds what is remembered of lookups. Whoever has asked for more
// before fetching gets what was forgotten looked up again.
const maxOffers = 1 << 16

// lookup also makes an offer of what it has found, with whatever is not needed
// for fetching it left out.
func (s *server) lookup(ctx context.Context, path storepath.Path, after int) (cache.Found, *offer, error) {
	found, err := s.set.Lookup(ctx, path, after)
	if err != nil {
		return found, nil, err
	}
	i := *found.Info
	i.References, i.Sigs, i.Deriver = nil, nil, ""
	return found, &offer{source: found.Source, uri: found.URI, info: &i, self: slices.Contains(found.Info.References, path)}, nil
}

func (s *server) remember(path storepath.Path, o *offer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.offers) >= maxOffers {
		clear(s.offers)
	}
	s.offers[offerKey{path, o.source}] = o
}

// takeOffer finds what a source has promised, and forgets it.
func (s *server) takeOffer(ctx context.Context, path storepath.Path, source int) (*offer, error) {
	key := offerKey{path, source}
	s.mu.Lock()
	o := s.offers[key]
	delete(s.offers, key)
	s.mu.Unlock()
	if o != nil {
		return o, nil
	}
	_, o, err := s.lookup(ctx, path, source)
	if err == nil && o.source != source {
		err = cache.ErrAbsent
	}
	return o, err
}

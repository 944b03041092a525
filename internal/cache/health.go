package cache

import (
	"sync"
	"time"

	"gobuild/internal/activity"
)

// A cache that cannot be reached is not asked again for firstPause, then twice
// as long each time, up to lastPause.
const (
	firstPause = time.Minute
	lastPause  = 16 * time.Minute
)

// health is what is known about one cache's being there, shared by all who ask
// it. A cache is out of service from a failure until its pause has passed; then
// a single request tries it while the others are still refused.
type health struct {
	uri string
	opt *Options

	mu      sync.Mutex
	until   time.Time     // when it may be tried again; zero: it is in service
	pause   time.Duration // the last one; 0: it answered since
	why     error
	probing bool
	open    int       // requests waiting for an answer
	heard   time.Time // when it last answered, or had nothing to answer
	good    time.Time // when it last answered
}

// A contact is one request's waiting for an answer.
type contact struct {
	h       *health
	started time.Time
	probe   bool
}

// begin is called before each request; its contact must be ended.
func (h *health) begin() (*contact, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	c := &contact{h: h, started: now}
	if !h.until.IsZero() {
		if h.probing || now.Before(h.until) {
			return nil, &DownError{URI: h.uri, Err: h.why}
		}
		h.probing, c.probe = true, true
	}
	if h.open == 0 {
		h.heard = now
	}
	h.open++
	return c, nil
}

// end is called once, after answered or failed, or without either if nothing
// was learnt about the cache.
func (c *contact) end() {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.h.open--
	if c.probe {
		c.h.probing = false
	}
}

// answered notes that the cache is there, whatever it said.
func (c *contact) answered() {
	h := c.h
	h.mu.Lock()
	defer h.mu.Unlock()
	h.good = time.Now()
	h.heard = h.good
	if !h.until.IsZero() {
		h.opt.say(activity.Info, "cache '%s' is back in service", h.uri)
	}
	h.until, h.pause, h.why = time.Time{}, 0, nil
}

// failed takes the cache out of service because of a request that began at
// started, unless the cache answered others since: then that request alone has
// failed. It returns the error for the request.
func (h *health) failed(started time.Time, why error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.good.After(started) {
		return why
	}
	return h.takeOut(why, 0)
}

// refused takes the cache out of service for at least a given time, because it
// answers, but will not serve us.
func (h *health) refused(why error, atLeast time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.takeOut(why, atLeast)
}

// takeOut is called with the lock held. The first failure in a row is told.
func (h *health) takeOut(why error, atLeast time.Duration) error {
	now := time.Now()
	if now.Before(h.until) {
		return &DownError{URI: h.uri, Err: h.why}
	}
	level := activity.Warn
	if h.pause > 0 {
		level = activity.Info
	}
	h.pause = max(firstPause, min(2*h.pause, lastPause), min(atLeast, lastPause))
	h.until, h.why = now.Add(h.pause), why
	h.opt.say(level, "cache '%s' is out of service and not asked again for %v: %v", h.uri, h.pause, why)
	return &DownError{URI: h.uri, Err: why}
}

// silent tells whether the cache has owed answers for so long that others
// should be asked meanwhile, and otherwise when to look again.
func (h *health) silent(patience time.Duration) (bool, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open == 0 {
		return false, patience
	}
	rest := patience - time.Since(h.heard)
	return rest <= 0, rest
}

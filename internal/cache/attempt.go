package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/cache/compress"
)

// minAnswerTime is how long a small file may take, from the request to its last
// byte; longer if connecting alone may.
const minAnswerTime = 15 * time.Second

// maxWait is the longest that a request waits because a server asked it to
// (Retry-After); one that wants more is out of service meanwhile.
const maxWait = 10 * time.Second

// firstDelay is before the second attempt; each later one is twice as long.
const firstDelay = 250 * time.Millisecond

// maxFault bounds what is read of the body of an error, in bytes.
const maxFault = 4 << 10

// errSlow ends requests to servers that do not answer.
var errSlow = errors.New("the server does not answer")

// errLarge is about files that should be small.
var errLarge = errors.New("a narinfo or nix-cache-info is larger than 4 MiB")

// A passingError may be gone at the next attempt.
type passingError struct {
	err   error
	after time.Duration // not to be tried before; 0: as we like
}

func (e *passingError) Error() string { return e.err.Error() }
func (e *passingError) Unwrap() error { return e.err }

// An answer is a response, with its slot.
type answer struct {
	resp   *http.Response
	data   []byte                  // if it was wanted whole
	cancel context.CancelCauseFunc // ends the response's transfer
	free   func()                  // gives the slot back
}

func (a *answer) close() {
	a.resp.Body.Close()
	a.cancel(nil)
	a.free()
}

// exchange makes a request, as often as it takes, in a slot of the cache. An
// answer that is not wanted whole must be closed.
func (s *server) exchange(ctx context.Context, r *request) (*answer, error) {
	if err := s.slots.acquire(ctx); err != nil {
		return nil, s.fault(r, err)
	}
	free := sync.OnceFunc(s.slots.release)
	a, err := s.attempts(ctx, r)
	if err != nil || r.whole {
		free()
	}
	if err != nil {
		return nil, s.fault(r, err)
	}
	a.free = free
	return a, nil
}

// fault says what was being done.
func (s *server) fault(r *request, err error) error {
	doing := "downloading"
	if !reads(r.method) {
		doing = "uploading"
	}
	if _, down := errors.AsType[*DownError](err); down {
		return err
	}
	return fmt.Errorf("%s '%s': %w", doing, r.url.Redacted(), err)
}

// attempts repeats a request while its failures may pass.
func (s *server) attempts(ctx context.Context, r *request) (*answer, error) {
	started := time.Now()
	for n := 1; ; n++ {
		a, err := s.attempt(ctx, r)
		passing, ok := errors.AsType[*passingError](err)
		if !ok {
			return a, err
		}
		switch {
		case reads(r.method) && passing.after > maxWait:
			return nil, s.health.refused(passing.err, passing.after)
		case n >= s.opt.Attempts || r.once:
			if !reads(r.method) {
				return nil, passing.err
			}
			return nil, s.health.failed(started, passing.err)
		}
		wait := max(backoff(n), min(passing.after, maxWait))
		s.opt.say(activity.Info, "%v; trying again in %v", s.fault(r, passing.err), wait.Round(time.Millisecond))
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// backoff is how long to wait after the n-th attempt. Chance keeps those who
// failed together from coming back together.
func backoff(n int) time.Duration {
	d := firstDelay << min(n-1, 8)
	return d + rand.N(d/2)
}

// attempt makes a request once.
func (s *server) attempt(ctx context.Context, r *request) (*answer, error) {
	contact, err := s.health.begin()
	if err != nil {
		return nil, err
	}
	defer contact.end()
	limit := s.opt.StallTimeout
	if r.whole {
		limit = max(minAnswerTime, 3*s.opt.ConnectTimeout)
	}
	inner, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() { cancel(errSlow) })
	defer timer.Stop()
	connected := false
	resp, err := s.send(inner, r, &connected, func() { timer.Reset(limit) })
	a := &answer{resp: resp, cancel: cancel}
	if err == nil {
		err = s.read(r, a)
	}
	if err == nil {
		contact.answered()
		s.answered(resp)
		return a, nil
	}
	slow := context.Cause(inner) == errSlow
	cancel(nil)
	if outer := ctx.Err(); outer != nil {
		return nil, outer
	}
	final, isFinal := errors.AsType[*finalError](err)
	switch {
	case isFinal:
		if connected {
			contact.answered()
		}
		if resp != nil {
			s.answered(resp)
		}
		return nil, final.err
	case errors.Is(err, errLarge): // and none of its files is worth so much
		return nil, s.health.failed(contact.started, err)
	case slow:
		return nil, s.health.failed(contact.started, fmt.Errorf("it did not answer within %v", limit))
	case !connected:
		return nil, s.health.failed(contact.started, err)
	}
	if passing, ok := errors.AsType[*passingError](err); ok {
		return nil, passing
	}
	return nil, &passingError{err: err}
}

// A finalError is an answer, though not what was hoped for. It is not asked for
// again.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }

// send sends a request and waits for the start of the answer. It notes whether
// there was a connection, and reports each part of the body that was sent.
func (s *server) send(ctx context.Context, r *request, connected *bool, progress func()) (*http.Response, error) {
	var mu sync.Mutex // the trace is called by the transport's goroutines
	now := false
	set := func(to bool) {
		mu.Lock()
		defer mu.Unlock()
		now = to
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { set(false) },
		GotConn: func(httptrace.GotConnInfo) { set(true) },
	})
	req, err := http.NewRequestWithContext(ctx, r.method, r.url.String(), nil)
	if err != nil {
		return nil, &finalError{err}
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", s.opt.UserAgent)
	if r.body != nil {
		body, err := r.body()
		if err != nil {
			return nil, &finalError{err}
		}
		gate := &gate{body: body, progress: progress}
		defer gate.Close()
		req.Body, req.ContentLength = gate, r.size
		if r.size == 0 {
			req.Body = http.NoBody
		}
	}
	if s.s3 == nil {
		s.net.authorize(req)
	} else if err := s.s3.sign(ctx, req); err != nil {
		return nil, &finalError{err}
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := s.net.client.Do(req)
	mu.Lock()
	*connected = now
	mu.Unlock()
	if refused, ok := errors.AsType[*redirectError](err); ok {
		return nil, &finalError{refused}
	}
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
	}
	return resp, err
}

// read judges the status, and reads what is wanted whole.
func (s *server) read(r *request, a *answer) error {
	if err := s.judge(r, a.resp); err != nil {
		a.resp.Body.Close()
		return err
	}
	if !r.whole {
		return nil
	}
	defer a.resp.Body.Close()
	if r.method == http.MethodHead {
		return nil
	}
	var err error
	a.data, err = readWhole(a.resp)
	return err
}

func readWhole(resp *http.Response) ([]byte, error) {
	raw := io.LimitReader(resp.Body, maxSmall+1)
	var text io.Reader = raw
	if method := resp.Header.Get("Content-Encoding"); method != "" && method != "identity" {
		decoder, err := compress.NewReader(method, raw)
		if err != nil {
			return nil, &finalError{err}
		}
		defer decoder.Close()
		text = io.LimitReader(decoder, maxSmall+1)
	}
	data, err := io.ReadAll(text)
	if err == nil && len(data) > maxSmall {
		err = errLarge
	}
	return data, err
}

// absent are the statuses with which servers say that a file is not there. To
// those who may not list a bucket, missing files are forbidden.
var absent = []int{http.StatusNotFound, http.StatusForbidden, http.StatusGone}

// reads tells the methods that change nothing.
func reads(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// judge tells a status that is no success.
func (s *server) judge(r *request, resp *http.Response) error {
	code := resp.StatusCode
	if code == http.StatusOK || r.method != http.MethodGet && code/100 == 2 {
		return nil
	}
	if code == http.StatusPartialContent && r.header.Get("Range") != "" {
		return nil
	}
	// Reading on lets the connection be used again.
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxFault))
	err := fmt.Errorf("HTTP status %d", code)
	if name := http.StatusText(code); name != "" {
		err = fmt.Errorf("%w (%s)", err, name)
	}
	if s.s3 != nil {
		var absent bool
		if err, absent = explainS3(err, resp, text); absent && reads(r.method) {
			return &finalError{fmt.Errorf("%w: %w", err, ErrAbsent)}
		}
	}
	switch {
	case s.s3 == nil && reads(r.method) && slices.Contains(absent, code):
		return &finalError{fmt.Errorf("%w: %w", err, ErrAbsent)}
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout,
		code/100 == 5 && code != http.StatusNotImplemented && code != http.StatusHTTPVersionNotSupported:
		return &passingError{err: err, after: retryAfter(resp.Header.Get("Retry-After"))}
	}
	return &finalError{err}
}

// retryAfter reads the header: seconds or a date.
func retryAfter(value string) time.Duration {
	if n, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(n, 0), int(lastPause/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(time.Until(at), 0), lastPause)
	}
	return 0
}

// A gate hands a body to the transport until it is closed. The transport may
// still read when a request has failed; the next attempt needs the body.
type gate struct {
	mu       sync.Mutex
	body     io.Reader
	progress func()
	closed   bool
}

func (g *gate) Read(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, io.ErrClosedPipe
	}
	g.progress()
	return g.body.Read(p)
}

func (g *gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	return nil
}

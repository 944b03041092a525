package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A server is a cache that is reached by HTTP.
type server struct {
	uri    string // for people, and the name under which answers are remembered
	net    *network
	opt    *Options
	health *health
	slots  *slots
	s3     *signer // signs requests to S3; nil for other servers
}

func newServer(a *address, o *Options) (*server, error) {
	if a.url.Host == "" {
		return nil, fmt.Errorf("the URL of the cache '%s' names no host", a.url.Redacted())
	}
	shown := *a.url
	shown.User = nil
	return newServerAt(a.url, shown.String(), o)
}

// newServerAt is for a cache whose address is not what its users call it.
func newServerAt(base *url.URL, uri string, o *Options) (*server, error) {
	n, err := newNetwork(base, o)
	if err != nil {
		return nil, err
	}
	return &server{
		uri: uri, net: n, opt: o,
		health: &health{uri: uri, opt: o},
		slots:  &slots{limit: 1},
	}, nil
}

func (s *server) URI() string { return s.uri }

// streams is how many requests one HTTP/2 connection carries for each that a
// cache without it would get a connection for.
const streams = 4

// answered notes the first sign of life of the cache, and how much may go on.
func (s *server) answered(resp *http.Response) {
	limit := max(s.opt.Connections, 0)
	if resp.ProtoMajor == 2 {
		limit *= streams
	}
	s.slots.widen(limit)
}

// close ends idle connections.
func (s *server) close() { s.net.client.CloseIdleConnections() }

// resolve finds the URL of a file. An archive's name comes from a narinfo and
// may have a query; in other names, '?' is a letter.
func (s *server) resolve(name string) (*url.URL, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	u := *s.net.base
	u.User = nil
	var query string
	if s.s3 == nil && !strings.HasPrefix(name, "log/") {
		name, query, _ = strings.Cut(name, "?")
	}
	plain, err := url.PathUnescape(name)
	if err != nil || s.s3 != nil {
		plain = name
	}
	if slices.Contains(strings.Split(plain, "/"), "..") {
		return nil, fmt.Errorf("'%s' is not a name of a file in a cache", name)
	}
	u.Path = u.Path + "/" + plain
	switch {
	case s.s3 != nil:
		u.RawPath = escapeKey(u.Path)
	case u.RawPath != "" || plain != name:
		u.RawPath = s.net.base.EscapedPath() + "/" + name
	}
	u.RawQuery = query
	return &u, nil
}

// A request is what to ask for, as often as it takes.
type request struct {
	method string
	name   string
	url    *url.URL
	header http.Header // of this request; may be nil
	// body makes the body anew; nil for none.
	body func() (io.Reader, error)
	size int64 // of the body, -1 if unknown
	once bool  // the body cannot be made anew
	// whole bounds the time until the answer is complete, and wants it in
	// memory; otherwise only the start of the answer is waited for.
	whole bool
}

func (s *server) request(method, name string) (*request, error) {
	u, err := s.resolve(name)
	if err != nil {
		return nil, err
	}
	return &request{method: method, name: name, url: u}, nil
}

func (s *server) Get(ctx context.Context, name string) (*Body, error) {
	r, err := s.request(http.MethodGet, name)
	if err != nil {
		return nil, err
	}
	r.whole = isSmall(name)
	a, err := s.exchange(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.whole {
		return &Body{ReadCloser: io.NopCloser(bytes.NewReader(a.data)), Size: int64(len(a.data))}, nil
	}
	return s.download(ctx, r, a), nil
}

func (s *server) Exists(ctx context.Context, name string) (bool, error) {
	r, err := s.request(http.MethodHead, name)
	if err != nil {
		return false, err
	}
	r.whole = true
	_, err = s.exchange(ctx, r)
	if errors.Is(err, ErrAbsent) {
		return false, nil
	}
	return err == nil, err
}

func (s *server) Put(ctx context.Context, name, contentType string, body io.Reader, size int64) error {
	r, err := s.request(http.MethodPut, name)
	if err != nil {
		return err
	}
	r.header = http.Header{"Content-Type": {contentType}}
	if err := r.send(body, size); err != nil {
		return fmt.Errorf("uploading '%s' to '%s': %w", name, s.uri, err)
	}
	if s.s3 != nil {
		return s.putObject(ctx, r, body)
	}
	return s.perform(ctx, r)
}

// perform makes a request whose answer's text does not matter.
func (s *server) perform(ctx context.Context, r *request) error {
	a, err := s.exchange(ctx, r)
	if err != nil {
		return err
	}
	a.close()
	return nil
}

// send gives a request its body.
func (r *request) send(body io.Reader, size int64) error {
	r.size, r.once = size, true
	r.body = func() (io.Reader, error) { return body, nil }
	seeker, ok := body.(io.Seeker)
	if !ok {
		return nil
	}
	start, err := seeker.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil // a pipe, say
	}
	r.once = false
	r.body = func() (io.Reader, error) {
		_, err := seeker.Seek(start, io.SeekStart)
		return body, err
	}
	if size < 0 {
		end, err := seeker.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		r.size = end - start
	}
	return nil
}

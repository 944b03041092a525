package builders

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/sys/unix"

	"gobuild/internal/cache/netrc"
)

// A downloader gets files from where URLs say.
type downloader struct {
	*build
	client *http.Client
	netrc  *netrc.File

	downloads int // so far
}

// maxRedirects is how often a server may send us on.
const maxRedirects = 10

// maxHeader bounds the headers of an answer, in bytes.
const maxHeader = 64 << 10

func (b *build) newDownloader() (*downloader, error) {
	f := b.Fetch
	d := &downloader{build: b}
	var err error
	if d.netrc, err = netrc.Parse(f.Netrc); err != nil {
		b.warn("the passwords in the netrc file are not used: %v", err)
		d.netrc = new(netrc.File)
	}
	var roots *x509.CertPool
	if f.CAs != nil {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(f.CAs) {
			return nil, errors.New("there are no certificates in the file that 'ssl-cert-file' names")
		}
	}
	proxy := proxies(f.Proxies)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(f.HTTP2)
	d.client = &http.Client{
		CheckRedirect: d.redirect,
		Transport: &http.Transport{
			Proxy:                  func(r *http.Request) (*url.URL, error) { return proxy(r.URL) },
			DialContext:            (&net.Dialer{Timeout: f.ConnectTimeout}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots},
			TLSHandshakeTimeout:    f.ConnectTimeout,
			Protocols:              protocols,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeader,
		},
	}
	return d, nil
}

// proxies reads the variables as curl does: the one for http in lower case
// only, since a client of a CGI script can set the other.
func proxies(vars map[string]string) func(*url.URL) (*url.URL, error) {
	first := func(names ...string) string {
		for _, name := range names {
			if v := vars[name]; v != "" {
				return v
			}
		}
		return ""
	}
	c := httpproxy.Config{
		HTTPProxy:  first("http_proxy", "all_proxy", "ALL_PROXY"),
		HTTPSProxy: first("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
		NoProxy:    first("no_proxy", "NO_PROXY"),
	}
	return c.ProxyFunc()
}

// redirect decides about a redirection. Passwords are for the server that the
// derivation names, and for no other.
func (d *downloader) redirect(r *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return &statusError{text: fmt.Sprintf("it redirected the request %d times", len(via))}
	}
	if r.URL.Scheme != "http" && r.URL.Scheme != "https" {
		return &statusError{text: fmt.Sprintf("a redirection to '%s:' is refused", r.URL.Scheme)}
	}
	r.Header.Del("Referer") // it may have a password
	r.Header.Del("Authorization")
	r.URL.User = nil
	if first := via[0]; sameServer(first.URL, r.URL) {
		if auth := first.Header.Get("Authorization"); auth != "" {
			r.Header.Set("Authorization", auth)
		}
	}
	return nil
}

// sameServer tells whether to is no other than from, or is its encrypted side.
func sameServer(from, to *url.URL) bool {
	if from.Scheme == "http" && to.Scheme == "https" {
		return from.Port() == "" && to.Port() == "" && strings.EqualFold(from.Hostname(), to.Hostname())
	}
	return from.Scheme == to.Scheme && strings.EqualFold(from.Host, to.Host)
}

// authorize adds the name and password that the URL has, or the netrc file for
// its host. That file's entry for all others is not used: derivations, which
// name the hosts, come from others than the file does.
func (d *downloader) authorize(r *http.Request) {
	if u := r.URL.User; u != nil {
		password, _ := u.Password()
		r.URL.User = nil
		r.SetBasicAuth(u.Username(), password)
	} else if login, ok := d.netrc.Find(r.URL.Hostname()); ok {
		r.SetBasicAuth(login.Name, login.Password)
	}
}

// A statusError is an answer other than the file.
type statusError struct {
	text  string
	again bool // it may be another one next time
}

func (e *statusError) Error() string { return e.text }

// A transferError is a download that broke off.
type transferError struct{ err error }

func (e *transferError) Error() string { return e.err.Error() }
func (e *transferError) Unwrap() error { return e.err }

// download gives what is at a URL to use, again for each attempt.
func (d *downloader) download(from string, use func(io.Reader) error) error {
	u, err := url.Parse(from)
	if err != nil {
		return fmt.Errorf("unable to download '%s': it is not a URL", from)
	}
	name := u.Redacted()
	delay := firstDelay
	for attempt := 1; ; attempt++ {
		p := d.begin(name)
		switch u.Scheme {
		case "http", "https":
			err = d.get(u, p, use)
		case "file":
			err = readFile(u, p, use)
		default:
			err = &localError{fmt.Errorf("the protocol '%s' is not supported", u.Scheme)}
		}
		p.end()
		if err == nil {
			return nil
		}
		err = fmt.Errorf("unable to download '%s': %w", name, err)
		if attempt >= max(d.Fetch.Attempts, 1) || !passing(err) {
			return err
		}
		wait := delay + rand.N(delay)
		d.warn("%v; retrying in %d ms", err, wait.Milliseconds())
		d.sleep(wait)
		delay = min(2*delay, maxDelay)
	}
}

// The pauses between attempts double, and are spread by chance.
const (
	firstDelay = 250 * time.Millisecond
	maxDelay   = 30 * time.Second
)

// passing tells whether it may be worth to try again.
func passing(err error) bool {
	var status *statusError
	var local *localError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &local), errors.As(err, &certificate):
		return false
	case errors.As(err, &status):
		return status.again
	}
	return true
}

func (d *downloader) get(u *url.URL, p *progress, use func(io.Reader) error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	target := *u
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return &localError{err}
	}
	d.authorize(r)
	r.Header.Set("User-Agent", d.Fetch.UserAgent)
	watch := newWatch(d.Fetch.StallTimeout, cancel)
	defer watch.stop()
	resp, err := d.client.Do(r)
	if err != nil {
		return because(ctx, plain(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answered(resp)
	}
	p.expected = max(resp.ContentLength, 0)
	return use(&body{r: resp.Body, ctx: ctx, watch: watch, progress: p, pace: newPace(d.Fetch)})
}

// plain is an error of the client without the URL, which is named already.
func plain(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// because prefers the reason for which we ended a request.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// maxMessage bounds what is shown of a server's explanation, in bytes.
const maxMessage = 1 << 10

// answered is the error for an answer that is not the file.
func answered(resp *http.Response) error {
	e := &statusError{text: fmt.Sprintf("HTTP error %d", resp.StatusCode)}
	switch code := resp.StatusCode; code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		e.again = true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusNetworkAuthenticationRequired:
	default:
		e.again = code >= 500
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxMessage))
	if isText(text) {
		e.text += "; the server says:\n" + strings.TrimSpace(string(text))
	}
	return e
}

// isText tells whether a server's message can be shown.
func isText(b []byte) bool {
	return len(b) > 0 && bytes.IndexFunc(b, func(c rune) bool { return c < ' ' && c != '\n' && c != '\t' && c != '\r' || c == 0xfffd }) < 0
}

// A body is a file as it arrives.
type body struct {
	r        io.Reader
	ctx      context.Context
	watch    *watch
	progress *progress
	pace     *pace
}

func (b *body) Read(p []byte) (int, error) {
	b.watch.restart()
	n, err := b.r.Read(p)
	b.watch.stop() // what we take between two calls is not the server's fault
	b.progress.add(n)
	b.pace.wait(b.progress.done)
	if err != nil && err != io.EOF {
		err = &transferError{because(b.ctx, err)}
	}
	return n, err
}

// readFile is for URLs of files, which the builder must be able to see: in a
// sandbox, those of its inputs. It opens no device.
func readFile(u *url.URL, p *progress, use func(io.Reader) error) error {
	if u.Host != "" && u.Host != "localhost" {
		return &localError{fmt.Errorf("the URL names the host '%s'", u.Host)}
	}
	f, err := os.OpenFile(u.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return &localError{err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return &localError{err}
	}
	if !info.Mode().IsRegular() {
		return &localError{fmt.Errorf("'%s' is not a regular file", u.Path)}
	}
	p.expected = info.Size()
	if err := use(io.TeeReader(f, p)); err != nil {
		return &localError{err}
	}
	return nil
}

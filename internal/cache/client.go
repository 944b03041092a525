package cache

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/cache/netrc"
)

// maxRedirects is how often a server may send us on.
const maxRedirects = 10

// maxHeader bounds the headers of a response, in bytes.
const maxHeader = 64 << 10

// manyConnections are kept for later if there is no limit on connections.
const manyConnections = 100

// A network is how one cache is reached: connections of its own, so that the
// limits on them are the cache's, and a memory of where its servers are.
type network struct {
	base   *url.URL
	opt    *Options
	netrc  *netrc.File
	client *http.Client
	proxy  func(*url.URL) (*url.URL, error)
	local  atomic.Bool // the cache itself is on this machine
}

func newNetwork(base *url.URL, o *Options) (*network, error) {
	n := &network{base: base, opt: o, proxy: proxies(o.Env)}
	roots, err := certificates(o.CAFile)
	if err != nil {
		return nil, err
	}
	n.netrc, err = readNetrc(o.NetrcFile)
	if err != nil {
		o.say(activity.Warn, "the passwords in '%s' are not used: %v", o.NetrcFile, err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(o.HTTP2)
	connections := max(o.Connections, 0)
	n.client = &http.Client{
		CheckRedirect: n.redirect,
		Transport: &http.Transport{
			Proxy:                  func(r *http.Request) (*url.URL, error) { return n.proxy(r.URL) },
			DialContext:            n.dial,
			TLSClientConfig:        &tls.Config{RootCAs: roots},
			TLSHandshakeTimeout:    o.ConnectTimeout,
			Protocols:              protocols,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: o.ConnectTimeout, PingTimeout: o.ConnectTimeout},
			DisableCompression:     true,
			MaxConnsPerHost:        connections,
			MaxIdleConns:           connections,
			MaxIdleConnsPerHost:    cmp.Or(connections, manyConnections),
			IdleConnTimeout:        http.DefaultTransport.(*http.Transport).IdleConnTimeout,
			MaxResponseHeaderBytes: maxHeader,
		},
	}
	return n, nil
}

// certificates reads those that are trusted; nil are the system's. The setting
// has a default, which other distributions keep elsewhere.
func certificates(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the certificates for HTTPS: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("there are no certificates in '%s' (ssl-cert-file)", file)
	}
	return pool, nil
}

// maxNetrc bounds a file of passwords, in bytes.
const maxNetrc = 1 << 20

// readNetrc reads passwords; what is not there holds none.
func readNetrc(file string) (*netrc.File, error) {
	none := new(netrc.File)
	if file == "" {
		return none, nil
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxNetrc))
	if err != nil {
		return none, err
	}
	return netrc.Parse(string(text))
}

// proxies reads the variables as curl does: in lower case or upper case, except
// that of http, which a CGI script's client can set in upper case.
func proxies(env func(string) string) func(*url.URL) (*url.URL, error) {
	first := func(names ...string) string {
		for _, name := range names {
			if v := env(name); v != "" {
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

// errLocal refuses what a stranger's redirection would have us do.
var errLocal = errors.New("a redirection leads to this machine, which is refused")

// dial connects. A cache that is elsewhere must not redirect requests to
// services of this machine, whatever name it gives them.
func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	if n.opt.dial != nil {
		ctx, cancel := context.WithTimeout(ctx, n.opt.ConnectTimeout)
		defer cancel()
		return n.opt.dial(ctx, kind, address)
	}
	host, _, _ := net.SplitHostPort(address)
	configured := n.configured(host)
	d := net.Dialer{
		Timeout: n.opt.ConnectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: n.opt.ConnectTimeout, Interval: n.opt.ConnectTimeout, Count: 2,
		},
		Control: func(_, address string, raw syscall.RawConn) error {
			switch to, err := netip.ParseAddrPort(address); {
			case err != nil || !isLocal(to.Addr().Unmap()):
			case configured:
				n.local.Store(true)
			case !n.local.Load():
				return errLocal
			}
			// What is sent and not acknowledged for so long is lost: without
			// this, a connection that a firewall forgot takes minutes to fail.
			return raw.Control(func(fd uintptr) {
				unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(n.opt.ConnectTimeout.Milliseconds()))
			})
		},
	}
	return d.DialContext(ctx, kind, address)
}

// isLocal tells addresses of this machine, and those that clouds keep for
// secrets of their machines.
func isLocal(ip netip.Addr) bool {
	return ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast()
}

// configured tells whether the user named a host: as the cache or its proxy.
func (n *network) configured(host string) bool {
	if strings.EqualFold(host, n.base.Hostname()) {
		return true
	}
	for _, scheme := range []string{"http", "https"} {
		u := *n.base
		u.Scheme = scheme
		if p, err := n.proxy(&u); err == nil && p != nil && strings.EqualFold(host, p.Hostname()) {
			return true
		}
	}
	return false
}

// authorize adds the name and password for the host of a request: those in the
// cache's URL, or from the netrc file. Its entry for all hosts is only for
// those that the user named.
func (n *network) authorize(r *http.Request) {
	r.Header.Del("Authorization")
	own := strings.EqualFold(r.URL.Host, n.base.Host)
	if u := n.base.User; own && u != nil {
		password, _ := u.Password()
		r.SetBasicAuth(u.Username(), password)
		return
	}
	login, ok := n.netrc.Find(r.URL.Hostname())
	if !ok && own {
		login, ok = n.netrc.Default()
	}
	if ok {
		r.SetBasicAuth(login.Name, login.Password)
	}
}

// A redirectError is a redirection that is not followed.
type redirectError struct{ why string }

func (e *redirectError) Error() string { return e.why }

// redirect decides about a redirection. Passwords stay with their hosts.
func (n *network) redirect(r *http.Request, via []*http.Request) error {
	last := via[len(via)-1]
	switch {
	case len(via) > maxRedirects:
		return &redirectError{fmt.Sprintf("the server redirected it %d times", len(via))}
	case r.URL.Scheme != "http" && r.URL.Scheme != "https":
		return &redirectError{fmt.Sprintf("a redirection to '%s:' is refused", r.URL.Scheme)}
	case last.URL.Scheme == "https" && r.URL.Scheme == "http":
		return &redirectError{fmt.Sprintf("a redirection from https to '%s' is refused", r.URL.Redacted())}
	}
	r.URL.User = nil
	r.Header.Del("Referer")
	n.authorize(r)
	return nil
}

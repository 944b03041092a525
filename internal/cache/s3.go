package cache

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
)

// A signer makes a server's requests ones that S3 takes. What is special about
// S3 is who may ask: credentials come from wherever the AWS libraries find
// them. All else is HTTP, with the retries, limits and health of other caches.
type signer struct {
	provider  aws.CredentialsProvider
	region    string
	timeout   time.Duration // for finding credentials
	anonymous atomic.Bool   // nobody gave us any
}

// defaultRegion is where buckets are if nobody says otherwise, as in Nix.
const defaultRegion = "us-east-1"

func newBucket(a *address, o *Options) (*server, error) {
	bucket := a.url.Host
	if bucket == "" {
		return nil, fmt.Errorf("the URL of the cache '%s' names no bucket", a.url)
	}
	uri := "s3://" + bucket + a.url.Path
	roots, err := certificates(o.CAFile)
	if err != nil {
		return nil, err
	}
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(credentialsClient(o, roots)),
		config.WithRetryMaxAttempts(1),
	}
	if p := a.params.Get("profile"); p != "" {
		load = append(load, config.WithSharedConfigProfile(p))
	}
	found, err := config.LoadDefaultConfig(context.Background(), load...)
	if err != nil {
		return nil, fmt.Errorf("finding credentials for the cache '%s': %w", uri, err)
	}
	sign := &signer{provider: found.Credentials, region: defaultRegion, timeout: o.ConnectTimeout}
	for _, region := range []string{found.Region, a.params.Get("region")} {
		if region != "" {
			sign.region = region
		}
	}
	base, err := bucketURL(bucket, sign.region, a)
	if err != nil {
		return nil, err
	}
	s, err := newServerAt(base, uri, o)
	if err != nil {
		return nil, err
	}
	s.s3 = sign
	// A request is signed for one address.
	s.net.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s, nil
}

// credentialsClient is for the services that give credentials. Those of the
// machine itself are behind no proxy.
func credentialsClient(o *Options, roots *x509.CertPool) *http.Client {
	proxy := proxies(o.Env)
	return &http.Client{Timeout: o.ConnectTimeout, Transport: &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			if ip, err := netip.ParseAddr(r.URL.Hostname()); err == nil && isLocal(ip.Unmap()) {
				return nil, nil
			}
			return proxy(r.URL)
		},
		DialContext:     (&net.Dialer{Timeout: o.ConnectTimeout}).DialContext,
		TLSClientConfig: &tls.Config{RootCAs: roots},
	}}
}

// bucketURL finds a bucket: at Amazon under a name of its own, elsewhere, and
// if certificates would not fit the name, as a directory.
func bucketURL(bucket, region string, a *address) (*url.URL, error) {
	if strings.ContainsAny(region, "/@:?#") {
		return nil, fmt.Errorf("the region '%s' of the cache 's3://%s' is malformed", region, bucket)
	}
	scheme := a.params.Get("scheme")
	if scheme == "" {
		scheme = "https"
	}
	endpoint := a.params.Get("endpoint")
	if scheme != "http" && scheme != "https" {
		return nil, fmt.Errorf("the scheme '%s' of the cache 's3://%s' is neither http nor https", scheme, bucket)
	}
	text := scheme + "://" + endpoint
	own := false
	switch {
	case strings.Contains(endpoint, "://"):
		text = endpoint
	case endpoint == "":
		domain := ".amazonaws.com"
		if strings.HasPrefix(region, "cn-") {
			domain += ".cn"
		}
		text = scheme + "://s3." + region + domain
		own = !strings.Contains(bucket, ".")
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("the endpoint of the cache 's3://%s' is malformed", bucket)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	if own {
		u.Host = bucket + "." + u.Host
	} else {
		u.Path += "/" + bucket
	}
	u.Path += a.url.Path
	return u, nil
}

// credentials finds who we are; none at all is somebody, too. Only the last
// place that is searched, the machine's role in the cloud, may have nothing:
// whoever configured credentials wants to know why they do not work.
func (s *signer) credentials(ctx context.Context) (c aws.Credentials, anonymous bool, err error) {
	if s.anonymous.Load() || s.provider == nil || aws.IsCredentialsProvider(s.provider, aws.AnonymousCredentials{}) {
		return c, true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	c, err = s.provider.Retrieve(ctx)
	if err != nil && aws.IsCredentialsProvider(s.provider, (*ec2rolecreds.Provider)(nil)) {
		s.anonymous.Store(true)
		return c, true, nil
	}
	return c, false, err
}

// payloadHeader tells S3 the SHA-256 of a request's body.
const payloadHeader = "X-Amz-Content-Sha256"

const (
	emptyPayload    = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	unsignedPayload = "UNSIGNED-PAYLOAD"
)

// sign adds what proves who we are. Requests with a body say its hash already.
func (s *signer) sign(ctx context.Context, r *http.Request) error {
	c, anonymous, err := s.credentials(ctx)
	if err != nil {
		return fmt.Errorf("finding credentials: %w", err)
	}
	if anonymous {
		return nil
	}
	if r.Header.Get(payloadHeader) == "" {
		r.Header.Set(payloadHeader, emptyPayload)
	}
	return v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).
		SignHTTP(ctx, c, r, r.Header.Get(payloadHeader), "s3", s.region, time.Now())
}

// escapeKey writes a path as it is signed: S3 escapes more than URLs need.
func escapeKey(path string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		switch c := path[i]; {
		case c == '/', c == '-', c == '.', c == '_', c == '~',
			c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

// explainS3 adds what S3 says to an error, and tells whether it means that a
// file is not there.
func explainS3(status error, resp *http.Response, text []byte) (error, bool) {
	var fault struct {
		Code    string
		Message string
	}
	// A HEAD request's answer has no text; others' may be anything.
	_ = xml.Unmarshal(text, &fault)
	if len(fault.Code) > 100 {
		fault.Code = fault.Code[:100]
	}
	err := status
	if fault.Code != "" {
		err = fmt.Errorf("%w: %s: %.200s", status, fault.Code, fault.Message)
	}
	if region := resp.Header.Get("X-Amz-Bucket-Region"); region != "" && resp.StatusCode/100 != 2 && resp.StatusCode != http.StatusNotFound && fault.Code != "AccessDenied" {
		err = fmt.Errorf("%w (the bucket is in the region '%.40s': say so with '?region=')", err, region)
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return err, fault.Code == "" || fault.Code == "NoSuchKey" || fault.Code == "NotFound"
	case http.StatusForbidden:
		return err, fault.Code == "" || fault.Code == "AccessDenied"
	}
	return err, false
}

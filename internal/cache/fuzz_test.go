package cache

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// Names come from narinfo files: whatever is in them, a request goes to the
// cache's host and below its path, and a file is in its directory.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"nar/x.nar.xz", "nar/a%2Fb?c=d", "log/a?b.drv", "../x", "nar/%2e%2e/x", "//host/x", "a:b", "nar/%zz", "nar/x#y", "x?#y", "@host"} {
		f.Add(name)
	}
	base, err := url.Parse("https://cache.example/a/b%20c")
	if err != nil {
		f.Fatal(err)
	}
	web := &server{net: &network{base: base}}
	s3 := &server{net: &network{base: base}, s3: new(signer)}
	dir := &directory{dir: "/srv/cache"}
	f.Fuzz(func(t *testing.T, name string) {
		for _, s := range []*server{web, s3} {
			u, err := s.resolve(name)
			if err != nil {
				continue
			}
			r, err := http.NewRequest(http.MethodGet, u.String(), nil)
			if err != nil {
				t.Fatalf("%q makes a URL that is none: %v", name, err)
			}
			if r.URL.Scheme != "https" || r.URL.Host != "cache.example" || r.URL.User != nil || r.Host != "cache.example" ||
				!strings.HasPrefix(r.URL.EscapedPath(), "/a/b%20c/") || strings.Contains(r.URL.Path+"/", "/../") || r.URL.Fragment != "" {
				t.Errorf("%q leads to %s", name, r.URL)
			}
		}
		if path, err := dir.path(name); err == nil {
			if rel, err := filepath.Rel("/srv/cache", path); err != nil || rel == "." || rel == ".." || strings.HasPrefix(rel, "../") {
				t.Errorf("%q leads to '%s'", name, path)
			}
		}
	})
}

// Headers and texts of strange servers do no harm.
func FuzzAnswers(f *testing.F) {
	f.Add("120", "bytes 1-2/3", []byte("<Error><Code>NoSuchKey</Code><Message>m</Message></Error>"), 404)
	f.Add("Wed, 21 Oct 2099 07:28:00 GMT", "", []byte("<"), 403)
	f.Add("99999999999999999999", "", []byte(nil), 301)
	f.Fuzz(func(t *testing.T, after, region string, text []byte, status int) {
		if d := retryAfter(after); d < 0 || d > lastPause {
			t.Errorf("Retry-After %q is %v", after, d)
		}
		resp := &http.Response{StatusCode: status, Header: http.Header{"X-Amz-Bucket-Region": {region}}}
		err, absent := explainS3(ErrAbsent, resp, text)
		if err == nil || absent && status != http.StatusNotFound && status != http.StatusForbidden || len(err.Error()) > 1500 {
			t.Errorf("status %d: %v, absent %v", status, err, absent)
		}
	})
}

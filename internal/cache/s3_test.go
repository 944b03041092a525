package cache

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gateway starts an S3 server (`make test-tools` installs it) that keeps its
// buckets in directories, and returns its endpoint.
func gateway(t *testing.T, buckets ...string) string {
	t.Helper()
	program, err := filepath.Abs("../../build/bin/versitygw")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		if program, err = exec.LookPath("versitygw"); err != nil {
			if os.Getenv("GOBUILD_REQUIRE_NIX") == "1" {
				t.Fatal("there is no S3 server, and GOBUILD_REQUIRE_NIX=1 wants one: run 'make test-tools'")
			}
			t.Skip("there is no S3 server: 'make test-tools' installs versitygw")
		}
	}
	dir := t.TempDir()
	for _, b := range append(buckets, "../side") {
		if err := os.MkdirAll(filepath.Join(dir, "buckets", b), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cmd := exec.Command(program, "--quiet", "--keep-alive", "--port", address, "--access", "me", "--secret", "secret-of-me", "--region", "eu-test-1",
		"posix", "--sidecar", filepath.Join(dir, "side"), filepath.Join(dir, "buckets"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("the S3 server said: %.4000s", out.String())
		}
	})
	for end := time.Now().Add(20 * time.Second); ; {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
			return address
		}
		if time.Now().After(end) {
			t.Fatalf("the S3 server does not start: %v", err)
		}
		time.Sleep(20 * time.Millisecond) // it does not say when it listens
	}
}

// credentials sets what the AWS libraries find, and nothing else.
func credentials(t *testing.T, variables map[string]string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, value) // and back, at the end
			os.Unsetenv(name)
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	for name, value := range variables {
		t.Setenv(name, value)
	}
}

func TestS3(t *testing.T) {
	endpoint := gateway(t, "bucket")
	right := map[string]string{"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret-of-me"}
	url := "s3://bucket?scheme=http&region=eu-test-1&endpoint=" + endpoint
	o := newLab(t).options()
	o.dial = nil
	open := func(url string) Cache {
		c, err := Open(url, o)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	t.Run("objects", func(t *testing.T) {
		credentials(t, right)
		c := open(url)
		if c.URI() != "s3://bucket" {
			t.Errorf("the URI is '%s'", c.URI())
		}
		large := make([]byte, minPart+minPart/2)
		rand.Read(large)
		for name, contents := range map[string][]byte{
			"nix-cache-info":    []byte("StoreDir: /nix/store\n"),
			"nar/x.nar.xz":      []byte("contents"),
			"nar/a+b=c?d%20e~f": []byte("a strange name"),
			"nar/empty":         {},
			"log/large":         large,
		} {
			for kind, body := range map[string]io.Reader{
				"seekable": bytes.NewReader(contents), "a stream": io.MultiReader(bytes.NewReader(contents)),
			} {
				for _, size := range []int64{int64(len(contents)), -1} {
					if s, ok := body.(*bytes.Reader); ok {
						s.Reset(contents)
					} else {
						body = io.MultiReader(bytes.NewReader(contents))
					}
					if err := c.Put(t.Context(), name, "text/plain", body, size); err != nil {
						t.Errorf("%s of %d bytes: %v", kind, size, err)
						continue
					}
					if got, err := fetch(t, c, name); err != nil || got != string(contents) {
						t.Errorf("%s: %d bytes, %v", name, len(got), err)
					}
					if there, err := c.Exists(t.Context(), name); !there || err != nil {
						t.Errorf("%s: %v, %v", name, there, err)
					}
				}
			}
		}
		if _, err := fetch(t, c, "nar/none"); !errors.Is(err, ErrAbsent) {
			t.Errorf("what is not there: %v", err)
		}
		if there, err := c.Exists(t.Context(), "nar/none"); there || err != nil {
			t.Errorf("what is not there: %v, %v", there, err)
		}
		short := io.LimitReader(bytes.NewReader(large), minPart+5)
		err := c.Put(t.Context(), "nar/short", "text/plain", short, maxObject+1)
		wantFault(t, err, fmt.Sprintf("there were %d bytes instead of %d", minPart+5, maxObject+1))
		if there, _ := c.Exists(t.Context(), "nar/short"); there {
			t.Error("half an upload is there")
		}
	})
	t.Run("a set", func(t *testing.T) {
		credentials(t, right)
		c := open(url)
		key, keys := newKey(t)
		sh := newShelf(30)
		info := sh.put(path(1), key)
		for name, text := range sh {
			if err := c.Put(t.Context(), name, "text/plain", strings.NewReader(text), -1); err != nil {
				t.Fatal(err)
			}
		}
		o := o
		o.TrustedKeys = keys
		s := (&lab{t: t}).set(o, url)
		if err := fetchPath(t, s, info.Path); err != nil {
			t.Error(err)
		}
		if _, err := s.Lookup(t.Context(), path(2), 0); err != ErrAbsent {
			t.Error(err)
		}
	})
	t.Run("a profile", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "credentials")
		text := "[other]\naws_access_key_id = me\naws_secret_access_key = secret-of-me\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		credentials(t, map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file})
		if _, err := fetch(t, open(url+"&profile=other"), "nix-cache-info"); err != nil {
			t.Error(err)
		}
		_, err := Open(url+"&profile=nobody", o)
		wantFault(t, err, "nobody")
	})
	t.Run("refused", func(t *testing.T) {
		for name, c := range map[string]struct {
			env       map[string]string
			url, says string
			absent    bool
		}{
			"wrong secret": {map[string]string{"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "wrong"}, url, "SignatureDoesNotMatch", false},
			"unknown key":  {map[string]string{"AWS_ACCESS_KEY_ID": "you", "AWS_SECRET_ACCESS_KEY": "wrong"}, url, "No user exists", false},
			"no bucket":    {right, strings.Replace(url, "bucket", "nothing", 1), "NoSuchBucket", false},
			"nobody":       {nil, url, "AccessDenied", true},
		} {
			t.Run(name, func(t *testing.T) {
				credentials(t, c.env)
				_, err := fetch(t, open(c.url), "nar/x.nar.xz")
				if wantFault(t, err, c.says); errors.Is(err, ErrAbsent) != c.absent {
					t.Errorf("absent: %v", err)
				}
			})
		}
	})
}

// Without credentials requests are not signed, and with them they are sent
// nowhere else.
func TestS3Requests(t *testing.T) {
	var seen []string
	s := local(t, func(w http.ResponseWriter, r *http.Request) {
		kind := "anonymous"
		if strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=me/") {
			kind = "signed"
		}
		seen = append(seen, r.Method+" "+r.RequestURI+" "+kind)
		if strings.HasSuffix(r.URL.Path, "/elsewhere") {
			w.Header().Set("X-Amz-Bucket-Region", "mars-1")
			http.Redirect(w, r, "/stolen", http.StatusTemporaryRedirect)
		}
	})
	o := newLab(t).options()
	o.dial = nil
	for kind, env := range map[string]map[string]string{
		"anonymous": nil, "signed": {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "x"},
	} {
		credentials(t, env)
		seen = nil
		c, err := Open("s3://bucket/prefix?endpoint="+s.URL, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fetch(t, c, "nar/a+b"); err != nil {
			t.Error(err)
		}
		_, err = fetch(t, c, "elsewhere")
		wantFault(t, err, "say so with '?region='")
		want := fmt.Sprintf("[GET /bucket/prefix/nar/a%%2Bb %s GET /bucket/prefix/elsewhere %s]", kind, kind)
		if fmt.Sprint(seen) != want {
			t.Errorf("requests: %v, want %s", seen, want)
		}
	}
}

func TestBucketURL(t *testing.T) {
	for text, want := range map[string]string{
		"s3://b":                             "https://b.s3.us-east-1.amazonaws.com",
		"s3://b?region=eu-west-1":            "https://b.s3.eu-west-1.amazonaws.com",
		"s3://b?region=cn-north-1":           "https://b.s3.cn-north-1.amazonaws.com.cn",
		"s3://b.c":                           "https://s3.us-east-1.amazonaws.com/b.c",
		"s3://b?scheme=http":                 "http://b.s3.us-east-1.amazonaws.com",
		"s3://b?endpoint=minio:9000":         "https://minio:9000/b",
		"s3://b/p?endpoint=http://m/x/":      "http://m/x/b/p",
		"s3://b?scheme=file":                 "",
		"s3://b?region=evil/x":               "",
		"s3://b?endpoint=http://u:p@evil":    "",
		"s3://b?endpoint=ftp://host":         "",
		"s3://":                              "",
		"s3://b?scheme=http://evil&region=x": "",
	} {
		credentials(t, nil)
		c, err := Open(text, newLab(t).options())
		if want == "" {
			if err == nil {
				t.Errorf("'%s' was accepted: %s", text, c.(*server).net.base)
			}
			continue
		}
		if err != nil {
			t.Errorf("'%s': %v", text, err)
			continue
		}
		if got := c.(*server).net.base.String(); got != want {
			t.Errorf("'%s': got %s, want %s", text, got, want)
		}
	}
}

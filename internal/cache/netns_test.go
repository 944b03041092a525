package cache

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// inNamespace marks the process that TestDroppedPackets starts.
const inNamespace = "GOBUILD_TEST_NETWORK_NAMESPACE"

// A firewall drops the packets to one of three caches, in a network of the
// test's own: from the start, or when a part has been fetched. Nothing may fail,
// and fetching all may take no longer than when all are well plus twice the
// time-out of connections; when connections are cut, whose silence must be
// noticed first, three times.
func TestDroppedPackets(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		restartInNamespace(t)
		return
	}
	nft(t, "add table inet t")
	nft(t, "add chain inet t input { type filter hook input priority 0; }")
	key, keys := newKey(t)
	all := newShelf(50)
	for n := range manyPaths {
		all.put(path(n), key)
	}
	var requests atomic.Int64
	var then atomic.Pointer[func()] // done in the midst of a run
	var urls []string
	for _, address := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
		l, err := net.Listen("tcp", address+":0")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if f := then.Load(); requests.Add(1) == 200 && f != nil {
				(*f)()
			}
			all.ServeHTTP(w, r)
		})}
		go s.Serve(l)
		defer s.Close()
		urls = append(urls, "http://"+l.Addr().String())
	}
	o := newLab(t).options()
	o.dial, o.TrustedKeys, o.ConnectTimeout = nil, keys, 2*time.Second
	run := func() time.Duration {
		requests.Store(0)
		began := time.Now()
		s := (&lab{t: t}).set(o, urls...)
		fetchAll(t, s, 16)
		s.Close()
		return time.Since(began)
	}
	drop := func() { nft(t, "add rule inet t input ip daddr 127.0.0.2 drop") }

	// Other programs may slow down a run, but not each of some.
	for attempt := 1; ; attempt++ {
		nft(t, "flush chain inet t input")
		then.Store(nil)
		healthy := run()
		then.Store(&drop)
		cut := run()
		then.Store(nil)
		dropped := run()
		t.Logf("all are well: %v; connections are cut: %v; packets are dropped: %v", healthy, cut, dropped)
		if dropped < o.ConnectTimeout {
			t.Error("the packets were not dropped")
		}
		if cut <= healthy+3*o.ConnectTimeout && dropped <= healthy+2*o.ConnectTimeout {
			break
		}
		if attempt == 4 {
			t.Error("that is too long")
			break
		}
	}
}

func nft(t *testing.T, rule string) {
	t.Helper()
	if out, err := exec.Command("nft", rule).CombinedOutput(); err != nil {
		t.Fatalf("nft %s: %v: %s", rule, err, out)
	}
}

// restartInNamespace runs the test in a process that is root of a network of
// its own.
func restartInNamespace(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, program := range []string{"nft", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("GOBUILD_REQUIRE_NIX") == "1" {
				t.Fatalf("there is no '%s', and GOBUILD_REQUIRE_NIX=1 wants one: run 'make test-tools'", program)
			}
			t.Skipf("there is no '%s': 'make test-tools' installs it", program)
		}
	}
	cmd := exec.Command("/bin/sh", "-c", `ip link set lo up && exec "$0" "$@"`,
		os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if _, started := err.(*exec.ExitError); err != nil && !started {
		t.Skipf("network namespaces cannot be made here: %v", err)
	}
	text := strings.TrimSpace(string(out))
	if err != nil || !strings.Contains(text, "--- PASS: "+t.Name()) {
		t.Fatalf("%v:\n%s", err, text)
	}
	t.Log(text)
}

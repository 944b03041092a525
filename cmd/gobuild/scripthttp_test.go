package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdServe serves the files of a directory until the script ends, and puts the
// server's URL, and its host with the port, into the variables NAME and
// NAME_host:
//
//	serve NAME DIR [https]
//
// A request adds the line "METHOD PATH USER:PASSWORD" to NAME.requests. The
// certificate for https is in NAME.pem. "/redirect/HOST/PATH" redirects.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 || len(args) == 3 && args[2] != "https" {
		ts.Fatalf("usage: serve NAME DIR [https]")
	}
	requests, err := os.Create(ts.MkAbs(args[0] + ".requests"))
	ts.Check(err)
	var mu sync.Mutex
	files := http.FileServer(http.Dir(ts.MkAbs(args[1])))
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		line := r.Method + " " + r.URL.Path
		if ok {
			line += " " + user + ":" + password
		}
		mu.Lock()
		fmt.Fprintln(requests, line)
		mu.Unlock()
		if to, ok := strings.CutPrefix(r.URL.Path, "/redirect/"); ok {
			http.Redirect(w, r, "http://"+to, http.StatusFound)
			return
		}
		files.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if len(args) == 3 {
		s.StartTLS()
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pem"), text, 0o644))
	} else {
		s.Start()
	}
	ts.Defer(func() {
		s.Close()
		requests.Close()
	})
	ts.Setenv(args[0], s.URL)
	ts.Setenv(args[0]+"_host", s.Listener.Addr().String())
}

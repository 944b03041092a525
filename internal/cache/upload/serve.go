package upload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"gobuild/internal/activity"
	"gobuild/internal/cache"
	"gobuild/internal/cache/wire"
	"gobuild/internal/store/storepath"
)

// Serve does what the request on in asks for and tells on out how it goes. An
// error means that this could not be told, or that there was no request. Whoever
// cancels ctx has interrupted the upload. env looks up the variables that name
// proxies.
func Serve(ctx context.Context, in io.Reader, out io.Writer, env func(string) string) error {
	var req wire.Upload
	if err := json.NewDecoder(in).Decode(&req); err != nil {
		return fmt.Errorf("reading what to upload: %w", err)
	}
	if req.Version != wire.Version {
		return fmt.Errorf("the network program is of another version than the one that started it (%d and %d)", wire.Version, req.Version)
	}
	working, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &reporter{out: out, broken: cancel}
	err := serve(working, &req, r, env)
	if ctx.Err() != nil {
		err = errors.New("interrupted by the user")
	}
	if err != nil && !errors.Is(err, errReported) {
		r.send(wire.UploadEvent{Kind: wire.UploadFailed, Text: err.Error()})
	}
	if errors.Is(r.err, syscall.EPIPE) {
		return nil // whoever wanted to know has gone
	}
	return r.err
}

func serve(ctx context.Context, req *wire.Upload, r *reporter, env func(string) string) error {
	p, err := parseParams(req.To)
	if err != nil {
		return err
	}
	for _, name := range p.unknown {
		r.message(activity.Warn, fmt.Sprintf("unknown parameter '%s' of the cache's URL", name))
	}
	c, err := cache.Open(req.To, cache.Options{Config: req.Config, Env: env, Message: r.message})
	if err != nil {
		return err
	}
	u, err := newUploader(c, req, p, r)
	if err != nil {
		return err
	}
	return u.run(ctx)
}

// errReported is the error of a run whose failures have been told one by one.
var errReported = errors.New("some paths could not be copied")

// A reporter sends events. It is safe for concurrent use.
type reporter struct {
	mu     sync.Mutex
	out    io.Writer
	err    error // the first of writing: nobody listens any more
	broken context.CancelCauseFunc
}

func (r *reporter) send(e wire.UploadEvent) {
	line, err := wire.Encode(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && r.err == nil {
		_, err = r.out.Write(line)
	}
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("reporting to the main program: %w", err)
		r.broken(r.err)
	}
}

func (r *reporter) message(level activity.Level, text string) {
	r.send(wire.UploadEvent{Kind: wire.Message, Level: level, Text: text})
}

func (r *reporter) failed(p storepath.Path, err error) {
	r.send(wire.UploadEvent{Kind: wire.UploadFailed, Path: p, Text: err.Error()})
}

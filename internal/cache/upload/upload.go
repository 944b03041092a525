package upload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"gobuild/internal/cache"
	"gobuild/internal/cache/compress"
	"gobuild/internal/cache/wire"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/sign"
	"gobuild/internal/store/storepath"
)

// maxWorkers bounds how many paths are under way to one cache at once, and
// maxInfo what is read of its description.
const (
	maxWorkers = 16
	maxInfo    = 1 << 20
)

// An uploader writes the paths of one request to one cache.
type uploader struct {
	params
	cache   cache.Cache
	req     *wire.Upload
	report  *reporter
	key     *sign.SecretKey // nil: do not sign
	items   []*item         // in the order of the request
	byPath  map[storepath.Path]*item
	presses chan struct{} // holds one token for each archive that is being compressed
}

// An item is a path on its way. Its worker closes done when present and err
// have their final values.
type item struct {
	*wire.UploadPath
	present bool // the cache had it before
	err     error
	done    chan struct{}
}

func newUploader(c cache.Cache, req *wire.Upload, p params, r *reporter) (*uploader, error) {
	u := &uploader{
		params: p, cache: c, req: req, report: r, byPath: make(map[storepath.Path]*item, len(req.Paths)),
		presses: make(chan struct{}, max(runtime.GOMAXPROCS(0), 1)),
	}
	// What is wrong with the method or the level is better said once.
	if w, err := compress.NewWriter(p.compression, io.Discard, p.level, p.parallel); err != nil {
		return nil, err
	} else if err := w.Close(); err != nil {
		return nil, err
	}
	if p.secretKey != "" {
		key, err := sign.ReadSecret(p.secretKey)
		if err != nil {
			return nil, fmt.Errorf("the parameter 'secret-key' of the cache's URL: %w", err)
		}
		u.key = &key
	}
	for i := range req.Paths {
		it := &item{UploadPath: &req.Paths[i], done: make(chan struct{})}
		u.items = append(u.items, it)
		u.byPath[it.Path] = it
	}
	return u, nil
}

// run copies what is not there. Failures of paths have been reported when it
// returns errReported.
func (u *uploader) run(ctx context.Context) error {
	if err := u.describe(ctx); err != nil {
		return err
	}
	missing, err := u.missing(ctx)
	if err != nil {
		return err
	}
	plan := wire.UploadEvent{Kind: wire.UploadPlanned, URI: u.cache.URI(), Paths: len(missing)}
	for _, it := range missing {
		plan.Bytes += it.NarSize
	}
	u.report.send(plan)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var failed atomic.Bool
	u.each(len(missing), func(i int) {
		it := missing[i]
		it.err = u.copy(ctx, it)
		close(it.done)
		if it.err == nil {
			u.report.send(wire.UploadEvent{Kind: wire.UploadCopied, Path: it.Path})
			return
		}
		failed.Store(true)
		if !errors.Is(it.err, context.Canceled) {
			u.report.failed(it.Path, it.err)
		}
		if !u.req.KeepGoing {
			stop()
		}
	})
	if failed.Load() {
		return errReported
	}
	return u.logs(ctx)
}

// each does n things, several at once, and returns when all are done. They
// begin in order: who waits for one that began before waits for a worker.
func (u *uploader) each(n int, do func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	workers := maxWorkers
	if c := u.req.Connections; c > 0 { // else there is no limit
		workers = min(c, maxWorkers)
	}
	for range min(n, workers) {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				do(i)
			}
		})
	}
	all.Wait()
}

// describe makes sure that the cache says which store it is for, and that this
// is ours.
func (u *uploader) describe(ctx context.Context) error {
	there, err := u.cache.Exists(ctx, narinfo.CacheInfoName)
	if err != nil {
		return err
	}
	if !there {
		text := narinfo.CacheInfo{StoreDir: u.req.StoreDir, Priority: narinfo.DefaultPriority}.Append(nil)
		return u.put(ctx, narinfo.CacheInfoName, "text/x-nix-cache-info", text)
	}
	body, err := u.cache.Get(ctx, narinfo.CacheInfoName)
	if err != nil {
		return err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxInfo))
	if err != nil {
		return fmt.Errorf("reading '%s' of '%s': %w", narinfo.CacheInfoName, u.cache.URI(), err)
	}
	if dir := narinfo.ParseCacheInfo(text).StoreDir; dir != "" && dir != u.req.StoreDir {
		return fmt.Errorf("binary cache '%s' is for Nix stores with prefix '%s', not '%s'", u.cache.URI(), dir, u.req.StoreDir)
	}
	return nil
}

// missing are the items that the cache does not have. References that are not
// copied, too, must be there.
func (u *uploader) missing(ctx context.Context) ([]*item, error) {
	asked := make([]storepath.Path, 0, len(u.items))
	for _, it := range u.items {
		asked = append(asked, it.Path)
	}
	outside := map[storepath.Path]storepath.Path{} // to one that refers to it
	for _, it := range u.items {
		for _, r := range it.References {
			if _, ok := outside[r]; !ok && u.byPath[r] == nil {
				outside[r] = it.Path
				asked = append(asked, r)
			}
		}
	}
	there, errs := make([]bool, len(asked)), make([]error, len(asked))
	var failed atomic.Bool
	u.each(len(asked), func(i int) {
		if failed.Load() {
			return
		}
		if there[i], errs[i] = u.cache.Exists(ctx, narinfo.Name(asked[i])); errs[i] != nil {
			failed.Store(true)
		}
	})
	for _, err := range errs { // the first says enough: the others are like it
		if err != nil {
			return nil, err
		}
	}
	for i, r := range asked[len(u.items):] {
		if !there[len(u.items)+i] {
			return nil, fmt.Errorf("cannot add '%s' to the binary cache '%s' because the reference '%s' is not there", outside[r], u.cache.URI(), r)
		}
	}
	var missing []*item
	for i, it := range u.items {
		if it.present = there[i]; it.present {
			close(it.done)
		} else {
			missing = append(missing, it)
		}
	}
	return missing, nil
}

// put writes a small file.
func (u *uploader) put(ctx context.Context, name, contentType string, text []byte) error {
	return u.cache.Put(ctx, name, contentType, bytes.NewReader(text), int64(len(text)))
}

// putNew writes a file of the cache that is not there yet.
func (u *uploader) putNew(ctx context.Context, name, contentType string, body io.Reader, size int64) error {
	there, err := u.cache.Exists(ctx, name)
	if err != nil || there {
		return err
	}
	return u.cache.Put(ctx, name, contentType, body, size)
}

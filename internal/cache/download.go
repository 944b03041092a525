package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"gobuild/internal/activity"
)

// A download that delivers less than minProgress bytes while it is waited for
// during a stall time-out has failed: a byte now and then is no progress.
const minProgress = 4 << 10

// muchProgress, in bytes, between two failures gives a download all attempts
// back.
const muchProgress = 1 << 20

// A download is a body that may take long. It watches the server, keeps to the
// speed limit, and goes on where it was cut off if the server can do that.
type download struct {
	s      *server
	r      *request
	outer  context.Context
	a      *answer
	body   io.ReadCloser // of the present answer
	cancel context.CancelCauseFunc
	timer  *time.Timer

	size     int64  // -1: unknown
	offset   int64  // bytes delivered
	same     string // what the server calls this version of the file; "": it cannot resume
	attempts int    // failed so far, since more than a little was delivered
	since    int64  // bytes delivered since the last failure
	err      error  // the end, once known

	waited time.Duration // for the next minProgress bytes
	got    int
}

func (s *server) download(ctx context.Context, r *request, a *answer) *Body {
	d := &download{s: s, r: r, outer: ctx, a: a, size: a.resp.ContentLength}
	if tag := a.resp.Header.Get("ETag"); strings.HasPrefix(tag, `"`) && a.resp.Header.Get("Accept-Ranges") == "bytes" && d.size >= 0 {
		d.same = tag
	}
	d.adopt(a.resp.Body, a.cancel)
	encoding := a.resp.Header.Get("Content-Encoding")
	if encoding == "identity" {
		encoding = ""
	}
	return &Body{ReadCloser: d, Size: d.size, Encoding: encoding}
}

// adopt begins to read an answer.
func (d *download) adopt(body io.ReadCloser, cancel context.CancelCauseFunc) {
	d.body, d.cancel = body, cancel
	d.timer = time.AfterFunc(d.s.opt.StallTimeout, func() { cancel(errSlow) })
	d.timer.Stop()
}

func (d *download) Close() error {
	if d.body == nil {
		return nil
	}
	d.timer.Stop()
	d.body.Close()
	d.body = nil
	d.cancel(nil)
	d.a.free()
	if d.err == nil {
		d.err = errors.New("the download was closed")
	}
	return nil
}

func (d *download) Read(p []byte) (int, error) {
	for d.err == nil {
		n, err := d.read(p[:d.s.opt.speed.portion(len(p))])
		d.offset += int64(n)
		if d.since += int64(n); d.since >= muchProgress {
			d.attempts = 0
		}
		if n > 0 {
			if e := d.s.opt.speed.pay(d.outer, n); e != nil {
				d.err = d.s.fault(d.r, e)
			}
		}
		switch {
		case err == nil:
		case err == io.EOF && (d.size < 0 || d.offset == d.size):
			d.err = io.EOF
		default:
			if e := d.resume(err); e != nil {
				d.err = d.s.fault(d.r, e)
			}
		}
		if n > 0 || len(p) == 0 {
			return n, nil // the end, if it is one, next time
		}
	}
	return 0, d.err
}

// read reads some bytes; the time that the caller takes between two calls does
// not count as the server's.
func (d *download) read(p []byte) (int, error) {
	d.timer.Reset(d.s.opt.StallTimeout - d.waited)
	began := time.Now()
	n, err := d.body.Read(p)
	d.waited += time.Since(began)
	if !d.timer.Stop() && n == 0 && err != nil {
		err = fmt.Errorf("the download stalled: less than %d bytes came in %v", minProgress, d.s.opt.StallTimeout)
	}
	if d.got += n; d.got >= minProgress {
		d.got, d.waited = 0, 0
	}
	return n, err
}

// resume asks for the rest after a failure.
func (d *download) resume(why error) error {
	d.body.Close()
	d.cancel(nil)
	d.since = 0
	for {
		if err := d.outer.Err(); err != nil {
			return err
		}
		if why == io.EOF {
			why = io.ErrUnexpectedEOF
		}
		if d.attempts++; d.same == "" || d.attempts >= d.s.opt.Attempts {
			return fmt.Errorf("the download ended after %d of %s bytes: %w", d.offset, sizeText(d.size), why)
		}
		wait := backoff(d.attempts)
		d.s.opt.say(activity.Info, "%v; going on from byte %d in %v", d.s.fault(d.r, why), d.offset, wait.Round(time.Millisecond))
		if err := sleep(d.outer, wait); err != nil {
			return err
		}
		err := d.rest()
		passing, ok := errors.AsType[*passingError](err)
		if !ok {
			return err
		}
		why = passing.err
	}
}

// rest makes one attempt to get the rest, in the slot of the download.
func (d *download) rest() error {
	r := *d.r
	r.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", d.offset)}, "If-Range": {d.same}}
	a, err := d.s.attempt(d.outer, &r)
	if err != nil {
		return err
	}
	var first, last, total int64
	n, _ := fmt.Sscanf(a.resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total)
	if a.resp.StatusCode != http.StatusPartialContent || n != 3 || first != d.offset || last != d.size-1 || total != d.size {
		a.resp.Body.Close()
		a.cancel(nil)
		return fmt.Errorf("the file changed while it was downloaded")
	}
	d.waited, d.got = 0, 0
	d.adopt(a.resp.Body, a.cancel)
	return nil
}

func sizeText(n int64) string {
	if n < 0 {
		return "an unknown number of"
	}
	return fmt.Sprint(n)
}
